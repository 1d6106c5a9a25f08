"""Takes tasks from `task_queue`, works a second for every dot in the task, then acknowledges it.

SIGUSR1 ends the work on a task early.
The argument is the prefetch count; without one the broker may hand out any number at once.
"""

import os
import signal
import sys

import pika


def on_message(channel, method, properties, body):
    task = body.decode()
    print(f"received {task!r} redelivered={method.redelivered} mode={properties.delivery_mode}")
    signal.sigtimedwait([signal.SIGUSR1], task.count("."))
    channel.basic_ack(delivery_tag=method.delivery_tag)
    print(f"done {task!r}")


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
port = int(os.environ.get("AMQP_PORT", "5672"))
connection = pika.BlockingConnection(pika.ConnectionParameters(host="localhost", port=port))
channel = connection.channel()
channel.queue_declare(queue="task_queue", durable=True)
if len(sys.argv) > 1:
    channel.basic_qos(prefetch_count=int(sys.argv[1]))
channel.basic_consume(on_message, queue="task_queue")
print("waiting")
channel.start_consuming()
