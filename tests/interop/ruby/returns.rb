# frozen_string_literal: true

# A message that must be routed and cannot be comes back, before its confirm; its properties come back with it.

require_relative "barn"

run do |connection|
  channel = connection.create_channel
  channel.confirm_select
  exchange = channel.direct("amq.direct", durable: true)
  returned = []
  exchange.on_return { |information, properties, text| returned << [information, properties, text] }

  headers = { "kind" => "letter", "pages" => [1, 2, { "last" => true }], "weight" => 1.5 }
  exchange.publish("lost", routing_key: "nowhere", mandatory: true, message_id: "17", headers: headers)
  check channel.wait_for_confirms, true
  exchange.publish("lost too", routing_key: "nowhere")
  queue = channel.queue("", exclusive: true).bind(exchange, routing_key: "somewhere")
  exchange.publish("found", routing_key: "somewhere", mandatory: true)
  check channel.wait_for_confirms, true
  check drain(queue), ["found"]

  # Bunny calls back from a thread of its own.
  sleep 0.05 while returned.empty?
  check returned.size, 1
  information, properties, text = returned.first
  check [information.reply_code, information.reply_text, information.routing_key], [312, "NO_ROUTE", "nowhere"]
  check [properties.message_id, properties.headers, text], ["17", headers, "lost"]
end
