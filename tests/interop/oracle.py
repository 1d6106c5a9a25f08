"""What must, may and must not be in each durable queue after the server was killed and restarted.

The oracle hears of everything that a client does and learns, and judges what a restarted server
gives back. It knows nothing of sockets, so that `test_oracle.py` can try it on queues that lost,
altered, reordered or resurrected a message: a check that cannot fail proves nothing.

A message is, in each queue that it was routed to, one of:

must    confirmed, or found after an earlier restart, and not acknowledged
may     not confirmed, or acknowledged without it being known that the acknowledgement was synced
gone    acknowledged and known to be synced, or missing after an earlier restart, or transient

An acknowledgement (and likewise a delivery) is known to be synced when a persistent message that
was published after it, on the same channel, has been confirmed.
"""

MUST, MAY, ACKNOWLEDGED = "must", "may", "acknowledged"


class Found:
    """One message as a restarted server delivered it."""

    __slots__ = ("identity", "properties", "body", "redelivered")

    def __init__(self, identity, properties, body, redelivered=False):
        self.identity = identity
        self.properties = properties
        self.body = body
        self.redelivered = redelivered


class _Entry:
    __slots__ = ("message", "state", "place", "handed_out")

    def __init__(self, message):
        self.message = message
        self.state = MAY
        self.place = None  # position in the queue, once a restart has shown it
        self.handed_out = False  # a consumer was given it, and that is known to be synced


class _Queue:
    def __init__(self):
        self.entries = {}  # identity -> entry, in the order of publishing
        self.gone = {}  # identity -> why it must not come back


class Oracle:
    """Messages are any objects with `identity` (publisher, number), `persistent`, `properties`
    and `content()`; a publisher counts up, and sends its messages in that order."""

    def __init__(self, queues):
        self._queues = {name: _Queue() for name in queues}
        self._routes = {}  # identity -> queues, until confirmed
        self.violations = []

    def _violation(self, text):
        self.violations.append(text)

    # What the client does and learns.

    def published(self, message, queues):
        """The message is about to be sent, and will be routed to `queues`."""
        self._routes[message.identity] = queues
        for name in queues:
            self._queues[name].entries[message.identity] = _Entry(message)

    def confirmed(self, identity):
        for name in self._routes.pop(identity):
            entry = self._queues[name].entries.get(identity)
            if entry and entry.state == MAY:
                entry.state = MUST

    def delivered(self, name, found):
        """A consumer got this while the server was up. Checks its content."""
        queue = self._queues[name]
        entry = queue.entries.get(found.identity)
        if entry:
            self._check_content(name, entry.message, found)
        else:
            self._violation(f"{name}: delivered {found.identity}, {self._stranger(queue, found)}")

    def acknowledged(self, name, identity):
        """An acknowledgement is about to be sent."""
        entry = self._queues[name].entries.get(identity)
        if entry:
            entry.state = ACKNOWLEDGED

    def synced(self, name, acknowledged, delivered=()):
        """These acknowledgements and deliveries are now known to be on stable storage."""
        queue = self._queues[name]
        for identity in acknowledged:
            if queue.entries.pop(identity, None):
                queue.gone[identity] = "acknowledged, and known to be synced"
        for identity in delivered:
            entry = queue.entries.get(identity)
            if entry:
                entry.handed_out = True

    # What a restarted server gives back.

    def recovered(self, name, contents):
        """Judges the whole content of a queue after a restart; from here on, it is the truth."""
        queue = self._queues[name]
        found = {}
        for item in contents:
            if item.identity in found:
                self._violation(f"{name}: {item.identity} is there twice")
                continue
            entry = queue.entries.get(item.identity)
            if entry is None:
                self._violation(f"{name}: found {item.identity}, {self._stranger(queue, item)}")
                continue
            found[item.identity] = entry
            if not entry.message.persistent:
                self._violation(f"{name}: the transient {item.identity} outlived the server")
            self._check_content(name, entry.message, item)
            # The other way round it may be set: "redelivered" says that a message may have been
            # delivered before, and a server that is not sure after a crash has to set it.
            if entry.handed_out and not item.redelivered:
                self._violation(f"{name}: {item.identity} was handed out, redelivered is not set")
        for identity, entry in queue.entries.items():
            if entry.state == MUST and entry.message.persistent and identity not in found:
                self._violation(f"{name}: LOST {identity}, confirmed and not acknowledged")
        self._check_order(name, found)
        self._settle(queue, found)

    def must(self, name):
        """How many messages have to be in the queue."""
        entries = self._queues[name].entries.values()
        return sum(entry.state == MUST and entry.message.persistent for entry in entries)

    @staticmethod
    def _stranger(queue, found):
        return queue.gone.get(found.identity, "which was never published to this queue")

    def _check_content(self, name, message, found):
        expected = message.content()
        if found.body != expected:
            self._violation(
                f"{name}: {found.identity} has another body: {len(found.body)} bytes for "
                f"{len(expected)}, first difference at {_first_difference(found.body, expected)}"
            )
        if found.properties != message.properties:
            self._violation(
                f"{name}: {found.identity} has other properties: {found.properties} "
                f"for {message.properties}"
            )

    def _check_order(self, name, found):
        """What an earlier restart has shown keeps its order and comes first; what was published
        since comes behind it, in each publisher's order."""
        last_place, newest = -1, {}
        for identity, entry in found.items():
            publisher, number = identity
            if entry.place is not None:
                if newest or entry.place < last_place:
                    self._violation(f"{name}: {identity} is behind a message that came after it")
                last_place = max(last_place, entry.place)
            else:
                if number < newest.get(publisher, number):
                    self._violation(f"{name}: {identity} is behind {newest[publisher]}")
                newest[publisher] = max(number, newest.get(publisher, number))

    def _settle(self, queue, found):
        for identity, entry in queue.entries.items():
            if identity not in found:
                queue.gone[identity] = (
                    "which was not there after an earlier restart"
                    if entry.message.persistent
                    else "a transient message of before an earlier restart"
                )
        for place, entry in enumerate(found.values()):
            entry.place = place
            entry.state = MUST
        queue.entries = found
        self._routes = {}


def _first_difference(left, right):
    for index, (a, b) in enumerate(zip(left, right)):
        if a != b:
            return index
    return min(len(left), len(right))
