"""Sends one greeting to the queue `hello` through the default exchange."""

import os

import pika

port = int(os.environ.get("AMQP_PORT", "5672"))
connection = pika.BlockingConnection(pika.ConnectionParameters(host="localhost", port=port))
channel = connection.channel()
channel.queue_declare(queue="hello")
channel.basic_publish(exchange="", routing_key="hello", body="Hello World!")
print("sent 'Hello World!'")
connection.close()
