"""Consumers, basic.get, prefetch, acknowledgements, and messages that come again."""

import pika.spec as spec


def _filled(room, count=3, **queue):
    a = room.channel()
    a.declare(**queue)
    for number in range(1, count + 1):
        a.publish(str(number))
    return a


def gets(room):
    a = _filled(room, 2)
    a.get(no_ack=False)
    a.get()
    a.get()


def gets_from_a_queue_that_is_not_there(room):
    a = room.channel()
    a.get("missing")


def consumes_from_a_queue_that_is_not_there(room):
    a = room.channel()
    a.consume("missing")


def consumes(room):
    a = _filled(room, 2)
    a.consume()
    a.receive_all()
    a.count()


def is_given_a_consumer_tag(room):
    a = room.channel()
    a.declare()
    a.consume(tag="")


def uses_a_consumer_tag_twice(room):
    a = room.channel()
    a.declare()
    a.consume()
    a.consume()


def uses_a_consumer_tag_on_two_channels(room):
    a = room.connect()
    first, second = a.channel(), a.channel()
    first.declare()
    first.consume()
    second.consume()


def cancels_a_consumer_that_is_not_there(room):
    a = room.channel()
    a.cancel("missing")


def cancels_a_consumer(room):
    a = _filled(room, 1)
    a.consume()
    a.receive()
    a.cancel()
    a.publish("2")
    a.ack(1)
    a.receive_all()
    a.count()


def consumes_alone(room):
    a, b = room.channel(), room.channel()
    a.declare()
    a.consume(exclusive=True)
    b.consume()


def consumes_alone_beside_another(room):
    a, b = room.channel(), room.channel()
    a.declare()
    a.consume()
    b.consume(exclusive=True)


def consumes_without_its_own_messages(room):
    a = room.channel()
    a.declare()
    a.consume(no_local=True)
    a.publish()
    a.receive_all()


def shares_with_another(room):
    a = room.channel()
    a.declare()
    a.consume(tag="one", no_ack=True)
    a.consume(tag="two", no_ack=True)
    for number in range(4):
        a.publish(str(number))
    a.receive_all()


def goes_before_another(room):
    a = room.channel()
    a.declare()
    a.consume(tag="low", no_ack=True)
    a.consume(tag="high", no_ack=True, arguments={"x-priority": 5})
    a.publish("1")
    a.publish("2")
    a.receive_all()


def has_a_priority_that_is_a_text(room):
    a = room.channel()
    a.declare()
    a.consume(arguments={"x-priority": "high"})


def has_room_for_one(room):
    a = _filled(room, 3)
    a.qos(1)
    a.consume()
    a.receive_all()
    a.ack(1)
    a.receive_all()


def has_room_for_one_on_each_consumer(room):
    a = _filled(room, 4)
    a.qos(1)
    a.consume(tag="one")
    a.receive()
    a.consume(tag="two")
    a.receive_all()


def has_room_for_one_on_the_channel(room):
    a = _filled(room, 4)
    a.qos(1, global_qos=True)
    a.consume(tag="one")
    a.receive()
    a.consume(tag="two")
    a.receive_all()
    a.ack(1)
    a.receive_all()


def changes_the_room_of_consumers_to_come(room):
    a = _filled(room, 4)
    a.qos(1)
    a.consume(tag="one")
    a.receive()
    a.qos(2)
    a.receive_all()
    a.consume(tag="two")
    a.receive_all()


def changes_the_room_of_the_channel(room):
    a = _filled(room, 4)
    a.qos(1, global_qos=True)
    a.consume()
    a.receive_all()
    a.qos(3, global_qos=True)
    a.receive_all()


def does_not_count_what_it_got(room):
    a = _filled(room, 3)
    a.qos(1)
    a.get(no_ack=False)
    a.consume()
    a.receive_all()


def acknowledges_several(room):
    a = _filled(room, 3)
    a.consume()
    for _ in range(3):
        a.receive()
    a.ack(2, multiple=True)
    a.recover()
    a.receive_all()


def acknowledges_all(room):
    a = _filled(room, 3)
    a.consume()
    for _ in range(3):
        a.receive()
    a.ack(0, multiple=True)
    a.recover()
    a.receive_all()


def acknowledges_all_of_nothing(room):
    a = room.channel()
    a.ack(0, multiple=True)
    a.receive_all()


def acknowledges_nothing(room):
    a = room.channel()
    a.ack(0)
    a.receive()


def acknowledges_what_was_not_delivered(room):
    a = room.channel()
    a.ack(5)
    a.receive()


def acknowledges_several_that_were_not_delivered(room):
    a = room.channel()
    a.ack(5, multiple=True)
    a.receive()


def acknowledges_twice(room):
    a = _filled(room, 1)
    a.get(no_ack=False)
    a.ack(1)
    a.ack(1)
    a.receive()


def acknowledges_what_needs_none(room):
    a = _filled(room, 1)
    a.get(no_ack=True)
    a.ack(1)
    a.receive()


def rejects_and_requeues(room):
    a = _filled(room, 2)
    a.get(no_ack=False)
    a.reject(1)
    a.get()
    a.get()


def rejects_and_drops(room):
    a = _filled(room, 2)
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    a.get()
    a.get()


def rejects_several(room):
    a = _filled(room, 3)
    for _ in range(3):
        a.get(no_ack=False)
    a.nack(2, multiple=True)
    a.get()
    a.get()
    a.get()


def rejects_what_was_not_delivered(room):
    a = room.channel()
    a.reject(9)
    a.receive()


def rejects_all(room):
    a = _filled(room, 2)
    a.get(no_ack=False)
    a.get(no_ack=False)
    a.nack(0, multiple=True, requeue=False)
    a.count()


def recovers(room):
    a = _filled(room, 2)
    a.consume()
    a.receive()
    a.receive()
    a.recover()
    a.receive_all()


def recovers_asynchronously(room):
    a = _filled(room, 1)
    a.get(no_ack=False)
    a.send(spec.Basic.RecoverAsync(requeue=True))
    a.receive_all()
    a.get()


def closes_its_channel_with_messages(room):
    a = _filled(room, 3)
    a.get(no_ack=False)
    a.get(no_ack=False)
    a.close()
    a.open()
    for _ in range(4):
        a.get()


def leaves_with_messages(room):
    a = _filled(room, 1)
    b = room.channel()
    b.consume()
    b.receive()
    b.connection.send(0, spec.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
    b.receive()
    a.get()


