"""Calls that are answered without a queue, through `amq.rabbitmq.reply-to`."""

REPLY_TO = "amq.rabbitmq.reply-to"


def asks_without_consuming(room):
    a = room.channel()
    a.declare()
    a.publish(reply_to=REPLY_TO)
    a.receive()


def consumes_replies_with_acknowledgements(room):
    a = room.channel()
    a.consume(REPLY_TO)


def consumes_replies_twice(room):
    a = room.channel()
    a.consume(REPLY_TO, tag="one", no_ack=True)
    a.consume(REPLY_TO, tag="two", no_ack=True)


def consumes_replies(room):
    a = room.channel()
    a.consume(REPLY_TO, no_ack=True)
    a.cancel()
    a.consume(REPLY_TO, no_ack=True)


def asks_and_is_answered(room):
    a, b = room.channel(), room.channel()
    b.declare()
    a.consume(REPLY_TO, tag="answers", no_ack=True)
    a.publish("question", reply_to=REPLY_TO)
    a.count()
    b.get()
    b.publish("answer", key=room.address)
    a.receive()
    b.declare(room.address, passive=True)


def answers_somebody_who_has_gone(room):
    a, b = room.channel(), room.channel()
    b.declare()
    a.consume(REPLY_TO, tag="answers", no_ack=True)
    a.publish("question", reply_to=REPLY_TO)
    a.count()
    b.get()
    a.close()
    b.publish("answer", key=room.address, mandatory=True)
    b.receive()
    b.declare(room.address, passive=True)


def looks_for_the_pseudo_queue(room):
    a = room.channel()
    a.declare(REPLY_TO, passive=True)


def declares_the_pseudo_queue(room):
    a = room.channel()
    a.declare(REPLY_TO)


def gets_from_the_pseudo_queue(room):
    a = room.channel()
    a.get(REPLY_TO)
