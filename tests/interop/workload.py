"""What the durability test publishes, and where: made from a seed, so that it can be repeated."""

import random

import pika

# Durable exchanges, as (name, type).
EXCHANGES = [
    ("orders", "direct"),
    ("copies", "fanout"),
    ("rocks", "topic"),
    ("kinds", "headers"),
    ("relay", "fanout"),
]

# Durable queues, and whether a consumer takes from them while messages are published.
QUEUES = {
    "plain": True,
    "orders.eu": True,
    "orders.us": False,
    "copies.1": False,
    "copies.2": True,
    "stones": True,
    "slates": False,
    "mosses": False,
    "fences": False,
}

# (queue, exchange, routing key, arguments)
BINDINGS = [
    ("orders.eu", "orders", "eu", None),
    ("orders.us", "orders", "us", None),
    ("copies.1", "copies", "", None),
    ("copies.2", "copies", "", None),
    ("stones", "rocks", "*.stone.#", None),
    ("stones", "rocks", "#.slate", None),
    ("slates", "rocks", "#.slate", None),
    ("mosses", "kinds", "", {"x-match": "all", "kind": "moss", "wet": True}),
]

# Exchange to exchange: (destination, source, routing key).
EXCHANGE_BINDINGS = [("orders", "relay", "")]

# (exchange, routing key, extra headers, durable queues that get the message)
ROUTES = [
    ("", "plain", {}, ["plain"]),
    ("orders", "eu", {}, ["orders.eu"]),
    ("orders", "us", {}, ["orders.us"]),
    ("copies", "any", {}, ["copies.1", "copies.2"]),
    ("rocks", "grey.stone", {}, ["stones"]),
    ("rocks", "grey.stone.slate", {}, ["stones", "slates"]),
    ("kinds", "", {"kind": "moss", "wet": True}, ["mosses"]),
    ("relay", "us", {}, ["orders.us"]),
]

MEBIBYTE = 1 << 20
FRAME_BODY = 131072 - 8  # what fits into one body frame of the usual frame_max
_POOL_BYTES = 4 * MEBIBYTE


class Message:
    """A message as the oracle wants it; its body is a slice of the pool, so that no copy is kept."""

    __slots__ = ("identity", "persistent", "properties", "size", "_pool", "_offset")

    def __init__(self, identity, persistent, properties, pool, offset, size):
        self.identity = identity
        self.persistent = persistent
        self.properties = properties
        self.size = size
        self._pool = pool
        self._offset = offset

    def content(self):
        return self._pool[self._offset : self._offset + self.size]


class Workload:
    """The messages of any number of publishers, each publisher's in its own order."""

    def __init__(self, seed):
        self._seed = seed
        self._pool = random.Random(seed).getrandbits(8 * _POOL_BYTES).to_bytes(_POOL_BYTES, "little")
        self._publishers = {}

    def publisher(self, name):
        """One publisher; the same again for the same name."""
        if name not in self._publishers:
            self._publishers[name] = Publisher(name, self._seed, self._pool)
        return self._publishers[name]


class Publisher:
    """What one publisher sends depends on the seed, its name and how much it has sent."""

    def __init__(self, name, seed, pool):
        self._name = name
        self._random = random.Random(f"{seed}/{name}")
        self._pool = pool
        self._number = 0

    def message(self):
        """The next message: (message, exchange, routing key, queues)."""
        exchange, key, headers, queues = self._random.choice(ROUTES)
        persistent = self._random.random() >= 0.05
        return self._make(self._size(), persistent, headers), exchange, key, queues

    def fence(self):
        """A small persistent message for the queue `fences`, through the default exchange."""
        return self._make(16, True, {}), "", "fences", ["fences"]

    def _make(self, size, persistent, headers):
        identity = (self._name, self._number)
        self._number += 1
        offset = self._random.randrange(_POOL_BYTES - size + 1)
        properties = self._properties(identity, persistent, headers)
        return Message(identity, persistent, properties, self._pool, offset, size)

    def _size(self):
        """0 B to 1 MiB: most are small; 10,000 of them are about 40 MiB."""
        kind = self._random.random()
        if kind < 0.05:
            return 0
        if kind < 0.90:
            return self._random.randrange(1, 512)
        if kind < 0.96:
            return self._random.choice((511, 512, 513, 4095, 4096, 4097, 8192))
        if kind < 0.99:
            return self._random.randrange(4096, 32768)
        if kind < 0.998:
            return self._random.choice((65536, FRAME_BODY - 1, FRAME_BODY, FRAME_BODY + 1))
        return self._random.choice((MEBIBYTE, MEBIBYTE - 1, 2 * FRAME_BODY, 5 * FRAME_BODY + 1))

    @staticmethod
    def _properties(identity, persistent, headers):
        number = identity[1]
        properties = pika.BasicProperties(
            message_id=f"{identity[0]}/{number}", delivery_mode=2 if persistent else 1
        )
        if headers:
            properties.headers = dict(headers)
        if number % 7 == 0:
            properties.headers = {
                **headers,
                "large": 2**40 + number,
                "small": -number,
                "text": "h\u00e4y",
                "yes": True,
                "nothing": None,
                "list": [1, "two", False],
                "table": {"inner": {"number": number}},
            }
            properties.content_type = "application/octet-stream"
            properties.content_encoding = "identity"
            properties.priority = number % 10
            properties.correlation_id = "c" * (number % 256)
            properties.reply_to = "somewhere"
            properties.timestamp = 1_700_000_000 + number
            properties.type = "test"
            properties.user_id = "guest"
            properties.app_id = "interop"
        return properties


def identity_of(properties):
    """Whose message it is, and which: read from its properties, for it may have no body."""
    publisher, number = properties.message_id.split("/")
    return publisher, int(number)


def declare(channel):
    """Declares everything, durable; on a server that has it already, a check that it is equivalent."""
    for name, kind in EXCHANGES:
        channel.exchange_declare(exchange=name, exchange_type=kind, durable=True)
    for name in QUEUES:
        channel.queue_declare(queue=name, durable=True)


def bind(channel):
    for queue, exchange, key, arguments in BINDINGS:
        channel.queue_bind(queue=queue, exchange=exchange, routing_key=key, arguments=arguments)
    for destination, source, key in EXCHANGE_BINDINGS:
        channel.exchange_bind(destination=destination, source=source, routing_key=key)
