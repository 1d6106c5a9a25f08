"""Takes everything out of the durable queue `confirmed`, and prints it."""

import os

import pika

port = int(os.environ.get("AMQP_PORT", "5672"))
connection = pika.BlockingConnection(pika.ConnectionParameters(host="localhost", port=port))
channel = connection.channel()
while True:
    method, properties, body = channel.basic_get(queue="confirmed")
    if method is None:
        break
    print(f"got {body.decode()} mode={properties.delivery_mode}")
    channel.basic_ack(delivery_tag=method.delivery_tag)
connection.close()
print("empty")
