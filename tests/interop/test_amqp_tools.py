"""rabbitmq-c's command-line tools, as a shell script uses them: what they print, and how they end."""

import subprocess

import pika

import harness


def tool(server, name, *arguments, text=None):
    """Runs a tool to its end: exit code, standard output, standard error."""
    command = [name, f"--url=amqp://guest:guest@localhost:{server.port}", *arguments]
    done = subprocess.run(
        command, input=text or "", capture_output=True, text=True, timeout=harness.MESSAGE_SECONDS
    )
    return done.returncode, done.stdout, done.stderr


def prints(server, expected, name, *arguments, text=None):
    result = tool(server, name, *arguments, text=text)
    assert result == (0, expected, ""), f"{name} {arguments}: {result}"


def fails(server, words, name, *arguments):
    code, _, complaint = tool(server, name, *arguments)
    assert code == 1 and words in complaint, f"{name} {arguments}: {code}, {complaint!r}"


def queue(server):
    """A queue from its declaration to its deletion, with the broker killed on the way."""
    prints(server, "loft\n", "amqp-declare-queue", "-q", "loft", "-d")
    server.kill()
    server.start()
    fails(server, "inequivalent arg 'durable'", "amqp-declare-queue", "-q", "loft")

    options = ["-p", "-C", "text/plain", "-E", "identity", "-t", "answers", "-H", "field: north"]
    prints(server, "", "amqp-publish", "-r", "loft", *options, "-b", "one bale")
    prints(server, "", "amqp-publish", "-r", "loft", "-l", text="two\nthree\n")
    prints(server, "", "amqp-publish", "-r", "loft", text="x" * 300_000)
    assert harness.ready_messages(server, "loft") == 4
    fails(server, "queue 'loft' in vhost '/' not empty", "amqp-delete-queue", "-q", "loft", "-e")

    connection = harness.connect(server)
    channel = connection.channel()
    method, properties, body = channel.basic_get("loft")
    assert body == b"one bale"
    assert (properties.content_type, properties.content_encoding) == ("text/plain", "identity")
    assert (properties.reply_to, properties.delivery_mode) == ("answers", 2)
    assert properties.headers == {"field": "north"}, properties.headers
    channel.basic_nack(method.delivery_tag)
    connection.close()

    prints(server, "one bale", "amqp-get", "-q", "loft")
    prints(server, "two\n", "amqp-get", "-q", "loft")
    prints(server, "three\n", "amqp-get", "-q", "loft")
    prints(server, "x" * 300_000, "amqp-get", "-q", "loft")
    assert tool(server, "amqp-get", "-q", "loft") == (2, "", ""), "nothing is left"
    prints(server, "0\n", "amqp-delete-queue", "-q", "loft", "-e")
    fails(server, "no queue 'loft' in vhost '/'", "amqp-get", "-q", "loft")


def consume(server):
    """A consumer that declares and binds its queue, and runs a command for each message."""
    url = f"--url=amqp://guest:guest@localhost:{server.port}"
    options = ["-q", "news", "-e", "amq.topic", "-r", "north.#", "-p", "1", "-c", "3"]
    command = ["amqp-consume", url, *options, "--", "sh", "-c", "cat; echo"]
    consumer = harness.Process("amqp-consume", command)
    harness.wait_until(lambda: consumers(server, "news") == 1, "the consumer has subscribed")
    for key in ["north.rain", "south.rain", "north", "north.sun.late"]:
        prints(server, "", "amqp-publish", "-e", "amq.topic", "-r", key, "-b", key)
    consumer.succeed()
    assert [line for _, line in consumer.lines] == ["north.rain", "north", "north.sun.late"]
    harness.wait_until(
        lambda: consumers(server, "news") is None, "the queue went with its only consumer"
    )

    # And from a queue that is there already: the one that was declared, and keeps what is not taken.
    prints(server, "loft\n", "amqp-declare-queue", "-q", "loft", "-d")
    prints(server, "", "amqp-publish", "-r", "loft", "-l", text="one\ntwo\nthree\n")
    prints(server, "one\ntwo\n", "amqp-consume", "-q", "loft", "-p", "1", "-c", "2", "cat")
    harness.wait_until(lambda: harness.ready_messages(server, "loft") == 1, "the third waits")
    prints(server, "three\n", "amqp-get", "-q", "loft")


def errors(server):
    """What the broker refuses arrives as the tools' own words, and as their exit codes."""
    fails(server, "no queue 'none' in vhost '/'", "amqp-consume", "-q", "none", "cat")
    fails(server, "no exchange 'none' in vhost '/'", "amqp-publish", "-e", "none", "-b", "lost")
    prints(server, "0\n", "amqp-delete-queue", "-q", "none")  # deleting what is not there is no error
    stranger = f"--url=amqp://guest:wrong@localhost:{server.port}"
    fails(server, "ACCESS_REFUSED", "amqp-get", stranger, "-q", "none")


def consumers(server, name):
    """How many there are, or None where there is no such queue."""
    connection = harness.connect(server)
    try:
        return connection.channel().queue_declare(queue=name, passive=True).method.consumer_count
    except pika.exceptions.ChannelClosedByBroker as refusal:
        assert refusal.reply_code == 404, refusal
        return None
    finally:
        connection.close()


harness.run_scenario([queue, consume, errors], "amqp-tools")
