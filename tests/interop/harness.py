"""Starts, kills and restarts the server, and runs client programs beside it. Everything is bounded in time.

What the tests get from the environment:

HAYPILE_BIN      path of the `haypile` binary (needed unless INTEROP_BROKER is set)
INTEROP_SCRATCH  directory for data directories and server logs; a temporary one if unset
INTEROP_BROKER   HOST:PORT (or amqp://…:PORT/) of a broker that already runs, to try the programs against another server;
                 tests that must kill or restart the server refuse to run then

The client programs come from `programs/` (pika 1.x) or `programs_0x/` (pika 0.x), whichever fits the
pika of the running interpreter, and find their broker by AMQP_PORT on `localhost`.
"""

import atexit
import faulthandler
import os
import queue
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pika

HERE = Path(__file__).resolve().parent
CLASSIC = pika.__version__.startswith("0.")
PROGRAMS = HERE / ("programs_0x" if CLASSIC else "programs")

START_SECONDS = 60  # from spawn to the line "ready"; recovery included
STOP_SECONDS = 60  # from SIGTERM to exit
MESSAGE_SECONDS = 60  # for anything that a healthy broker does at once, however busy the machine is
TEST_SECONDS = 270  # for all of a test: less than `tests/interop.rs` gives it, who cannot say what it was waiting for

_children = []
_reservations = []  # of ports, while they are open


def _kill_children():
    for child in _children:
        if child.poll() is None:
            child.kill()


atexit.register(_kill_children)


def deadline(seconds):
    """Ends this test, its servers and its programs after `seconds`, or when its parent is gone."""
    parent = os.getppid()
    end = time.monotonic() + seconds

    def watch():
        while time.monotonic() < end and os.getppid() == parent:
            time.sleep(0.5)
        if os.getppid() == parent:
            print(f"DEADLINE: not done within {seconds} s", file=sys.stderr, flush=True)
            faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        _kill_children()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def wait_until(condition, what, within=MESSAGE_SECONDS):
    """Polls `condition` until it is true; fails with `what` after `within` seconds."""
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.02)


class Process:
    """A child process whose output lines (stdout and stderr) can be waited for."""

    def __init__(self, name, command, log=None, **options):
        self.name = name
        self.lines = []  # (time.monotonic(), text) of every line so far
        self._unread = queue.Queue()
        self._log = log
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **options,
        )
        _children.append(self._child)
        self.pid = self._child.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._child.stdout:
            line = line.rstrip("\n")
            if self._log:
                self._log.write(line + "\n")
                self._log.flush()
            self.lines.append((time.monotonic(), line))
            self._unread.put(line)
        self._unread.put(None)

    def expect(self, pattern, within=MESSAGE_SECONDS):
        """The match of the next unread line that matches `pattern`; lines before it are skipped."""
        end = time.monotonic() + within
        while True:
            try:
                line = self._unread.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{self}: no line like {pattern!r} within {within} s") from None
            if line is None:
                self._unread.put(None)
                raise AssertionError(f"{self}: ended without a line like {pattern!r}")
            match = re.search(pattern, line)
            if match:
                return match

    def matches(self, pattern):
        """The matches of all lines so far that match `pattern`, read or not."""
        found = (re.search(pattern, line) for _, line in list(self.lines))
        return [match for match in found if match]

    def running(self):
        return self._child.poll() is None

    def kill(self):
        """SIGKILL; returns when the process is gone and its output has been read."""
        self._child.kill()
        self._gone(MESSAGE_SECONDS)

    def wait(self, within=MESSAGE_SECONDS):
        """Waits for the process to end by itself, and gives its exit code."""
        try:
            self._gone(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self}: still running after {within} s") from None
        return self._child.returncode

    def succeed(self, within=MESSAGE_SECONDS):
        code = self.wait(within)
        if code != 0:
            raise AssertionError(f"{self}: exit code {code}")

    def signal(self, number):
        self._child.send_signal(number)

    def _gone(self, within):
        self._child.wait(within)
        self._reader.join(within)

    def __str__(self):
        tail = "".join(f"\n    | {line}" for _, line in self.lines[-20:])
        return f"{self.name} (pid {self.pid}){tail}"


def program(server, name, *arguments):
    """Starts `name` of the program directory that fits this pika, as a process of its own."""
    environment = dict(os.environ, AMQP_PORT=str(server.port), PYTHONUNBUFFERED="1")
    command = [sys.executable, str(PROGRAMS / name), *map(str, arguments)]
    return Process(name, command, env=environment)


def _has_ipv6_loopback():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def free_port():
    """A port that was free a moment ago, and that no other of these tests takes while this process lives.

    It is none of those that the system gives to clients. Of these, one of all the clients that connect at the time might get it
    while a killed server is away: even a client of that server, which is then connected to itself.
    """
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    while True:
        port = random.choice([*range(10_000, first), *range(last + 1, 65_536)])
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            reservation.bind(f"\0haypile-interop-{port}")
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation)
        return port


