"""TLS: messages of several sizes, from a client that shows a certificate and from one that has none."""

import os
import re
import ssl
import sys
from pathlib import Path

import harness
import pika

FILES = Path(sys.argv[1])
SIZES = (0, 1, 1000, 200_000, 3_000_000)


def connect(port, *client):
    context = ssl.create_default_context(cafile=str(FILES / "roots.pem"))
    if client:
        context.load_cert_chain(*client)
    options = pika.SSLOptions(context, "localhost")
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, ssl_options=options))


def exchange_messages(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("sealed", durable=True)
    for size in SIZES:
        body = os.urandom(size)
        channel.basic_publish("", "sealed", body, pika.BasicProperties(delivery_mode=2))
        assert channel.basic_get("sealed", auto_ack=True)[2] == body, f"{size} bytes come back as they went"
    connection.close()


def start(directory, *settings):
    """A server on free ports; gives it and the port of TLS."""
    files = [f"tls.certificate={FILES}/localhost.pem", f"tls.key={FILES}/localhost.key", *settings]
    command = [os.environ["HAYPILE_BIN"], "serve", "--data-dir", str(directory), "--listen", "127.0.0.1:0"]
    for setting in ["tls.listen=127.0.0.1:0", *files]:
        command += ["--set", setting]
    server = harness.Process("server", command)
    ready = server.expect(r"^ready\b.*", harness.START_SECONDS).group(0)
    return server, int(re.search(r" tls:127\.0\.0\.1:(\d+)$", ready).group(1))


def test():
    certificate = (str(FILES / "client.pem"), str(FILES / "client.key"))
    roots = f"tls.client_roots={FILES}/roots.pem"
    with harness.Scratch("tls") as scratch:
        server, port = start(scratch / "optional", roots)
        exchange_messages(connect(port))
        exchange_messages(connect(port, *certificate))
        server.kill()

        server, port = start(scratch / "required", roots, "tls.require_client_certificate=true")
        exchange_messages(connect(port, *certificate))
        try:
            connect(port)
        except (pika.exceptions.AMQPConnectionError, ssl.SSLError):
            pass
        else:
            raise AssertionError("a client without a certificate was let in")
        exchange_messages(connect(port, *certificate))
        server.kill()


harness.deadline(harness.TEST_SECONDS)
test()
print(f"test_tls: passed with pika {pika.__version__}", flush=True)
