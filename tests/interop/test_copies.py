"""CC and BCC: one publish for several queues, and nobody is told of the blind copies."""

import harness
import pika


def test(server):
    queues = ("boss", "team", "archive")
    harness.forget(server, *queues)
    connection = harness.connect(server)
    channel = connection.channel()
    for queue in queues:
        channel.queue_declare(queue=queue)
    headers = {"CC": ["team", "boss"], "BCC": ["archive"], "subject": "hay"}
    channel.basic_publish(
        exchange="",
        routing_key="boss",
        body="It rains.",
        properties=pika.BasicProperties(headers=headers, message_id="1"),
    )
    for queue in queues:
        harness.wait_until(
            lambda queue=queue: harness.ready_messages(server, queue) == 1,
            "%s has the message, once" % queue,
        )
        method, properties, body = channel.basic_get(queue)
        assert (method.routing_key, body) == ("boss", b"It rains."), queue
        assert properties.headers == {"CC": ["team", "boss"], "subject": "hay"}, queue
        assert properties.message_id == "1", queue
        channel.basic_ack(method.delivery_tag)
    connection.close()


harness.run(test)
