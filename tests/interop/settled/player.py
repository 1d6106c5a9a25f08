"""Plays a situation against a broker, and writes down what was said on both sides."""

import re
import time

import pika
import pika.spec as spec

from settled import tables, wire

QUIET_SECONDS = 0.3  # without anything: nothing more comes
# For what has no answer: RabbitMQ counts messages, for one, before it takes in what was published a moment ago.
SETTLE_SECONDS = 0.06

CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


def play(situation, port, patience=1):
    """The lines of what happens; whatever the situation has left in the broker is removed.

    That nothing more comes is known by waiting alone, and how long is enough depends on the machine: `patience` times what it is usually.
    """
    wire.patience = patience
    room = Room(port)
    try:
        situation(room)
    except wire.Silence:
        room.note("no answer")
    except wire.Closed:
        room.note("the socket is closed")
    finally:
        room.clear()
    return room.lines


class Room:
    """Where the connections of one situation meet. They are called a, b, c in the order in which they come."""

    def __init__(self, port):
        self.lines = []
        self.address = ""  # the last one for direct replies that was seen
        self._port = port
        self._connections = []
        self._made = {"queue": set(), "exchange": set()}

    def note(self, line):
        """Writes a line down, without the names that a broker makes up."""
        address = re.search(r"amq\.rabbitmq\.reply-to\.[^'\s]+", line)
        if address:
            self.address = address.group()
            line = line.replace(self.address, "(an address)")
        self.lines.append(re.sub(r"amq\.(gen|ctag)-[\w-]+", r"amq.\1-(random)", line))

    def pause(self, seconds):
        self.note(f"(after {seconds:g} s)")
        time.sleep(seconds)

    def dial(self):
        """A connection on which nothing has been said."""
        connection = Connection(self, "abcdefg"[len(self._connections)], wire.Wire(self._port))
        self._connections.append(connection)
        return connection

    def connect(self, **options):
        """A connection that is open; see `Connection.log_in`. How it got there is not written down."""
        connection, before = self.dial(), len(self.lines)
        if not connection.log_in(**options):
            return connection
        del self.lines[before:]
        return connection

    def channel(self, **options):
        """An open channel on a connection of its own."""
        return self.connect(**options).channel()

    def made(self, kind, name):
        self._made[kind].add(name)

    def clear(self):
        for connection in self._connections:
            connection.wire.close()
        # The names of things that were made, and of some that may have been refused: deleting what is not there is fine.
        names = [(kind, name) for kind, names in self._made.items() for name in names]
        for kind, name in names:
            if name.startswith("amq.") and not name.startswith("amq.gen-"):
                continue
            self._delete(kind, name)

    def _delete(self, kind, name):
        """On a connection for each: a refusal of one must not spare the next."""
        for _ in range(20):
            silent = Room(self._port)
            channel = silent.channel()
            wanted = spec.Queue.Delete(queue=name) if kind == "queue" else spec.Exchange.Delete(exchange=name)
            answer = channel.call(wanted) if name else None
            for connection in silent._connections:
                connection.wire.close()
            # An exclusive queue may need a moment to go with its connection.
            if not isinstance(answer, spec.Channel.Close) or answer.reply_code != 405:
                return
            time.sleep(0.05)


class Connection:
    def __init__(self, room, name, wire_):
        self.room = room
        self.name = name
        self.wire = wire_
        self._channels = 0

    def log_in(
        self,
        user="guest",
        password="guest",
        mechanism="PLAIN",
        response=None,
        vhost="/",
        capabilities=CAPABILITIES,
        tune=None,
    ):
        """From the protocol header to the open virtual host; False if it did not get there."""
        self.wire.send(wire.HEADER)
        if not isinstance(self._read(), spec.Connection.Start):
            return False
        if response is None:
            response = f"\0{user}\0{password}"
        self.send(
            0,
            spec.Connection.StartOk(
                client_properties={"capabilities": capabilities},
                mechanism=mechanism,
                response=response,
                locale="en_US",
            ),
            untold=True,
        )
        offer = self.receive()
        if not isinstance(offer, spec.Connection.Tune):
            return False
        agreed = dict(channel_max=offer.channel_max, frame_max=offer.frame_max, heartbeat=0)
        self.send(0, spec.Connection.TuneOk(**agreed | (tune or {})), untold=not tune)
        self.send(0, spec.Connection.Open(virtual_host=vhost), untold=vhost == "/")
        return isinstance(self.receive(), spec.Connection.OpenOk)

    def channel(self):
        """Opens the next channel, without a word about it."""
        self._channels += 1
        channel = Channel(self, self._channels)
        before = len(self.room.lines)
        if isinstance(channel.call(spec.Channel.Open()), spec.Channel.OpenOk):
            del self.room.lines[before:]
        return channel

    def note(self, channel, sign, line):
        self.room.note(f"{self.name}{channel} {sign} {line}")

    def send(self, channel, method, untold=False):
        if not untold:
            self.note(channel, ">", wire.text(method, all_fields=False))
        self.send_bytes(wire.method_frame(channel, method))

    def send_bytes(self, data, what=None):
        if what:
            self.room.note(f"{self.name}  > {what}")
        try:
            self.wire.send(data)
        except wire.Closed:
            pass  # What the broker has said before can still be read.

    def receive(self, within=wire.ANSWER_SECONDS):
        """Writes down the next method with all that belongs to it, and gives it; None when nothing comes any more.

        What closes the channel or the connection is agreed to.
        """
        try:
            return self._read(within)
        except wire.Silence:
            self.room.note(f"{self.name}  < (nothing)")
        except wire.Closed:
            self.room.note(f"{self.name}  < (the socket is closed)")
        return None

    def receive_all(self):
        """What comes until nothing more does."""
        while True:
            try:
                self._read(QUIET_SECONDS)
            except wire.Silence:
                self.room.note(f"{self.name}  < (nothing more)")
                return
            except wire.Closed:
                self.room.note(f"{self.name}  < (the socket is closed)")
                return

    def _read(self, within=wire.ANSWER_SECONDS):
        _, channel, payload = self.wire.frame(within)
        method = wire.decoded(payload)
        if isinstance(method, spec.Connection.Start):
            return method
        line = wire.text(method, all_fields=True)
        if isinstance(method, (spec.Basic.Deliver, spec.Basic.GetOk, spec.Basic.Return)):
            line += " " + self._content()
        self.note(channel, "<", line)
        if isinstance(method, spec.Channel.Close):
            self.send(channel, spec.Channel.CloseOk(), untold=True)
        elif isinstance(method, spec.Connection.Close):
            self.send(0, spec.Connection.CloseOk(), untold=True)
        elif isinstance(method, spec.Queue.DeclareOk):
            self.room.made("queue", method.queue)
        return method

    def _content(self):
        _, _, payload = self.wire.frame()
        size, data = int.from_bytes(payload[4:12], "big"), b""
        while len(data) < size:
            data += self.wire.frame()[2]
        return f"{tables.properties(payload[12:])} {wire.body(data)}"