class Server:
    """`haypile serve` on a data directory; the port and the settings, as in `KEY=VALUE`, stay the same over restarts."""

    def __init__(self, directory, settings=(), addresses=()):
        self.directory = Path(directory)
        self.settings = settings
        self.addresses = addresses  # to listen on besides
        self.port = None
        self._process = None
        self._log = open(self.directory.parent / (self.directory.name + ".log"), "a")

    def start(self):
        """Starts the server and returns once it accepts connections; gives the seconds that took."""
        began = time.monotonic()
        for attempt in range(5):
            if self.spawn(self.port or free_port()):
                return time.monotonic() - began
            # The port was free a moment ago; somebody who is none of the tests may have got it meanwhile.
        raise AssertionError(f"the server does not start: {self._process}")

    def spawn(self, port, wait=True):
        """Starts the process; with `wait`, until "ready" (True) or until it ended early (False)."""
        binary = os.environ.get("HAYPILE_BIN")
        if not binary:
            raise SystemExit("set HAYPILE_BIN to the haypile binary, or INTEROP_BROKER to HOST:PORT")
        # The shape of the product's default: both loopback addresses, one port.
        listen = ["--listen", f"127.0.0.1:{port}"]
        if _has_ipv6_loopback():
            listen += ["--listen", f"[::1]:{port}"]
        for address in self.addresses:
            listen += ["--listen", address]
        command = [binary, "serve", "--data-dir", str(self.directory), *listen]
        for setting in self.settings:
            command += ["--set", setting]
        self._process = Process("server", command, log=self._log)
        if not wait:
            return True
        try:
            ready = self._process.expect(r"^ready\b.*", START_SECONDS)
        except AssertionError:
            if self._process.running() or self.port is not None:
                raise
            return False
        if f"127.0.0.1:{port}" not in ready.group(0):
            raise AssertionError(f"the ready line does not name 127.0.0.1:{port}: {ready.group(0)!r}")
        self.port = port
        return True

    def kill(self):
        """SIGKILL, at this very moment."""
        if not self._process.running():
            raise AssertionError(f"the server ended before it was killed: {self._process}")
        self._process.kill()

    def stop(self):
        """SIGTERM; a clean stop has exit code 0."""
        self._process.signal(signal.SIGTERM)
        self._process.succeed(STOP_SECONDS)

    def close(self):
        if self._process.running():
            self.stop()
        self._log.close()


class RunningBroker:
    """A broker that somebody else started and will stop."""

    def __init__(self, address):
        self.port = int(re.search(r":(\d+)/?$", address).group(1))

    def close(self):
        pass


class Scratch:
    """A directory for one test: removed when the test passed, kept and named when it failed."""

    def __init__(self, name):
        parent = os.environ.get("INTEROP_SCRATCH")
        self.path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))

    def __enter__(self):
        return self.path

    def __exit__(self, kind, *_):
        _kill_children()
        if kind is None:
            shutil.rmtree(self.path)
        else:
            print(f"server log and data are kept in {self.path}", file=sys.stderr, flush=True)


def connect(server):
    """A blocking connection of the test itself."""
    return pika.BlockingConnection(pika.ConnectionParameters(host="localhost", port=server.port))


def forget(server, *queues):
    """Deletes `queues`: another broker may still have them from an earlier test."""
    connection = connect(server)
    channel = connection.channel()
    for name in queues:
        channel.queue_delete(queue=name)
    connection.close()


def ready_messages(server, name):
    """How many messages of the queue wait for a consumer."""
    connection = connect(server)
    count = connection.channel().queue_declare(queue=name, passive=True).method.message_count
    connection.close()
    return count


def owns_server():
    return "INTEROP_BROKER" not in os.environ


def run_scenario(scenarios, client):
    """Runs the one of `scenarios` that the first argument names, as `run` does, against a server of its own."""
    wanted = dict((scenario.__name__, scenario) for scenario in scenarios)
    if len(sys.argv) < 2 or sys.argv[1] not in wanted:
        raise SystemExit(f"usage: {Path(sys.argv[0]).name} {'|'.join(wanted)}")
    run(wanted[sys.argv[1]], needs_own_server=True, client=client)


def run(test, seconds=TEST_SECONDS, needs_own_server=False, client=f"pika {pika.__version__}"):
    """Runs `test(server)` within `seconds`, against a fresh server or INTEROP_BROKER, and exits."""
    deadline(seconds)
    name = "-".join([Path(sys.argv[0]).stem, *(re.sub(r"\W+", "-", argument) for argument in sys.argv[1:])])
    began = time.monotonic()
    if owns_server():
        with Scratch(name) as scratch:
            server = Server(scratch / "data")
            server.start()
            test(server)
            server.close()
    elif needs_own_server:
        raise SystemExit(f"{name} wants a server of its own: it cannot run against INTEROP_BROKER")
    else:
        test(RunningBroker(os.environ["INTEROP_BROKER"]))
    took = time.monotonic() - began
    print(f"{name}: passed with {client} in {took:.1f} s", flush=True)
