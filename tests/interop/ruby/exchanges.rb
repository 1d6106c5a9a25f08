# frozen_string_literal: true

# Each type of exchange, and one bound to another: which messages go where.

require_relative "barn"

run do |connection|
  channel = connection.create_channel
  channel.confirm_select
  queue = -> { channel.queue("", exclusive: true) }

  weather = channel.topic("weather", durable: true)
  everything = queue.call.bind(weather, routing_key: "#")
  north = queue.call.bind(weather, routing_key: "north.*")
  rain = queue.call.bind(weather, routing_key: "*.rain.#")
  ["north.rain", "south.rain.heavy", "north", "south.sun", "north.sun"].each { |key| weather.publish(key, routing_key: key) }

  calls = channel.fanout("calls")
  ears = Array.new(2) { queue.call.bind(calls) }
  calls.publish("an eagle")

  plants = channel.headers("plants", auto_delete: true)
  all = queue.call.bind(plants, arguments: { "x-match" => "all", "green" => true, "height" => 3 })
  any = queue.call.bind(plants, arguments: { "x-match" => "any", "green" => true, "height" => 3 })
  plants.publish("grass", headers: { "green" => true, "height" => 3 })
  plants.publish("moss", headers: { "green" => true, "height" => 1 })
  plants.publish("straw", headers: { "green" => false, "height" => 2 })

  orders = channel.direct("orders", durable: true)
  archive = channel.fanout("archive", durable: true, internal: true)
  express = queue.call.bind(orders, routing_key: "express")
  archive.bind(orders, routing_key: "express")
  archive.bind(orders, routing_key: "slow")
  archived = queue.call.bind(archive)
  %w[express slow lost].each { |key| orders.publish(key, routing_key: key) }
  archive.unbind(orders, routing_key: "slow")
  orders.publish("slow, not archived", routing_key: "slow")

  # Confirmed means routed: whatever is to be in a queue is there.
  check channel.wait_for_confirms, true
  check drain(everything).sort, ["north", "north.rain", "north.sun", "south.rain.heavy", "south.sun"]
  check drain(north).sort, ["north.rain", "north.sun"]
  check drain(rain).sort, ["north.rain", "south.rain.heavy"]
  ears.each { |ear| check drain(ear), ["an eagle"] }
  check drain(all), ["grass"]
  check drain(any).sort, %w[grass moss]
  check drain(express), ["express"]
  check drain(archived).sort, %w[express slow]
  [weather, calls, orders, archive].each(&:delete)
end
