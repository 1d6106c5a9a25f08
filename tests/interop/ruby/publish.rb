# frozen_string_literal: true

# A thousand persistent messages, all under way at once, each with its confirm.

require_relative "barn"

run do |connection|
  channel = connection.create_channel
  channel.confirm_select
  queue = channel.queue("hay", durable: true)
  1000.times { |n| queue.publish("bale #{n}", persistent: true) }
  check channel.wait_for_confirms, true
  check channel.nacked_set.size, 0
end
