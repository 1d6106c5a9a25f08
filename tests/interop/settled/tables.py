"""Field tables and properties as one line of text, in which the type of every number can be read."""

import struct

_NUMBERS = {
    b"b": ">b",
    b"B": ">B",
    b"s": ">h",
    b"u": ">H",
    b"I": ">i",
    b"i": ">I",
    b"l": ">q",
    b"L": ">q",
    b"f": ">f",
    b"d": ">d",
}

# The basic properties in the order of their flags, highest bit first.
_PROPERTIES = [
    ("content_type", "text"),
    ("content_encoding", "text"),
    ("headers", "table"),
    ("delivery_mode", "octet"),
    ("priority", "octet"),
    ("correlation_id", "text"),
    ("reply_to", "text"),
    ("expiration", "text"),
    ("message_id", "text"),
    ("timestamp", "timestamp"),
    ("type", "text"),
    ("user_id", "text"),
    ("app_id", "text"),
    ("cluster_id", "text"),
]


class Reader:
    """Takes values off the front of some bytes."""

    def __init__(self, data):
        self._data = data
        self._at = 0

    def bytes(self, count):
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise ValueError("the bytes end within a value")
        self._at += count
        return taken

    def number(self, layout):
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))[0]

    def short_text(self):
        return self.bytes(self.number(">B")).decode("utf-8", "backslashreplace")

    def long_bytes(self):
        return self.bytes(self.number(">I"))

    def at_end(self):
        return self._at == len(self._data)


def table(data):
    """`{name=value, ...}`, sorted by name."""
    reader, entries = Reader(data), []
    while not reader.at_end():
        name = reader.short_text()
        entries.append(f"{name}={_value(reader, name)}")
    return "{" + ", ".join(sorted(entries)) + "}"


def _value(reader, name=""):
    kind = reader.bytes(1)
    if kind in _NUMBERS:
        return f"{reader.number(_NUMBERS[kind])}:{kind.decode()}"
    if kind == b"t":
        return "true" if reader.number(">B") else "false"
    if kind == b"S":
        return repr(reader.long_bytes().decode("utf-8", "backslashreplace"))
    if kind == b"x":
        return repr(reader.long_bytes())
    if kind == b"F":
        return table(reader.long_bytes())
    if kind == b"A":
        values = Reader(reader.long_bytes())
        texts = []
        while not values.at_end():
            texts.append(_value(values))
        return "[" + ", ".join(texts) + "]"
    if kind == b"T":
        seconds = reader.number(">Q")
        # When a message died: it differs from run to run.
        return "(now):T" if name == "time" else f"{seconds}:T"
    if kind == b"D":
        return f"{reader.number('>B')}/{reader.number('>i')}:D"
    if kind == b"V":
        return "void"
    raise ValueError(f"no field type {kind!r}")


def properties(data):
    """`{name=value, ...}` of a content header after its body size: those that are there, in their order on the wire."""
    reader = Reader(data)
    flags, texts = reader.number(">H"), []
    for position, (name, kind) in enumerate(_PROPERTIES):
        if not flags & (0x8000 >> position):
            continue
        if kind == "text":
            texts.append(f"{name}={reader.short_text()!r}")
        elif kind == "octet":
            texts.append(f"{name}={reader.number('>B')}")
        elif kind == "timestamp":
            texts.append(f"{name}={reader.number('>Q')}")
        else:
            texts.append(f"{name}={table(reader.long_bytes())}")
    return "{" + ", ".join(texts) + "}"
