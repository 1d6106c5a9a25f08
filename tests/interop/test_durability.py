"""Durability: nothing that was confirmed is lost when the server is killed at a random moment.

Each round publishes until 10,000 persistent messages of 0 B to 1 MiB have been confirmed, through
durable exchanges of every type and their bindings into durable queues, while consumers take some of
them and acknowledge a part; goes on so for a random time; kills the server; restarts it (sometimes
killing it again while it recovers); and has the oracle judge every queue. Then a part of what was
found is acknowledged, the rest stays for the next rounds, which use the same data directory and
never bind anything again: a binding that is lost shows as a returned message. After a few rounds
the server is stopped cleanly, looked at once more, its data verified, and a fresh directory begun.

HAYPILE_DURABILITY_ROUNDS  number of rounds, 20 if unset
HAYPILE_DURABILITY_SEED    seed of the run, random if unset. Workload and delays follow from it; what
                           the server and the scheduler make of them does not.
"""

import os
import random
import subprocess
import threading
import time

import pika
from pika.adapters.select_connection import IOLoop

import harness
import workload
from oracle import Found, Oracle

ROUNDS = int(os.environ.get("HAYPILE_DURABILITY_ROUNDS", "20"))
ROUNDS_PER_DIRECTORY = 5
CONFIRMED_PER_ROUND = 10_000
WINDOW_MESSAGES = 500  # not yet confirmed, per publisher
WINDOW_BYTES = 4 << 20
ROUND_SECONDS = 300  # for the publishing part of one round


def parameters(port):
    return pika.ConnectionParameters(host="localhost", port=port)


class Peer:
    """A connection with one channel in confirm mode, in the event loop of a storm."""

    def __init__(self, storm):
        self.storm = storm
        self.channel = None
        self._unconfirmed = {}  # delivery tag -> (message, what to do once it is confirmed)
        self._next_tag = 1
        self._oldest = 1
        self.unconfirmed_bytes = 0
        self.connection = pika.SelectConnection(
            parameters(storm.port),
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._opened),
            on_open_error_callback=lambda _, error: storm.fail(f"cannot connect: {error!r}"),
            on_close_callback=lambda _, reason: storm.closed(reason),
            custom_ioloop=storm.loop,
        )

    def _opened(self, channel):
        self.channel = channel
        channel.add_on_return_callback(self._returned)
        channel.add_on_close_callback(self._channel_closed)
        channel.confirm_delivery(self._confirm, callback=lambda _: self.begin())

    def begin(self):
        raise NotImplementedError

    def _channel_closed(self, _, reason):
        if self.connection.is_open:
            self.storm.fail(f"a channel was closed: {reason!r}")

    def _returned(self, channel, method, properties, body):
        identity = workload.identity_of(properties)
        self.storm.fail(f"{identity} was returned from {method.exchange!r}: its binding is lost")

    def publish(self, message, exchange, routing_key, queues, then=None):
        self.storm.oracle.published(message, queues)
        self._unconfirmed[self._next_tag] = (message, then)
        self._next_tag += 1
        self.unconfirmed_bytes += message.size
        self.channel.basic_publish(
            exchange, routing_key, message.content(), message.properties, mandatory=True
        )

    @property
    def unconfirmed(self):
        return len(self._unconfirmed)

    def _confirm(self, frame):
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self.storm.fail(f"refused: delivery tag {method.delivery_tag}")
            return
        if method.multiple:
            tags = range(self._oldest, method.delivery_tag + 1)
            self._oldest = method.delivery_tag + 1
        else:
            tags = (method.delivery_tag,)
        for tag in tags:
            message, then = self._unconfirmed.pop(tag, (None, None))
            if message is None:
                if not method.multiple:
                    self.storm.fail(f"delivery tag {tag} was confirmed twice, or never used")
                continue
            self.unconfirmed_bytes -= message.size
            self.storm.confirmed(message)
            if then:
                then()
        self.progress()

    def progress(self):
        """After each confirm."""


class Publisher(Peer):
    """Publishes as fast as its window of unconfirmed messages allows."""

    def __init__(self, storm, name):
        self._source = storm.workload.publisher(name)
        super().__init__(storm)

    def begin(self):
        self.progress()

    def progress(self):
        # Not more than a few at a time, so that the other connections get their turn.
        for _ in range(50):
            if (
                self.unconfirmed >= WINDOW_MESSAGES
                or self.unconfirmed_bytes >= WINDOW_BYTES
                or not self.channel.is_open
            ):
                return
            self.publish(*self._source.message())
        if self.unconfirmed < WINDOW_MESSAGES // 2:
            self.storm.loop.call_later(0, self.progress)


