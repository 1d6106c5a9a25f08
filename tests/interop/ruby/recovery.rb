# frozen_string_literal: true

# A consumer whose broker is killed: the client connects again by itself, and declares what it had.

require_relative "barn"

recovered = Queue.new

run(network_recovery_interval: 0.2, recovery_completed: -> { recovered << true }) do |connection|
  channel = connection.create_channel
  channel.confirm_select
  weather = channel.topic("weather", durable: true)
  heard = Queue.new
  # The name is the broker's, and goes with the connection: the client declares another one.
  channel.queue("", exclusive: true).bind(weather, routing_key: "north.#").subscribe { |_, _, text| heard << text }
  weather.publish("before", routing_key: "north.wind")
  check heard.pop, "before"

  puts "listening"
  recovered.pop
  weather.publish("after", routing_key: "north.wind")
  check heard.pop, "after"
  check channel.wait_for_confirms, true
end
