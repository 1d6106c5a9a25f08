"""Takes tasks from `task_queue`, works a second for every dot in the task, then acknowledges it.

The argument is the prefetch count; without one the broker may hand out any number at once.
"""

import os
import sys
import time

import pika


def on_message(channel, method, properties, body):
    task = body.decode()
    print(f"received {task!r} redelivered={method.redelivered} mode={properties.delivery_mode}")
    time.sleep(task.count("."))
    channel.basic_ack(delivery_tag=method.delivery_tag)
    print(f"done {task!r}")


port = int(os.environ.get("AMQP_PORT", "5672"))
connection = pika.BlockingConnection(pika.ConnectionParameters(host="localhost", port=port))
channel = connection.channel()
channel.queue_declare(queue="task_queue", durable=True)
if len(sys.argv) > 1:
    channel.basic_qos(prefetch_count=int(sys.argv[1]))
channel.basic_consume(queue="task_queue", on_message_callback=on_message)
print("waiting")
channel.start_consuming()
