"""Users who may do some things and not others, and virtual hosts that know nothing of each other."""

import pika.spec as spec

LIMITED = {"user": "limited", "password": "secret"}
IDLE = {"user": "idle", "password": "secret"}


def _prepare(operator):
    operator.virtual_host("side")
    for user in ("limited", "idle", "stranger"):
        operator.user(user, "secret")
    operator.permit("limited", "^mine", "^(mine|amq[.]default$)", "^mine")
    operator.permit("idle", "", "", "")
    operator.permit("guest", ".*", ".*", ".*", "side")


def has_no_permissions_in_a_virtual_host(room):
    room.dial().log_in(user="stranger", password="secret")


def enters_a_virtual_host_of_others(room):
    room.dial().log_in(**LIMITED, vhost="side")


def looks_for_a_queue_in_another_virtual_host(room):
    a = room.channel()
    a.declare("q", exclusive=True)
    b = room.channel(vhost="side")
    b.declare("q", passive=True)


def declares_its_own(room):
    a = room.channel(**LIMITED)
    a.exchange("mine-x")
    a.declare("mine-q")
    a.bind("mine-q", "mine-x", "k")
    a.publish(exchange="mine-x", key="k")
    a.get("mine-q")
    a.purge("mine-q")
    a.unbind("mine-q", "mine-x", "k")
    a.delete("mine-q")
    a.delete_exchange("mine-x")


def declares_a_queue_of_others(room):
    a = room.channel(**LIMITED)
    a.declare("other")


def declares_a_queue_without_a_name(room):
    a = room.channel(**LIMITED)
    a.declare("")


def declares_an_exchange_of_others(room):
    a = room.channel(**LIMITED)
    a.exchange("other")


def looks_for_a_queue_of_others(room):
    a, b = room.channel(), room.channel(**LIMITED)
    a.declare("other")
    b.declare("other", passive=True)


def looks_for_an_exchange_of_others(room):
    a = room.channel(**IDLE)
    a.exchange("amq.topic", "topic", passive=True)


def deletes_a_queue_of_others(room):
    a, b = room.channel(), room.channel(**LIMITED)
    a.declare("other")
    b.delete("other")


def deletes_an_exchange_of_others(room):
    a = room.channel(**LIMITED)
    a.delete_exchange("other")


def deletes_what_is_not_there(room):
    a = room.channel(**LIMITED)
    a.delete("other")


def consumes_from_others(room):
    a, b = room.channel(), room.channel(**LIMITED)
    a.declare("other")
    b.consume("other")


def gets_from_others(room):
    a, b = room.channel(), room.channel(**LIMITED)
    a.declare("other")
    b.get("other")


def purges_a_queue_of_others(room):
    a, b = room.channel(), room.channel(**LIMITED)
    a.declare("other")
    b.purge("other")


def publishes_through_the_default_exchange(room):
    a, b = room.channel(), room.channel(**LIMITED)
    a.declare("other")
    b.select()
    b.publish(key="other")
    b.receive()
    a.count("other")


def publishes_where_it_may_not(room):
    a = room.channel(**LIMITED)
    a.select()
    a.publish(exchange="amq.direct")
    a.receive_all()


def publishes_nowhere_at_all(room):
    a = room.channel(**IDLE)
    a.publish(key="q")
    a.receive()


def publishes_to_an_exchange_that_is_not_there(room):
    a = room.channel(**LIMITED)
    a.publish(exchange="missing")
    a.receive()


def binds_to_an_exchange_that_it_may_not_read(room):
    a = room.channel(**LIMITED)
    a.declare("mine-q")
    a.bind("mine-q", "amq.direct", "k")


def binds_a_queue_of_others(room):
    a, b = room.channel(), room.channel(**LIMITED)
    a.declare("other")
    b.exchange("mine-x")
    b.bind("other", "mine-x", "k")


def unbinds_a_queue_of_others(room):
    a, b = room.channel(), room.channel(**LIMITED)
    a.declare("other")
    b.exchange("mine-x")
    b.unbind("other", "mine-x", "k")


def binds_an_exchange_of_others(room):
    a = room.channel(**LIMITED)
    a.exchange("mine-x")
    a.bind_exchange("amq.direct", "mine-x")


def binds_to_a_source_of_others(room):
    a = room.channel(**LIMITED)
    a.exchange("mine-x")
    a.bind_exchange("mine-x", "amq.direct")


def sends_dead_letters_to_others(room):
    a = room.channel(**LIMITED)
    a.declare("mine-q", arguments={"x-dead-letter-exchange": "amq.direct"})


def sends_dead_letters_to_its_own(room):
    a = room.channel(**LIMITED)
    a.declare("mine-q", arguments={"x-dead-letter-exchange": "mine-dead"})


def has_an_alternate_of_others(room):
    a = room.channel(**LIMITED)
    a.exchange("mine-x", arguments={"alternate-exchange": "amq.direct"})


def has_an_alternate_of_its_own(room):
    a = room.channel(**LIMITED)
    a.exchange("mine-x", arguments={"alternate-exchange": "mine-other"})


def awaits_direct_replies(room):
    a = room.channel(**IDLE)
    a.consume("amq.rabbitmq.reply-to", no_ack=True)


def goes_on_after_a_refusal(room):
    a = room.channel(**LIMITED)
    a.declare("other")
    a.call(spec.Channel.Open())
    a.declare("mine-q")
