"""Priorities: urgent tasks come first, also after a crash; a single active consumer is followed by the next one."""

import harness
import pika


def publish(channel, queue, body, priority):
    channel.basic_publish(
        exchange="",
        routing_key=queue,
        body=body,
        properties=pika.BasicProperties(delivery_mode=2, priority=priority),
    )


def take(channel, queue, count, left):
    """Takes so many messages, after which so many are left."""
    bodies = []
    for more in reversed(range(count)):
        method, _, body = channel.basic_get(queue)
        assert method.message_count == left + more, method
        channel.basic_ack(method.delivery_tag)
        bodies.append(body.decode())
    return bodies


def priorities(server):
    harness.forget(server, "urgent")
    arguments = {"x-max-priority": 5}
    connection = harness.connect(server)
    channel = connection.channel()
    channel.queue_declare(queue="urgent", durable=True, arguments=arguments)
    channel.confirm_delivery()
    for body, priority in (("a", 0), ("b", None), ("c", 3), ("d", 9), ("e", 5), ("f", 3)):
        publish(channel, "urgent", body, priority)
    # Given back, it is at the head of its priority again.
    method, _, body = channel.basic_get("urgent")
    assert body == b"d", body
    channel.basic_reject(method.delivery_tag, requeue=True)
    assert take(channel, "urgent", 3, left=3) == ["d", "e", "c"]
    # Its confirm vouches for what was acknowledged before it.
    publish(channel, "urgent", "g", 4)
    connection.close()

    server.kill()
    server.start()
    connection = harness.connect(server)
    channel = connection.channel()
    channel.queue_declare(queue="urgent", durable=True, arguments=arguments)
    assert take(channel, "urgent", 4, left=0) == ["g", "f", "a", "b"]
    connection.close()


def single_active_consumer(server):
    harness.forget(server, "orders")
    connections = [harness.connect(server) for _ in range(3)]
    channels = [connection.channel() for connection in connections]
    channels[0].queue_declare(
        queue="orders", durable=True, arguments={"x-single-active-consumer": True}
    )
    for body in "abc":
        publish(channels[0], "orders", body, None)
    # None of them acknowledges anything.
    received = [[] for _ in channels]
    for channel, got in zip(channels, received):
        channel.basic_consume(
            "orders", lambda _, method, __, body, got=got: got.append((body, method.redelivered))
        )
    for number, connection in enumerate(connections):
        connection.process_data_events(time_limit=0.2)
        expected = [(body, number > 0) for body in (b"a", b"b", b"c")]
        harness.wait_until(
            lambda: connection.process_data_events(time_limit=0.05) or received[number] == expected,
            f"all messages reach consumer {number}",
        )
        for waiting, got in zip(connections[number + 1 :], received[number + 1 :]):
            waiting.process_data_events(time_limit=0.1)
            assert got == [], got
        connection.close()


def test(server):
    priorities(server)
    single_active_consumer(server)


harness.run(test, needs_own_server=True)
