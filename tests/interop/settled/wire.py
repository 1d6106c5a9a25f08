"""Frames over a socket: what the situations are played with. It does nothing by itself, and lets wrong things be sent.

pika lends the layouts of the methods, and nothing else: no state, no checks, no answers.
"""

import re
import socket
import struct
import time

import pika.data
import pika.frame
import pika.spec

from settled import tables

HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, CONTENT_HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"

ANSWER_SECONDS = 5  # for what a healthy broker answers at once
patience = 1  # how many times as long everything is waited for


class Closed(Exception):
    """The broker has closed the socket."""


class Silence(Exception):
    """Nothing came in time."""


class Wire:
    """One socket, and the frames that have come and were not asked for yet."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS * patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, data):
        try:
            self._socket.sendall(data)
        except OSError:
            raise Closed from None

    def frame(self, within=ANSWER_SECONDS):
        """The next frame but heartbeats: its type, channel and payload."""
        end = time.monotonic() + within * patience
        while True:
            if len(self._buffer) >= 7:
                kind, channel, size = struct.unpack(">BHI", self._buffer[:7])
                if len(self._buffer) >= size + 8:
                    payload, self._buffer = self._buffer[7 : size + 7], self._buffer[size + 8 :]
                    if kind != HEARTBEAT:
                        return kind, channel, payload
                    continue
            self._fill(end)

    def some(self, count, within=ANSWER_SECONDS):
        """The next bytes, whatever they are."""
        end = time.monotonic() + within * patience
        while len(self._buffer) < count:
            self._fill(end)
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def rest(self, within=ANSWER_SECONDS):
        """Everything that comes until the broker closes the socket."""
        end = time.monotonic() + within * patience
        try:
            while True:
                self._fill(end)
        except Closed:
            taken, self._buffer = self._buffer, b""
            return taken

    def _fill(self, end):
        left = end - time.monotonic()
        if left <= 0:
            raise Silence
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            raise Silence from None
        except OSError:
            data = b""
        if not data:
            raise Closed
        self._buffer += data

    def close(self):
        self._socket.close()


def frame(kind, channel, payload, end=END):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def method_frame(channel, method):
    payload = struct.pack(">I", method.INDEX) + b"".join(method.encode())
    return frame(METHOD, channel, payload)


def header_frame(channel, size, properties, class_id=60):
    payload = struct.pack(">HHQ", class_id, 0, size) + b"".join(properties.encode())
    return frame(CONTENT_HEADER, channel, payload)


def decoded(payload):
    """The method in a frame's payload."""
    method = pika.spec.methods[struct.unpack(">I", payload[:4])[0]]()
    method.decode(payload, 4)
    return method


def name(method):
    """`queue.declare-ok` for pika's `Queue.DeclareOk`."""
    kind, action = method.NAME.split(".")
    return f"{kind.lower()}.{re.sub('(?<=[a-z])(?=[A-Z])', '-', action).lower()}"


# Fields of which each broker has its own, and those that say nothing.
_UNTOLD = {"ticket", "class_id", "method_id", "cluster_id", "known_hosts"}


def text(method, all_fields):
    """A method on one line: all of its fields, or those that are not as they are by default."""
    usual = {} if all_fields else vars(type(method)())
    words = [name(method)]
    for field, value in vars(method).items():
        if field in _UNTOLD or value is False or (field in usual and usual[field] == value):
            continue
        words.append(field if value is True else f"{field}={_value(value)}")
    return " ".join(words)


def _value(value):
    if isinstance(value, dict):
        pieces = []
        pika.data.encode_table(pieces, value)
        return tables.table(b"".join(pieces)[4:])
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return repr(value) if isinstance(value, str) else str(value)


def body(data):
    return repr(data.decode("utf-8", "backslashreplace")) if len(data) <= 60 else f"{len(data)} bytes"
