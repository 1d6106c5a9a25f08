"""Messages and queues with a time to live."""


def has_messages_that_expire(room):
    a = room.channel()
    a.declare(arguments={"x-message-ttl": 800})
    a.publish()
    a.count()
    room.pause(1.5)
    a.count()
    a.get()


def publishes_a_message_that_expires(room):
    a = room.channel()
    a.declare()
    a.publish("short", expiration="200")
    a.publish("long")
    room.pause(0.6)
    a.get()
    a.get()


def publishes_a_message_that_expires_behind_another(room):
    a = room.channel()
    a.declare()
    a.publish("long")
    a.publish("short", expiration="200")
    room.pause(0.6)
    a.count()
    a.get()
    a.get()


def takes_the_shorter_time_of_the_queue(room):
    a = room.channel()
    a.declare(arguments={"x-message-ttl": 200})
    a.publish(expiration="60000")
    room.pause(0.6)
    a.count()


def takes_the_shorter_time_of_the_message(room):
    a = room.channel()
    a.declare(arguments={"x-message-ttl": 60_000})
    a.publish(expiration="200")
    room.pause(0.6)
    a.count()


def gives_no_time_at_all(room):
    a = room.channel()
    a.declare(arguments={"x-message-ttl": 0})
    a.publish("to nobody")
    a.count()
    a.consume(no_ack=True)
    a.publish("to somebody")
    a.receive_all()


def publishes_a_message_without_any_time(room):
    a = room.channel()
    a.declare()
    a.publish(expiration="0")
    a.count()
    a.get()


def holds_a_message_beyond_its_time(room):
    a = room.channel()
    a.declare(arguments={"x-message-ttl": 800})
    a.publish()
    a.get(no_ack=False)
    room.pause(1.5)
    a.reject(1)
    room.pause(0.2)
    a.get()


def publishes_an_expiration_in_words(room):
    a = room.channel()
    a.publish(expiration="soon")
    a.receive()


def publishes_a_negative_expiration(room):
    a = room.channel()
    a.publish(expiration="-1")
    a.receive()


def publishes_an_expiration_with_a_fraction(room):
    a = room.channel()
    a.publish(expiration="1.5")
    a.receive()


def publishes_an_empty_expiration(room):
    a = room.channel()
    a.publish(expiration="")
    a.receive()


def publishes_an_expiration_that_is_too_long(room):
    a = room.channel()
    a.publish(expiration="99999999999999")
    a.receive()


def declares_a_negative_time(room):
    a = room.channel()
    a.declare(arguments={"x-message-ttl": -1})


def declares_a_time_in_words(room):
    a = room.channel()
    a.declare(arguments={"x-message-ttl": "1000"})


def declares_a_time_that_is_too_long(room):
    a = room.channel()
    a.declare(arguments={"x-message-ttl": 1 << 40})


def declares_a_time_that_is_true(room):
    a = room.channel()
    a.declare(arguments={"x-message-ttl": True})


def has_a_queue_that_expires(room):
    a = room.channel()
    a.declare(arguments={"x-expires": 1000})
    a.count()
    room.pause(2)
    a.count()


def keeps_a_queue_by_using_it(room):
    a = room.channel()
    a.declare(arguments={"x-expires": 2000})
    for _ in range(5):
        room.pause(0.5)
        a.get()
    a.count()


def keeps_a_queue_by_declaring_it(room):
    a = room.channel()
    for _ in range(5):
        a.declare(arguments={"x-expires": 2000})
        room.pause(0.5)
    a.count()


def does_not_keep_a_queue_by_publishing(room):
    a = room.channel()
    a.declare(arguments={"x-expires": 800})
    for _ in range(4):
        a.publish()
        room.pause(0.4)
    a.count()


def keeps_a_queue_by_consuming(room):
    a = room.channel()
    a.declare(arguments={"x-expires": 1000})
    a.consume()
    room.pause(2)
    a.count()
    a.cancel()
    room.pause(2)
    a.count()


def declares_a_queue_that_expires_at_once(room):
    a = room.channel()
    a.declare(arguments={"x-expires": 0})


def declares_a_queue_that_expires_in_words(room):
    a = room.channel()
    a.declare(arguments={"x-expires": "1000"})
