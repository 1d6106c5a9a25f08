"""Queues and exchanges: declaring them, again and differently, and deleting them."""

import pika.spec as spec


def declares_a_queue(room):
    a = room.channel()
    a.declare(durable=True)
    a.declare(durable=True)


def declares_a_queue_without_a_name(room):
    a = room.channel()
    a.declare("")
    a.publish(key="")
    a.get("")


def looks_for_a_queue_without_a_name(room):
    a = room.channel()
    a.declare("")
    a.declare("", passive=True)


def means_the_last_declared_queue(room):
    a = room.channel()
    a.declare("q")
    a.bind("", "amq.fanout")
    a.publish(exchange="amq.fanout")
    a.count("q")
    a.get("")
    a.purge("")
    a.delete("")


def means_the_last_declared_queue_where_there_is_none(room):
    a = room.channel()
    a.get("")


def binds_the_last_declared_queue_without_a_key(room):
    a = room.channel()
    a.declare("q")
    a.bind("", "amq.direct", "")
    a.publish(exchange="amq.direct", key="q")
    a.get("q")
    a.publish(exchange="amq.direct", key="")
    a.get("q")


def declares_a_queue_again_not_durable(room):
    a = room.channel()
    a.declare(durable=True)
    a.declare(durable=False)


def declares_a_queue_again_with_auto_delete(room):
    a = room.channel()
    a.declare()
    a.declare(auto_delete=True)


def declares_a_queue_again_exclusive(room):
    a = room.channel()
    a.declare()
    a.declare(exclusive=True)


def declares_a_queue_again_with_an_argument(room):
    a = room.channel()
    a.declare()
    a.declare(arguments={"x-message-ttl": 1000})


def declares_a_queue_again_with_another_value(room):
    a = room.channel()
    a.declare(arguments={"x-message-ttl": 1000})
    a.declare(arguments={"x-message-ttl": 2000})


def declares_a_queue_again_without_its_argument(room):
    a = room.channel()
    a.declare(arguments={"x-expires": 60_000})
    a.declare()


def declares_a_queue_with_an_argument_of_no_meaning(room):
    a = room.channel()
    a.declare(arguments={"x-no-such-thing": "1"})
    a.declare()


def declares_a_reserved_queue_name(room):
    a = room.channel()
    a.declare("amq.mine")


def looks_for_a_queue_that_is_not_there(room):
    a = room.channel()
    a.declare("missing", passive=True)


def looks_for_a_queue_that_differs(room):
    a = room.channel()
    a.declare(durable=True)
    a.declare(passive=True, auto_delete=True, arguments={"x-message-ttl": 5})


def declares_a_queue_of_another_connection(room):
    a, b = room.channel(), room.channel()
    a.declare(exclusive=True)
    b.declare(exclusive=True)


def looks_for_a_queue_of_another_connection(room):
    a, b = room.channel(), room.channel()
    a.declare(exclusive=True)
    b.declare(passive=True)


def consumes_from_a_queue_of_another_connection(room):
    a, b = room.channel(), room.channel()
    a.declare(exclusive=True)
    b.consume()


def deletes_a_queue_of_another_connection(room):
    a, b = room.channel(), room.channel()
    a.declare(exclusive=True)
    b.delete()


def publishes_to_a_queue_of_another_connection(room):
    a, b = room.channel(), room.channel()
    a.declare(exclusive=True)
    b.select()
    b.publish(mandatory=True)
    b.receive()
    a.get()


