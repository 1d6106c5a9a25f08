"""Remote calls with direct reply-to: answers without a queue of their own."""

import harness
import pika

DIRECT = "amq.rabbitmq.reply-to"
CALLS = 100


def consume(channel, queue, callback):
    """Consumes with automatic acknowledgement, with either pika."""
    if harness.CLASSIC:
        return channel.basic_consume(callback, queue=queue, no_ack=True)
    return channel.basic_consume(queue=queue, on_message_callback=callback, auto_ack=True)


def answer(channel, method, properties, body):
    """The server: squares what it is asked."""
    channel.basic_publish(
        exchange="",
        routing_key=properties.reply_to,
        body=str(int(body) ** 2),
        properties=pika.BasicProperties(correlation_id=properties.correlation_id),
    )


def test(server):
    harness.forget(server, "squares")
    serving = harness.connect(server)
    squares = serving.channel()
    squares.queue_declare(queue="squares")
    consume(squares, "squares", answer)

    asking = harness.connect(server)
    channel = asking.channel()
    replies = []

    def note(_channel, _method, properties, body):
        replies.append((int(properties.correlation_id), int(body)))

    tag = consume(channel, DIRECT, note)
    for number in range(CALLS):
        channel.basic_publish(
            exchange="",
            routing_key="squares",
            body=str(number),
            properties=pika.BasicProperties(reply_to=DIRECT, correlation_id=str(number)),
        )

    def all_answered():
        serving.process_data_events(time_limit=0.01)
        asking.process_data_events(time_limit=0.01)
        return len(replies) >= CALLS

    harness.wait_until(all_answered, "every call is answered")
    assert replies == [(number, number**2) for number in range(CALLS)]

    # Whoever does not wait any more cannot be reached, and a request needs somebody who waits.
    channel.basic_cancel(tag)
    channel.basic_publish(
        exchange="",
        routing_key="squares",
        body="1",
        properties=pika.BasicProperties(reply_to=DIRECT),
    )
    try:
        channel.queue_declare(queue="squares", passive=True)
        raise AssertionError("the request was accepted")
    except pika.exceptions.ChannelClosed as closed:
        assert closed.args[0] == 406, closed
    asking.close()
    serving.close()


harness.run(test)