class Consumer(Peer):
    """Acknowledges a part of what it gets, and learns by fences which acknowledgements are synced."""

    FENCE_EVERY = 100  # deliveries

    def __init__(self, storm, queue):
        self._queue = queue
        self._source = storm.workload.publisher(f"fence.{queue}")
        self._unacknowledged = {}  # delivery tag -> identity, in order
        self._acknowledged = []  # since the last fence
        self._delivered = []
        super().__init__(storm)

    def begin(self):
        self.channel.basic_consume(self._queue, self._on_message)

    def _on_message(self, channel, method, properties, body):
        identity = workload.identity_of(properties)
        oracle, chance = self.storm.oracle, self.storm.random.random()
        oracle.delivered(self._queue, Found(identity, properties, body))
        self._unacknowledged[method.delivery_tag] = identity
        self._delivered.append(identity)
        if chance < 0.004:
            for tag in [tag for tag in self._unacknowledged if tag <= method.delivery_tag]:
                self._acknowledge(tag)
            channel.basic_ack(method.delivery_tag, multiple=True)
        elif chance < 0.5:
            self._acknowledge(method.delivery_tag)
            channel.basic_ack(method.delivery_tag)
        if len(self._delivered) >= self.FENCE_EVERY and self.channel.is_open:
            self._fence()

    def _acknowledge(self, tag):
        identity = self._unacknowledged.pop(tag)
        self.storm.oracle.acknowledged(self._queue, identity)
        self._acknowledged.append(identity)
        self.storm.acknowledged += 1

    def _fence(self):
        acknowledged, self._acknowledged = self._acknowledged, []
        delivered, self._delivered = self._delivered, []
        self.publish(
            *self._source.fence(),
            then=lambda: self.storm.oracle.synced(self._queue, acknowledged, delivered),
        )


class Storm:
    """Publishing, consuming and acknowledging that ends when the server is killed in the middle of it."""

    def __init__(self, server, oracle, load, rng):
        self.port = server.port
        self.oracle = oracle
        self.workload = load
        self.random = random.Random(rng.random())  # the consumers'; how often they draw depends on timing
        self.loop = IOLoop()
        self.persistent_confirmed = 0
        self.acknowledged = 0
        self.delay = rng.random()  # seconds from the 10,000th confirm to the kill
        self._server = server
        self._open = 0  # connections
        self._killing = None  # the timer, once it is set
        self._killed = False
        self._error = None

    def run(self):
        peers = [Publisher(self, name) for name in ("anna", "bert")]
        peers += [Consumer(self, queue) for queue, consumed in workload.QUEUES.items() if consumed]
        self._open = len(peers)
        timeout = self.loop.call_later(
            ROUND_SECONDS,
            lambda: self.fail(f"only {self.persistent_confirmed} confirmed in {ROUND_SECONDS} s"),
        )
        self.loop.start()
        self.loop.remove_timeout(timeout)
        if self._killing:
            self._killing.join()
        self.loop.close()
        if self._error:
            raise AssertionError(self._error)

    def confirmed(self, message):
        self.oracle.confirmed(message.identity)
        if message.persistent:
            self.persistent_confirmed += 1
        if self.persistent_confirmed >= CONFIRMED_PER_ROUND and self._killing is None:
            # From another thread: not in step with what this one is doing.
            self._killing = threading.Timer(self.delay, self._kill)
            self._killing.start()

    def _kill(self):
        self._killed = True
        try:
            self._server.kill()
        except AssertionError as error:
            self._error = str(error)

    def closed(self, reason):
        if not self._killed:
            self.fail(f"a connection was lost before the server was killed: {reason!r}")
        self._open -= 1
        if self._open == 0:
            self.loop.stop()

    def fail(self, text):
        self._error = self._error or text
        self.loop.stop()


def contents(connection, queue):
    """Everything in the queue, as (channel, [(delivery tag, Found)]); nothing is acknowledged."""
    channel = connection.channel()
    channel.confirm_delivery()
    expected = channel.queue_declare(queue=queue, passive=True).method.message_count
    found = []

    def on_message(_, method, properties, body):
        item = Found(workload.identity_of(properties), properties, body, method.redelivered)
        found.append((method.delivery_tag, item))

    channel.basic_consume(queue, on_message)
    # pika may return early, on some other event: what counts is how long no message has come.
    newest = time.monotonic()
    while len(found) < expected:
        before = len(found)
        connection.process_data_events(time_limit=harness.MESSAGE_SECONDS)
        if len(found) > before:
            newest = time.monotonic()
        waited = time.monotonic() - newest
        came = f"{queue}: {len(found)} of {expected} announced messages came"
        assert waited < harness.MESSAGE_SECONDS, came
    left = channel.queue_declare(queue=queue, passive=True).method.message_count
    assert left == 0, f"{queue}: {left} messages beyond the {expected} that were announced"
    return channel, found


def gone(connection, ask):
    """Whether the server answers 404 to `ask(channel)`."""
    try:
        ask(connection.channel())
    except pika.exceptions.ChannelClosedByBroker as error:
        assert error.reply_code == 404, error
        return True
    return False


def prepare(server):
    """The topology, durable and not, on a fresh server."""
    connection = pika.BlockingConnection(parameters(server.port))
    channel = connection.channel()
    workload.declare(channel)
    workload.bind(channel)
    declare_fleeting(channel)
    connection.close()