def leaves_an_exclusive_queue_behind(room):
    a, b = room.channel(), room.channel()
    a.declare(exclusive=True)
    a.connection.send(0, spec.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
    a.receive()
    b.declare(passive=True)


def deletes_a_queue(room):
    a = room.channel()
    a.declare()
    a.publish()
    a.publish()
    a.delete()
    a.declare(passive=True)


def deletes_a_queue_that_is_not_there(room):
    a = room.channel()
    a.delete("missing")


def deletes_the_durable_queue_that_it_consumes_from(room):
    a = room.channel()
    a.declare(durable=True)
    a.consume()
    a.delete()
    a.receive_all()


def deletes_a_queue_in_use_if_it_is_not(room):
    a = room.channel()
    a.declare()
    a.consume()
    a.delete(if_unused=True)


def deletes_a_full_queue_if_it_is_empty(room):
    a = room.channel()
    a.declare()
    a.publish()
    a.delete(if_empty=True)


def deletes_a_queue_with_unacknowledged_messages_if_it_is_empty(room):
    a = room.channel()
    a.declare()
    a.publish()
    a.get(no_ack=False)
    a.delete(if_empty=True)


def purges_a_queue(room):
    a = room.channel()
    a.declare()
    for _ in range(3):
        a.publish()
    a.get(no_ack=False)
    a.purge()
    a.ack(1)
    a.count()


def purges_a_queue_that_is_not_there(room):
    a = room.channel()
    a.purge("missing")


def cancels_the_last_consumer_of_an_auto_delete_queue(room):
    a = room.channel()
    a.declare(auto_delete=True)
    a.consume()
    a.cancel()
    a.declare(passive=True)


def gets_from_an_auto_delete_queue(room):
    a = room.channel()
    a.declare(auto_delete=True)
    a.publish()
    a.get()
    a.declare(passive=True)


def is_told_that_its_queue_was_deleted(room):
    a, b = room.channel(), room.channel()
    a.declare()
    a.consume()
    b.delete()
    a.receive()


def deletes_the_queue_that_it_consumes_from(room):
    a = room.channel()
    a.declare()
    a.consume()
    a.delete()
    a.receive_all()


def is_not_told_that_its_queue_was_deleted(room):
    a, b = room.channel(capabilities={}), room.channel()
    a.declare()
    a.consume()
    b.delete()
    a.receive_all()


def declares_every_type_of_exchange(room):
    a = room.channel()
    for kind in ("direct", "fanout", "topic", "headers"):
        a.exchange(f"x-{kind}", kind)


def declares_an_exchange_of_no_type(room):
    a = room.channel()
    a.exchange(type="sideways")


def declares_an_exchange_again_of_another_type(room):
    a = room.channel()
    a.exchange()
    a.exchange(type="fanout")


def declares_an_exchange_again_durable(room):
    a = room.channel()
    a.exchange()
    a.exchange(durable=True)


def declares_an_exchange_again_with_auto_delete(room):
    a = room.channel()
    a.exchange()
    a.exchange(auto_delete=True)


def declares_an_exchange_again_internal(room):
    a = room.channel()
    a.exchange()
    a.exchange(internal=True)


def declares_an_exchange_again_with_an_alternate(room):
    a = room.channel()
    a.exchange()
    a.exchange(arguments={"alternate-exchange": "other"})


def declares_a_reserved_exchange_name(room):
    a = room.channel()
    a.exchange("amq.mine")


def declares_the_default_exchange(room):
    a = room.channel()
    a.exchange("")


def declares_a_given_exchange(room):
    a = room.channel()
    a.exchange("amq.topic", "topic", durable=True)


def looks_for_an_exchange_that_is_not_there(room):
    a = room.channel()
    a.exchange("missing", passive=True)


def looks_for_the_default_exchange(room):
    a = room.channel()
    a.exchange("", passive=True)


def looks_for_an_exchange_of_another_type(room):
    a = room.channel()
    a.exchange("amq.fanout", "direct", passive=True)


def deletes_an_exchange_that_is_not_there(room):
    a = room.channel()
    a.delete_exchange("missing")


def deletes_the_default_exchange(room):
    a = room.channel()
    a.delete_exchange("")


def deletes_a_given_exchange(room):
    a = room.channel()
    a.delete_exchange("amq.topic")


def deletes_an_exchange_in_use_if_it_is_not(room):
    a = room.channel()
    a.exchange()
    a.declare()
    a.bind()
    a.delete_exchange(if_unused=True)


def deletes_an_exchange_in_use(room):
    a = room.channel()
    a.exchange()
    a.declare()
    a.bind()
    a.delete_exchange()
    a.publish(exchange="x")
    a.receive()


def takes_the_last_binding_of_an_auto_delete_exchange(room):
    a = room.channel()
    a.exchange(auto_delete=True)
    a.declare()
    a.bind()
    a.unbind()
    a.exchange(passive=True)


def deletes_the_last_queue_of_an_auto_delete_exchange(room):
    a = room.channel()
    a.exchange(auto_delete=True)
    a.declare()
    a.bind()
    a.delete()
    a.exchange(passive=True)


def gives_a_name_of_255_bytes(room):
    a = room.channel()
    a.declare("n" * 255)
    a.exchange("n" * 255)


def looks_for_a_queue_of_255_bytes(room):
    a = room.channel()
    a.declare("n" * 255, passive=True)