class Channel:
    """One channel; the methods that situations use are short, and wait for the answer where the protocol has one."""

    def __init__(self, connection, number):
        self.connection = connection
        self.number = number

    def send(self, method):
        self.connection.send(self.number, method)

    def call(self, method):
        self.send(method)
        return self.connection.receive()

    def receive(self, within=wire.ANSWER_SECONDS):
        return self.connection.receive(within)

    def receive_all(self):
        self.connection.receive_all()

    def open(self):
        return self.call(spec.Channel.Open())

    def declare(self, queue="q", **fields):
        return self.call(spec.Queue.Declare(queue=queue, **fields))

    def delete(self, queue="q", **fields):
        return self.call(spec.Queue.Delete(queue=queue, **fields))

    def purge(self, queue="q", **fields):
        return self.call(spec.Queue.Purge(queue=queue, **fields))

    def count(self, queue="q"):
        """How many messages are ready, and how many consumers there are, when everything before has been done."""
        time.sleep(SETTLE_SECONDS * wire.patience)
        return self.call(spec.Queue.Declare(queue=queue, passive=True))

    def exchange(self, exchange="x", type="direct", **fields):
        if fields.get("passive") is not True:
            self.connection.room.made("exchange", exchange)
        return self.call(spec.Exchange.Declare(exchange=exchange, type=type, **fields))

    def delete_exchange(self, exchange="x", **fields):
        return self.call(spec.Exchange.Delete(exchange=exchange, **fields))

    def bind(self, queue="q", exchange="x", key="", **fields):
        return self.call(spec.Queue.Bind(queue=queue, exchange=exchange, routing_key=key, **fields))

    def unbind(self, queue="q", exchange="x", key="", **fields):
        return self.call(spec.Queue.Unbind(queue=queue, exchange=exchange, routing_key=key, **fields))

    def bind_exchange(self, destination, source, key="", **fields):
        return self.call(spec.Exchange.Bind(destination=destination, source=source, routing_key=key, **fields))

    def unbind_exchange(self, destination, source, key="", **fields):
        return self.call(spec.Exchange.Unbind(destination=destination, source=source, routing_key=key, **fields))

    def publish(self, body=b"m", key="q", exchange="", mandatory=False, immediate=False, **properties):
        """Sends a message; nothing is waited for."""
        method = spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory, immediate=immediate)
        self._publish(method, body, pika.BasicProperties(**properties))

    def _publish(self, method, body, properties):
        body = body.encode() if isinstance(body, str) else body
        pieces = b"".join(properties.encode())
        told = tables.properties(pieces) if vars(properties) and pieces != b"\0\0" else ""
        line = " ".join(filter(None, [wire.text(method, all_fields=False), told, wire.body(body)]))
        self.connection.note(self.number, ">", line)
        data = wire.method_frame(self.number, method) + wire.header_frame(self.number, len(body), properties)
        for start in range(0, len(body), 100_000):
            data += wire.frame(wire.BODY, self.number, body[start : start + 100_000])
        self.connection.send_bytes(data)

    def select(self):
        return self.call(spec.Confirm.Select())

    def get(self, queue="q", no_ack=True):
        time.sleep(SETTLE_SECONDS * wire.patience)
        return self.call(spec.Basic.Get(queue=queue, no_ack=no_ack))

    def consume(self, queue="q", tag="c", **fields):
        return self.call(spec.Basic.Consume(queue=queue, consumer_tag=tag, **fields))

    def cancel(self, tag="c", **fields):
        return self.call(spec.Basic.Cancel(consumer_tag=tag, **fields))

    def qos(self, prefetch_count=0, **fields):
        return self.call(spec.Basic.Qos(prefetch_count=prefetch_count, **fields))

    def ack(self, tag, multiple=False):
        self.send(spec.Basic.Ack(delivery_tag=tag, multiple=multiple))

    def nack(self, tag, multiple=False, requeue=True):
        self.send(spec.Basic.Nack(delivery_tag=tag, multiple=multiple, requeue=requeue))

    def reject(self, tag, requeue=True):
        self.send(spec.Basic.Reject(delivery_tag=tag, requeue=requeue))

    def recover(self, requeue=True):
        return self.call(spec.Basic.Recover(requeue=requeue))

    def close(self):
        return self.call(spec.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
