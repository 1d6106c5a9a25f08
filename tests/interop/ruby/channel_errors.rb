# frozen_string_literal: true

# What goes wrong on a channel ends that channel alone: the connection and its other channels go on.

require_relative "barn"

run do |connection|
  steady = connection.create_channel
  steady.confirm_select
  queue = steady.queue("", exclusive: true)

  fails = lambda do |error, words, &act|
    channel = connection.create_channel
    begin
      act.call(channel)
      raise "#{error} was expected"
    rescue error => caught
      raise "#{words} was expected, #{caught.message} came" unless caught.message.match?(words)
    end
    check channel.open?, false
    # A message on another channel, there and back.
    queue.publish("after #{error}")
    check steady.wait_for_confirms, true
    check drain(queue), ["after #{error}"]
  end

  fails.call(Bunny::NotFound, %r{NOT_FOUND - no queue 'none' in vhost '/'}) { |channel| channel.queue("none", passive: true) }
  fails.call(Bunny::NotFound, %r{NOT_FOUND - no exchange 'none' in vhost '/'}) { |channel| channel.direct("none", passive: true) }
  # On another channel, because Bunny remembers what a channel has declared.
  steady.queue("solid", durable: true)
  fails.call(Bunny::PreconditionFailed, /inequivalent arg 'durable'/) { |channel| channel.queue("solid", durable: false) }
  fails.call(Bunny::AccessRefused, /ACCESS_REFUSED/) { |channel| channel.direct("amq.mine") }
  check connection.queue_exists?("solid"), true
  steady.queue_delete("solid")
  check connection.queue_exists?("solid"), false
end
