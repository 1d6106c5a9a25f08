"""Records what a real client sends, as seeds of the targets `connection` and `frames`.

    python3 -m venv /tmp/pika && /tmp/pika/bin/pip install --require-hashes -r tests/interop/requirements.txt
    cargo build
    /tmp/pika/bin/python fuzz/record.py

Each session runs against a server of its own, through a proxy that keeps what the client sends. In front of that a seed
says how it is to arrive: see the targets.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pika

ROOT = Path(__file__).resolve().parent.parent
SERVER = os.environ.get("HAYPILE_BIN", str(ROOT / "target/debug/haypile"))
SEEDS = ROOT / "fuzz/seeds"

PERSISTENT = pika.BasicProperties(
    delivery_mode=2,
    content_type="text/plain",
    headers={"number": 7, "text": "hay", "list": [1, True, None], "table": {"nested": -1}},
    message_id="m1",
    timestamp=1700000000,
)


def confirmed(channel):
    channel.confirm_delivery()
    channel.queue_declare("q1", durable=True)
    for size in (0, 10, 20_000):
        channel.basic_publish("", "q1", b"h" * size, PERSISTENT, mandatory=True)
    try:
        channel.basic_publish("", "nobody", b"returned", mandatory=True)
    except pika.exceptions.UnroutableError:
        pass


def consumed(channel):
    channel.queue_declare("q1", durable=True)
    channel.basic_qos(prefetch_count=3)
    for number in range(6):
        channel.basic_publish("", "q1", str(number).encode(), PERSISTENT)
    for number, (method, _, _) in enumerate(channel.consume("q1", inactivity_timeout=5)):
        if number % 3 == 0:
            channel.basic_ack(method.delivery_tag)
        elif number % 3 == 1:
            channel.basic_nack(method.delivery_tag, requeue=True)
        else:
            channel.basic_reject(method.delivery_tag, requeue=False)
        if number == 7:
            break
    channel.cancel()
    channel.basic_get("q1", auto_ack=True)
    channel.basic_recover(requeue=True)


def topology(channel):
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange_declare("x-" + kind, kind, durable=True)
        channel.queue_declare("q-" + kind, durable=True)
    channel.queue_bind("q-direct", "x-direct", "key")
    channel.queue_bind("q-fanout", "x-fanout")
    channel.queue_bind("q-topic", "x-topic", "a.*.#")
    channel.queue_bind("q-headers", "x-headers", "", {"x-match": "all", "number": 7})
    channel.exchange_bind("x-fanout", "x-topic", "#")
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.basic_publish("x-" + kind, "a.b", b"body", PERSISTENT)
    channel.queue_unbind("q-topic", "x-topic", "a.*.#")
    channel.exchange_unbind("x-fanout", "x-topic", "#")
    channel.queue_purge("q-fanout")
    channel.queue_delete("q-direct")
    channel.exchange_delete("x-direct")


def refused(channel):
    connection = channel.connection
    for wrong in (
        lambda other: other.queue_declare("missing", passive=True),
        lambda other: other.basic_publish("missing", "", b""),
        lambda other: other.basic_ack(99),
    ):
        other = connection.channel()
        try:
            wrong(other)
            other.queue_declare("", exclusive=True)
        except pika.exceptions.ChannelClosedByBroker:
            pass


class Proxy:
    """Passes bytes on, and keeps those of the client."""

    def __init__(self, port):
        self.sent = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._server = socket.create_connection(("127.0.0.1", port))
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        self._threads[0].start()

    def _run(self):
        client, _ = self._listener.accept()
        back = threading.Thread(target=self._pass, args=(self._server, client, False), daemon=True)
        back.start()
        self._pass(client, self._server, True)
        back.join()

    def _pass(self, source, target, keep):
        while data := source.recv(65536):
            if keep:
                self.sent += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    def close(self):
        self._threads[0].join()
        self._listener.close()
        return self.sent


def record(session):
    data = tempfile.mkdtemp()
    command = [SERVER, "serve", "--data-dir", data, "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        ready = server.stdout.readline()
        proxy = Proxy(int(ready.rsplit(":", 1)[1].split()[0]))
        parameters = pika.ConnectionParameters("127.0.0.1", proxy.port, frame_max=8192, heartbeat=0)
        connection = pika.BlockingConnection(parameters)
        session(connection.channel())
        connection.close()
        return proxy.close()
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(data)


def main():
    for session in (confirmed, consumed, topology, refused):
        sent = record(session)
        name = f"pika-{session.__name__}"
        (SEEDS / "connection" / name).write_bytes(b"\x02\x00" + sent)
        (SEEDS / "frames" / name).write_bytes(b"\x40" + sent[len(b"AMQP\0\0\x09\x01") :])


main()
