"""Publishes numbered messages, which three consumer threads with a connection each share.

The argument is how many. Prints the numbers that each thread got, one line a thread.
"""

import json
import os
import sys
import threading

import pika

TOTAL = int(sys.argv[1])
PORT = int(os.environ.get("AMQP_PORT", "5672"))
QUEUE = "shared"
got = [[], [], []]
left = TOTAL
lock = threading.Lock()
all_got = threading.Event()
started = threading.Barrier(4)


def connect():
    return pika.BlockingConnection(pika.ConnectionParameters(host="localhost", port=PORT))


def consume(mine):
    def on_message(channel, method, properties, body):
        global left
        mine.append(int(body))
        channel.basic_ack(delivery_tag=method.delivery_tag)
        with lock:
            left -= 1
            if left <= 0:
                all_got.set()

    connection = connect()
    channel = connection.channel()
    channel.basic_qos(prefetch_count=50)
    channel.basic_consume(on_message, queue=QUEUE)
    started.wait()
    # A moment more after the last message, so that a duplicate would still be seen.
    while not all_got.is_set():
        connection.process_data_events(time_limit=0.2)
    connection.process_data_events(time_limit=0.5)
    connection.close()


connection = connect()
channel = connection.channel()
channel.queue_declare(queue=QUEUE, durable=True)
threads = [threading.Thread(target=consume, args=(mine,)) for mine in got]
for thread in threads:
    thread.start()
started.wait()
for number in range(TOTAL):
    channel.basic_publish(
        exchange="",
        routing_key=QUEUE,
        body=str(number),
        properties=pika.BasicProperties(delivery_mode=2),
    )
connection.close()
for thread in threads:
    thread.join()
for mine in got:
    print("got " + json.dumps(mine))
