"""Alternate exchange: what an exchange routes nowhere is kept by another one, and not returned."""

import harness
import pika


def test(server):
    harness.forget(server, "orders", "strays")
    connection = harness.connect(server)
    channel = connection.channel()
    for exchange in ("shop", "lost"):
        channel.exchange_delete(exchange=exchange)
    channel.exchange_declare(exchange="lost", exchange_type="fanout")
    channel.exchange_declare(
        exchange="shop", exchange_type="direct", arguments={"alternate-exchange": "lost"}
    )
    for queue in ("orders", "strays"):
        channel.queue_declare(queue=queue)
    channel.queue_bind(queue="orders", exchange="shop", routing_key="order")
    channel.queue_bind(queue="strays", exchange="lost", routing_key="")

    channel.confirm_delivery()
    for key in ("order", "ordre"):
        # Raises where a message is returned, or says so with False (pika 0.x).
        answer = channel.basic_publish(
            exchange="shop",
            routing_key=key,
            body=key,
            properties=pika.BasicProperties(delivery_mode=2),
            mandatory=True,
        )
        assert answer in (None, True), "%s was returned" % key
    for queue, body in (("orders", b"order"), ("strays", b"ordre")):
        method, _, got = channel.basic_get(queue)
        assert (method.exchange, method.message_count, got) == ("shop", 0, body), queue
        channel.basic_ack(method.delivery_tag)
    connection.close()


harness.run(test)
