"""Dead letters survive kill -9 between their two queues: each confirmed message is in exactly one of them afterwards.

Messages leave three queues for `dead` while the server is killed: by rejection, by expiry and because there are too many. What a
publisher saw confirmed is neither lost nor there twice, and tells where it died.
"""

import random
import threading
import time

import pika

import harness

ROUNDS = 6
TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
QUEUES = {
    "rejected": TO_DEAD,
    "expired": {**TO_DEAD, "x-message-ttl": 30},
    "maxlen": {**TO_DEAD, "x-max-length": 5},
}
PERSISTENT = pika.BasicProperties(delivery_mode=2)
GONE = (pika.exceptions.AMQPError, OSError)


def declare(channel):
    channel.queue_declare("dead", durable=True)
    for name, arguments in QUEUES.items():
        channel.queue_declare(name, durable=True, arguments=arguments)


def publish(server, numbers, confirmed):
    """Publishes, each message to the next queue, until the server is gone; notes what was confirmed."""
    try:
        channel = harness.connect(server).channel()
        channel.confirm_delivery()
        names = list(QUEUES)
        for number in numbers:
            name = names[number % len(names)]
            channel.basic_publish("", name, f"{number}", PERSISTENT)
            confirmed[number] = name
    except GONE:
        pass


def reject(server):
    """Rejects all that comes, in heaps, until the server is gone."""
    try:
        channel = harness.connect(server).channel()
        channel.basic_qos(prefetch_count=50)

        def heap(channel, method, _properties, _body):
            if method.delivery_tag % 20 == 0:
                channel.basic_nack(method.delivery_tag, multiple=True, requeue=False)

        channel.basic_consume("rejected", heap)
        channel.start_consuming()
    except GONE:
        pass


def ready(channel, name):
    return channel.queue_declare(name, passive=True).method.message_count


def drain(channel, name):
    """Number and first reason of each message."""
    found = []
    while True:
        method, properties, body = channel.basic_get(name, auto_ack=True)
        if method is None:
            return found
        deaths = (properties.headers or {}).get("x-death", [])
        assert len(deaths) == (1 if name == "dead" else 0), f"{name}: {body} has {deaths}"
        found.append((int(body), deaths[0]["reason"] if deaths else None))


def settled(channel, wanted):
    """What is in the queues, once nothing moves any more: what expires has done so, and what is `wanted` has arrived."""
    harness.wait_until(
        lambda: ready(channel, "expired") == 0 and ready(channel, "maxlen") <= 5,
        "what has to leave has left",
    )
    found = {name: [] for name in ["dead", *QUEUES]}
    end = time.monotonic() + harness.MESSAGE_SECONDS
    while True:
        for name, messages in found.items():
            messages += drain(channel, name)
        missing = wanted - {number for messages in found.values() for number, _ in messages}
        if not missing or time.monotonic() > end:
            break
        time.sleep(0.05)
    # What is there twice might come now.
    time.sleep(0.2)
    for name, messages in found.items():
        messages += drain(channel, name)
    return found


def test(server):
    first = 0
    channel = harness.connect(server).channel()
    declare(channel)
    for _ in range(ROUNDS):
        confirmed = {}
        numbers = range(first, first + 1_000_000)
        clients = [
            threading.Thread(target=publish, args=(server, numbers, confirmed), daemon=True),
            threading.Thread(target=reject, args=(server,), daemon=True),
        ]
        for client in clients:
            client.start()
        harness.wait_until(lambda: len(confirmed) > 50, "messages are confirmed")
        time.sleep(random.uniform(0.1, 1.0))
        server.kill()
        for client in clients:
            client.join(harness.MESSAGE_SECONDS)
        server.start()
        channel = harness.connect(server).channel()
        found = settled(channel, set(confirmed))
        everything = [number for messages in found.values() for number, _ in messages]
        # The one message that was on its way may be there as well.
        allowed = set(confirmed) | {max(confirmed) + 1}
        lost = set(confirmed) - set(everything)
        assert not lost, f"{len(lost)} confirmed messages are nowhere: {sorted(lost)[:5]}"
        assert set(everything) <= allowed, f"from nowhere: {set(everything) - allowed}"
        doubled = sorted(number for number in set(everything) if everything.count(number) > 1)
        assert not doubled, f"{len(doubled)} messages are there twice: {doubled[:5]}"
        names = list(QUEUES)
        for number, reason in found["dead"]:
            assert reason == names[number % len(names)], f"{number} died of '{reason}'"
        counts = {name: len(messages) for name, messages in found.items()}
        print(f"{len(confirmed)} confirmed: {counts}")
        first = max(everything) + 1


harness.run(test, needs_own_server=True)
