# frozen_string_literal: true

# Takes the thousand messages in order, never more than ten at a time, and gives one of them back on the way.

require_relative "barn"

run do |connection|
  channel = connection.create_channel
  channel.prefetch(10)
  queue = channel.queue("hay", durable: true)
  held = []
  taken = []
  most = 0
  finished = Queue.new
  given_back = false
  consumer = queue.subscribe(manual_ack: true) do |delivery, properties, text|
    held << [delivery, properties, text]
    most = [most, held.size].max
    # The first acknowledgement waits for all ten, the last ones for nothing more.
    while held.size == 10 || (!held.empty? && taken.size + held.size == 1000)
      message = held.shift
      if taken.size == 500 && !given_back
        given_back = true
        channel.nack(message[0].delivery_tag, false, true)
      else
        channel.ack(message[0].delivery_tag)
        taken << message
      end
    end
    finished << true if taken.size == 1000
  end
  finished.pop
  consumer.cancel

  expected = (0...1000).map { |n| "bale #{n}" }
  # What was given back comes again before what had not been handed out yet, behind the nine that were held.
  expected.insert(509, expected.delete_at(500))
  check taken.map(&:last), expected
  check most, 10
  check taken.map { |delivery, _, _| delivery.redelivered? }.each_index.select { |at| taken[at][0].redelivered? }, [509]
  check taken.all? { |_, properties, _| properties.delivery_mode == 2 }, true
  channel.close
  check connection.create_channel.queue("hay", passive: true).message_count, 0
end
