"""Prints what arrives in the queue `hello`, acknowledged automatically, until it is killed."""

import os

import pika


def on_message(channel, method, properties, body):
    print(f"received {body.decode()!r}")


port = int(os.environ.get("AMQP_PORT", "5672"))
connection = pika.BlockingConnection(pika.ConnectionParameters(host="localhost", port=port))
channel = connection.channel()
channel.queue_declare(queue="hello")
channel.basic_consume(on_message, queue="hello", no_ack=True)
print("waiting")
channel.start_consuming()
