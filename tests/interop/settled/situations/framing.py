"""Frames that are not as they should be, and methods that are not there."""

import struct

import pika
import pika.spec as spec

from settled import wire


def _publish_method(channel):
    return wire.method_frame(channel.number, spec.Basic.Publish(routing_key="q"))


def _send(channel, data, what):
    channel.connection.send_bytes(data, what)
    channel.receive()


def ends_a_frame_wrongly(room):
    a = room.channel()
    _send(a, wire.frame(wire.METHOD, 1, b"\0\x14\0\x28", end=b"\0"), "a frame that ends with 0")


def sends_a_frame_of_an_unknown_type(room):
    a = room.channel()
    _send(a, wire.frame(7, 1, b""), "a frame of type 7")


def sends_a_larger_frame_than_agreed(room):
    a = room.channel()
    data = _publish_method(a) + wire.header_frame(1, 200_000, pika.BasicProperties())
    _send(a, data + wire.frame(wire.BODY, 1, bytes(200_000)), "a message of 200,000 bytes in one frame")


def sends_a_heartbeat_on_a_channel(room):
    a = room.channel()
    _send(a, wire.frame(wire.HEARTBEAT, 1, b""), "a heartbeat on channel 1")


def sends_a_heartbeat(room):
    a = room.channel()
    a.connection.send_bytes(wire.frame(wire.HEARTBEAT, 0, b""), "a heartbeat")
    a.declare()


def sends_an_unknown_class(room):
    a = room.channel()
    _send(a, wire.frame(wire.METHOD, 1, struct.pack(">HH", 99, 1)), "class 99, method 1")


def sends_an_unknown_method(room):
    a = room.channel()
    _send(a, wire.frame(wire.METHOD, 1, struct.pack(">HH", 50, 99)), "class 50, method 99")


def sends_a_method_that_only_the_broker_sends(room):
    a = room.channel()
    a.call(spec.Queue.DeclareOk(queue="q", message_count=0, consumer_count=0))


def sends_a_method_that_ends_early(room):
    a = room.channel()
    _send(a, wire.frame(wire.METHOD, 1, struct.pack(">HHHB", 50, 10, 0, 200)), "half a queue.declare")


def sends_a_content_header_without_a_method(room):
    a = room.channel()
    _send(a, wire.header_frame(1, 5, pika.BasicProperties()), "a content header")


def sends_a_body_without_a_header(room):
    a = room.channel()
    _send(a, wire.frame(wire.BODY, 1, b"body"), "a body")


def sends_a_body_instead_of_a_header(room):
    a = room.channel()
    _send(a, _publish_method(a) + wire.frame(wire.BODY, 1, b"body"), "basic.publish, a body")


def sends_a_method_instead_of_a_header(room):
    a = room.channel()
    _send(a, _publish_method(a) + _publish_method(a), "basic.publish, basic.publish")


def sends_a_method_instead_of_a_body(room):
    a = room.channel()
    header = wire.header_frame(1, 5, pika.BasicProperties())
    _send(a, _publish_method(a) + header + _publish_method(a), "basic.publish, its header, basic.publish")


def sends_a_header_of_another_class(room):
    a = room.channel()
    header = wire.header_frame(1, 5, pika.BasicProperties(), class_id=50)
    _send(a, _publish_method(a) + header, "basic.publish, a header of class 50")


def sends_a_larger_body_than_announced(room):
    a = room.channel()
    data = _publish_method(a) + wire.header_frame(1, 3, pika.BasicProperties())
    _send(a, data + wire.frame(wire.BODY, 1, b"four"), "three bytes announced, four sent")


def sends_a_message_without_a_body(room):
    a = room.channel()
    a.declare()
    a.publish(b"")
    a.get()


def sends_a_body_in_many_frames(room):
    a = room.channel()
    a.declare()
    data = _publish_method(a) + wire.header_frame(1, 6, pika.BasicProperties())
    for piece in (b"a", b"", b"bcd", b"ef"):
        data += wire.frame(wire.BODY, 1, piece)
    a.connection.send_bytes(data, "a message in four pieces, one of them empty")
    a.get()


def announces_a_larger_message_than_allowed(room):
    a = room.channel()
    a.declare()
    header = wire.header_frame(1, 1 << 40, pika.BasicProperties())
    _send(a, _publish_method(a) + header, "basic.publish, a header that announces a TiB")


def asks_for_an_immediate_delivery(room):
    a = room.channel()
    a.publish(immediate=True)
    a.receive()


def asks_for_a_prefetch_size(room):
    a = room.channel()
    a.qos(prefetch_size=1000)


def recovers_without_requeueing(room):
    a = room.channel()
    a.recover(requeue=False)


def stops_the_flow(room):
    a = room.channel()
    a.call(spec.Channel.Flow(active=False))


def starts_the_flow(room):
    a = room.channel()
    a.call(spec.Channel.Flow(active=True))


def selects_an_access_realm(room):
    a = room.channel()
    payload = struct.pack(">HH", 30, 10) + b"\x05/data" + b"\x1f"
    a.connection.send_bytes(wire.frame(wire.METHOD, 1, payload), "access.request")
    kind, channel, answer = a.connection.wire.frame()
    room.note(f"a{channel} < frame {kind}, class and method {struct.unpack('>HH', answer[:4])}")