def declare_fleeting(channel):
    """What a restart must not keep: bound to a durable exchange, and fed with persistent messages."""
    channel.exchange_declare(exchange="smoke", exchange_type="fanout")
    channel.queue_declare(queue="fleeting")
    channel.queue_bind(queue="fleeting", exchange="copies")


def look(server, oracle, load, rng, acknowledge=True):
    """Judges the whole server after a restart; then acknowledges a part of what is there."""
    connection = pika.BlockingConnection(parameters(server.port))
    channel = connection.channel()
    for name, kind in workload.EXCHANGES:
        channel.exchange_declare(exchange=name, exchange_type=kind, passive=True)
    workload.declare(channel)
    assert gone(connection, lambda channel: channel.queue_declare(queue="fleeting", passive=True))
    assert gone(connection, lambda channel: channel.exchange_declare(exchange="smoke", passive=True))

    counts = {}
    for queue in workload.QUEUES:
        required = oracle.must(queue)
        channel, found = contents(connection, queue)
        oracle.recovered(queue, [item for _, item in found])
        counts[queue] = (len(found), required)
        taken = []
        if acknowledge:
            keep = rng.choice((0.1, 0.5, 0.9)) if len(found) < 3000 else 0.1
            for tag, item in found:
                if rng.random() >= keep:
                    oracle.acknowledged(queue, item.identity)
                    taken.append(item.identity)
                    channel.basic_ack(tag)
        fence, exchange, key, queues = load.publisher(f"look.{queue}").fence()
        if queue != "fences":  # whose own content must not change while it is looked at
            oracle.published(fence, queues)
            channel.basic_publish(
                exchange, key, fence.content(), fence.properties, mandatory=True
            )
            oracle.confirmed(fence.identity)
            oracle.synced(queue, taken, [item.identity for _, item in found])
    declare_fleeting(connection.channel())
    connection.close()
    fail_on_violations(oracle)
    return counts


def fail_on_violations(oracle):
    if not oracle.violations:
        return
    by_queue = {}
    for text in oracle.violations:
        by_queue.setdefault(text.split(":")[0], []).append(text)
    lines = [f"{len(oracle.violations)} violations of the promise:"]
    for texts in by_queue.values():
        lines += texts[:8]
        if len(texts) > 8:
            lines.append(f"(and {len(texts) - 8} more of this queue)")
    raise AssertionError("\n  ".join(lines))


def restart(server, rng):
    """Starts the killed server again, now and then with a kill in the middle of its recovery."""
    kills = 0
    while rng.random() < 0.3:
        server.spawn(server.port, wait=False)
        time.sleep(rng.uniform(0.0, 0.2))
        server.kill()
        kills += 1
    return server.start(), kills


def verify(server):
    """`haypile verify` finds nothing to complain of in a data directory."""
    command = [os.environ["HAYPILE_BIN"], "verify", str(server.directory)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, f"{command}: exit {result.returncode}\n{result.stdout}{result.stderr}"


def kill_rounds(scratch, seed, first, last):
    """The rounds `first` up to but not including `last`, on one data directory."""
    load = workload.Workload(f"{seed}/{first}")
    oracle = Oracle(workload.QUEUES)
    server = harness.Server(scratch / f"data-{first}")
    server.start()
    prepare(server)
    for number in range(first, last):
        began = time.monotonic()
        rng = random.Random(f"{seed}/{number}")
        storm = Storm(server, oracle, load, rng)
        storm.run()
        stormed = time.monotonic() - began
        took, kills = restart(server, rng)
        counts = look(server, oracle, load, rng)
        print(
            f"round {number + 1}/{ROUNDS}: {storm.persistent_confirmed} confirmed and "
            f"{storm.acknowledged} acknowledged in {stormed:.1f} s, killed {storm.delay:.3f} s after "
            f"the {CONFIRMED_PER_ROUND}th confirm{f' and {kills} times more in recovery' * bool(kills)}, "
            f"ready in {took:.2f} s; {sum(found for found, _ in counts.values())} messages found, "
            f"{sum(required for _, required in counts.values())} of them required; "
            f"round took {time.monotonic() - began:.1f} s",
            flush=True,
        )
    server.stop()
    verify(server)
    server.start()
    look(server, oracle, load, None, acknowledge=False)
    server.close()


def main():
    if not harness.owns_server():
        raise SystemExit("test_durability kills its server: it cannot run against INTEROP_BROKER")
    harness.deadline(120 + 80 * ROUNDS)
    began = time.monotonic()
    seed = int(os.environ.get("HAYPILE_DURABILITY_SEED") or random.SystemRandom().getrandbits(32))
    print(f"HAYPILE_DURABILITY_SEED={seed} HAYPILE_DURABILITY_ROUNDS={ROUNDS}", flush=True)
    with harness.Scratch("durability") as scratch:
        for first in range(0, ROUNDS, ROUNDS_PER_DIRECTORY):
            kill_rounds(scratch, seed, first, min(first + ROUNDS_PER_DIRECTORY, ROUNDS))
    print(f"{ROUNDS} kill rounds passed in {time.monotonic() - began:.0f} s, seed {seed}", flush=True)


if __name__ == "__main__":
    main()
