"""Puts each argument as a persistent task into the durable queue `task_queue`."""

import os
import sys

import pika

port = int(os.environ.get("AMQP_PORT", "5672"))
connection = pika.BlockingConnection(pika.ConnectionParameters(host="localhost", port=port))
channel = connection.channel()
channel.queue_declare(queue="task_queue", durable=True)
for task in sys.argv[1:]:
    channel.basic_publish(
        exchange="",
        routing_key="task_queue",
        body=task,
        properties=pika.BasicProperties(delivery_mode=2),
    )
    print(f"sent {task!r}")
connection.close()
