"""Transactions, as pika and py-amqp do them: what is committed is there and stays there, what is not has never been.

The argument says which client: `pika` or `py_amqp`.
"""

import sys

import harness
import pika

QUEUE, OTHER = "ledger", "audit"


class Pika:
    """A transactional channel of pika."""

    name = f"pika {pika.__version__}"

    def __init__(self, server):
        self.connection = harness.connect(server)
        self.channel = self.connection.channel()
        for queue in (QUEUE, OTHER):
            self.channel.queue_declare(queue=queue, durable=True)
        self.channel.tx_select()
        self.commit = self.channel.tx_commit
        self.rollback = self.channel.tx_rollback
        self.refusals = (pika.exceptions.ChannelClosedByBroker,)

    def publish(self, queue, body):
        persistent = pika.BasicProperties(delivery_mode=2)
        self.channel.basic_publish("", queue, body, persistent)

    def get(self, queue):
        method, _, body = self.channel.basic_get(queue)
        return method and (method.delivery_tag, method.redelivered, body.decode())

    def ack(self, tag):
        self.channel.basic_ack(tag)

    def requeue(self, tag):
        self.channel.basic_nack(tag, requeue=True)

    def reject(self, tag):
        self.channel.basic_reject(tag, requeue=False)

    def confirm(self):
        self.channel.confirm_delivery()

    def close(self):
        self.connection.close()


class PyAmqp:
    """A transactional channel of py-amqp."""

    def __init__(self, server):
        import amqp

        self.amqp = amqp
        self.name = f"py-amqp {amqp.__version__}"
        self.connection = amqp.Connection(f"localhost:{server.port}", "guest", "guest")
        self.connection.connect()
        self.channel = self.connection.channel()
        for queue in (QUEUE, OTHER):
            self.channel.queue_declare(queue=queue, durable=True, auto_delete=False)
        self.channel.tx_select()
        self.commit = self.channel.tx_commit
        self.rollback = self.channel.tx_rollback
        self.refusals = (amqp.exceptions.PreconditionFailed,)

    def publish(self, queue, body):
        self.channel.basic_publish(self.amqp.Message(body, delivery_mode=2), "", queue)

    def get(self, queue):
        message = self.channel.basic_get(queue)
        if message is None:
            return None
        info = message.delivery_info
        return message.delivery_tag, info["redelivered"], message.body

    def ack(self, tag):
        self.channel.basic_ack(tag)

    def requeue(self, tag):
        self.channel.basic_reject(tag, requeue=True)

    def reject(self, tag):
        self.channel.basic_reject(tag, requeue=False)

    def confirm(self):
        self.channel.confirm_select()

    def close(self):
        self.connection.close()


CLIENTS = {"pika": Pika, "py_amqp": PyAmqp}


def ready(server, queue, count):
    harness.wait_until(
        lambda: harness.ready_messages(server, queue) == count,
        f"{count} messages are ready in {queue}",
    )


def publishing(server, client):
    for number in range(10):
        client.publish(QUEUE, str(number))
        client.publish(OTHER, "copy of %d" % number)
    assert client.get(QUEUE) is None, "nothing is there before the commit"
    client.commit()
    ready(server, QUEUE, 10)
    ready(server, OTHER, 10)
    client.publish(QUEUE, "never")
    client.rollback()
    client.commit()
    ready(server, QUEUE, 10)


def acknowledging(server, client):
    tags = []
    for number in range(4):
        tag, redelivered, body = client.get(QUEUE)
        assert (redelivered, body) == (False, str(number))
        tags.append(tag)
    client.ack(tags[0])
    client.reject(tags[1])
    client.requeue(tags[2])
    client.rollback()
    # All of them can be acknowledged again, in another way.
    client.requeue(tags[0])
    client.ack(tags[1])
    client.reject(tags[2])
    client.ack(tags[3])
    ready(server, QUEUE, 6)
    client.commit()
    ready(server, QUEUE, 7)
    tag, redelivered, body = client.get(QUEUE)
    assert (redelivered, body) == (True, "0"), "back in its place"
    client.ack(tag)
    # A result and the acknowledgement of what it was made of, together.
    tag, _, body = client.get(QUEUE)
    client.publish(OTHER, "result of " + body)
    client.ack(tag)
    client.commit()
    ready(server, QUEUE, 5)
    ready(server, OTHER, 11)


def leaving(server, make):
    """What a client leaves open when it goes has not been."""
    client = make(server)
    tag, _, body = client.get(QUEUE)
    client.ack(tag)
    client.publish(OTHER, "never")
    client.close()
    ready(server, QUEUE, 5)
    ready(server, OTHER, 11)
    client = make(server)
    tag, redelivered, again = client.get(QUEUE)
    assert (redelivered, again) == (True, body)
    client.ack(tag)
    client.commit()
    try:
        client.confirm()
    except client.refusals as refusal:
        assert "cannot switch from tx to confirm mode" in str(refusal)
    else:
        raise AssertionError("a transactional channel cannot confirm")


def surviving(server, make):
    """Killed right after the answer to a commit, and in the middle of the next transaction."""
    client = make(server)
    for number in range(100):
        client.publish(QUEUE, "committed %d" % number)
    client.commit()
    for number in range(100):
        client.publish(QUEUE, "open %d" % number)
    tag, _, first = client.get(QUEUE)
    client.ack(tag)
    server.kill()
    server.start()
    client = make(server)
    ready(server, QUEUE, 104)
    tag, _, body = client.get(QUEUE)
    assert body == first, "an acknowledgement that was not committed is none"
    bodies = [client.get(QUEUE)[2] for _ in range(103)]
    assert bodies[3:] == ["committed %d" % number for number in range(100)]
    client.close()


def test(server):
    harness.forget(server, QUEUE, OTHER)
    make = CLIENTS[sys.argv[1]]
    client = make(server)
    publishing(server, client)
    acknowledging(server, client)
    client.close()
    leaving(server, make)
    if harness.owns_server():
        surviving(server, make)
    print(f"transactions of {client.name}")


if len(sys.argv) != 2 or sys.argv[1] not in CLIENTS:
    raise SystemExit(f"usage: test_transactions.py {'|'.join(CLIENTS)}")
harness.run(test, client=sys.argv[1])
