"""Publishes persistent messages one after another, and prints the number of each once it is confirmed.

The argument is the first number. Goes on until the connection is lost.
"""

import os
import sys

import pika
import pika.exceptions

port = int(os.environ.get("AMQP_PORT", "5672"))
connection = pika.BlockingConnection(pika.ConnectionParameters(host="localhost", port=port))
channel = connection.channel()
channel.queue_declare(queue="confirmed", durable=True)
channel.confirm_delivery()
number = int(sys.argv[1])
try:
    while True:
        # Raises when the broker returns or refuses the message.
        channel.basic_publish(
            exchange="",
            routing_key="confirmed",
            body=f"{number}:" + "x" * (number % 1000),
            properties=pika.BasicProperties(delivery_mode=2),
            mandatory=True,
        )
        print(f"confirmed {number}")
        number += 1
except (pika.exceptions.AMQPConnectionError, pika.exceptions.ChannelWrongStateError):
    print("connection lost")
