"""From the protocol header to the open virtual host, and what ends a connection."""

import struct

import pika.spec as spec

from settled import wire


def greets_another_protocol(room):
    a = room.dial()
    a.send_bytes(b"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1")
    room.note(f"a  < {a.wire.rest()!r}")


def greets_another_version(room):
    a = room.dial()
    a.send_bytes(b"AMQP\x00\x02\x00\x00", "AMQP 0 2 0 0")
    room.note(f"a  < {a.wire.rest()!r}")


def greets_the_version_before(room):
    a = room.dial()
    a.send_bytes(b"AMQP\x01\x01\x00\x09", "AMQP 1 1 0 9")
    room.note(f"a  < {a.wire.some(4)!r}")


def is_told_what_the_broker_can(room):
    a = room.dial()
    a.send_bytes(wire.HEADER)
    start = wire.decoded(a.wire.frame()[2])
    for name, value in sorted(start.server_properties["capabilities"].items()):
        room.note(f"capability {name}={value}")
    for mechanism in sorted(start.mechanisms.split()):
        room.note(f"mechanism {mechanism.decode()}")
    room.note(f"locales {start.locales.decode()}")


def logs_in_with_plain(room):
    room.dial().log_in()


def logs_in_with_amqplain(room):
    table = b"".join(
        struct.pack(">B", len(name)) + name + b"S" + struct.pack(">I", 5) + b"guest" for name in (b"LOGIN", b"PASSWORD")
    )
    room.dial().log_in(mechanism="AMQPLAIN", response=table.decode())


def has_a_wrong_password(room):
    a = room.dial()
    a.log_in(password="wrong")
    a.receive()


def has_a_wrong_password_and_cannot_be_told(room):
    room.dial().log_in(password="wrong", capabilities={})


def is_nobody(room):
    room.dial().log_in(user="nobody")


def asks_for_an_unknown_mechanism(room):
    room.dial().log_in(mechanism="MAGIC")


def opens_a_virtual_host_that_is_not_there(room):
    room.dial().log_in(vhost="elsewhere")


def wants_more_channels_than_offered(room):
    room.dial().log_in(tune={"channel_max": 3000})


def wants_larger_frames_than_offered(room):
    room.dial().log_in(tune={"frame_max": 10_000_000})


def wants_frames_that_are_too_small(room):
    room.dial().log_in(tune={"frame_max": 100})


def opens_a_channel_beyond_the_agreed(room):
    a = room.connect(tune={"channel_max": 5})
    a.send(6, spec.Channel.Open())
    a.receive()


def opens_more_channels_than_agreed(room):
    a = room.connect(tune={"channel_max": 2})
    for number in (1, 2, 3):
        a.send(number, spec.Channel.Open())
        a.receive()


def opens_a_channel_twice(room):
    a = room.channel()
    a.open()


def uses_a_channel_that_is_not_open(room):
    a = room.connect()
    a.send(1, spec.Queue.Declare(queue="q"))
    a.receive()


def uses_a_channel_after_it_was_refused(room):
    a = room.channel()
    a.declare("missing", passive=True)
    a.declare("q")
    a.receive()


def opens_a_channel_again_after_it_was_refused(room):
    a = room.channel()
    a.declare("missing", passive=True)
    a.open()
    a.declare("q")


def closes_a_channel(room):
    a = room.channel()
    a.close()
    a.open()


def closes_a_channel_that_is_not_open(room):
    a = room.connect()
    a.send(3, spec.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
    a.receive()


def closes_the_connection(room):
    a = room.connect()
    a.send(0, spec.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
    a.receive()


def opens_the_connection_twice(room):
    a = room.connect()
    a.send(0, spec.Connection.Open(virtual_host="/"))
    a.receive()


def sends_a_new_secret(room):
    a = room.connect()
    payload = struct.pack(">HH", 10, 70) + struct.pack(">I", 5) + b"guest" + b"\x03new"
    a.send_bytes(wire.frame(wire.METHOD, 0, payload), "connection.update-secret")
    _, _, answer = a.wire.frame()
    room.note(f"a0 < class and method {struct.unpack('>HH', answer[:4])}")


def sends_a_method_on_channel_zero(room):
    a = room.connect()
    a.send(0, spec.Queue.Declare(queue="q"))
    a.receive()


def sends_a_connection_method_on_a_channel(room):
    a = room.channel()
    a.call(spec.Connection.Open(virtual_host="/"))
