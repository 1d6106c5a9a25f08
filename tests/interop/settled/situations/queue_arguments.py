"""Priorities, a single active consumer, the types of queues, and arguments that are accepted."""

QUORUM = {"x-queue-type": "quorum"}


def takes_messages_by_their_priority(room):
    a = room.channel()
    a.declare(arguments={"x-max-priority": 5})
    for body, priority in (("low", 1), ("high", 5), ("middle", 3), ("more than high", 9), ("low too", 1)):
        a.publish(body, priority=priority)
    a.publish("none")
    for _ in range(7):
        a.get()


def requeues_to_its_priority(room):
    a = room.channel()
    a.declare(arguments={"x-max-priority": 5})
    for body, priority in (("1", 1), ("5", 5), ("5 too", 5)):
        a.publish(body, priority=priority)
    a.get(no_ack=False)
    a.reject(1)
    for _ in range(3):
        a.get()


def consumes_by_priority(room):
    a = room.channel()
    a.declare(arguments={"x-max-priority": 5})
    for body, priority in (("1", 1), ("5", 5), ("3", 3)):
        a.publish(body, priority=priority)
    a.qos(1)
    a.consume()
    for tag in (1, 2, 3):
        a.receive()
        a.ack(tag)


def drops_the_head_of_priorities(room):
    a = room.channel()
    a.declare(arguments={"x-max-priority": 5, "x-max-length": 2})
    for body, priority in (("1", 1), ("5", 5), ("3", 3)):
        a.publish(body, priority=priority)
    a.get()
    a.get()
    a.get()


def declares_no_priorities(room):
    a = room.channel()
    a.declare(arguments={"x-max-priority": 0})


def declares_negative_priorities(room):
    a = room.channel()
    a.declare(arguments={"x-max-priority": -1})


def declares_too_many_priorities(room):
    a = room.channel()
    a.declare(arguments={"x-max-priority": 256})


def declares_most_priorities(room):
    a = room.channel()
    a.declare(arguments={"x-max-priority": 255})


def declares_priorities_in_words(room):
    a = room.channel()
    a.declare(arguments={"x-max-priority": "5"})


def declares_other_priorities(room):
    a = room.channel()
    a.declare(arguments={"x-max-priority": 5})
    a.declare(arguments={"x-max-priority": 6})


def has_a_single_active_consumer(room):
    a = room.channel()
    a.declare(arguments={"x-single-active-consumer": True})
    a.consume(tag="first", no_ack=True)
    a.consume(tag="second", no_ack=True)
    a.publish("1")
    a.publish("2")
    a.receive_all()
    a.cancel("first")
    a.publish("3")
    a.receive_all()
    a.count()


def has_a_single_active_consumer_of_higher_priority(room):
    a = room.channel()
    a.declare(arguments={"x-single-active-consumer": True})
    a.consume(tag="first", no_ack=True)
    a.consume(tag="second", no_ack=True, arguments={"x-priority": 10})
    a.publish("1")
    a.receive_all()
    a.consume(tag="third", no_ack=True, arguments={"x-priority": 20})
    a.cancel("first")
    a.publish("2")
    a.receive_all()


def waits_until_the_active_consumer_takes_more(room):
    a, b = room.channel(), room.channel()
    a.declare(arguments={"x-single-active-consumer": True})
    a.qos(1)
    a.consume(tag="first")
    b.consume(tag="second")
    for number in "123":
        a.publish(number)
    a.receive_all()
    b.receive_all()
    a.close()
    b.receive_all()


def gets_beside_a_single_active_consumer(room):
    a = room.channel()
    a.declare(arguments={"x-single-active-consumer": True})
    a.publish()
    a.get()


def consumes_alone_from_a_single_active_queue(room):
    a = room.channel()
    a.declare(arguments={"x-single-active-consumer": True})
    a.consume(exclusive=True)


def declares_a_single_active_consumer_in_words(room):
    a = room.channel()
    a.declare(arguments={"x-single-active-consumer": "true"})


def declares_a_classic_queue(room):
    a = room.channel()
    a.declare(durable=True, arguments={"x-queue-type": "classic"})
    a.declare(durable=True)


def declares_a_queue_of_no_type(room):
    a = room.channel()
    a.declare(durable=True, arguments={"x-queue-type": "sideways"})


def declares_a_type_that_is_a_number(room):
    a = room.channel()
    a.declare(durable=True, arguments={"x-queue-type": 1})


def declares_a_lazy_queue(room):
    a = room.channel()
    a.declare(arguments={"x-queue-mode": "lazy"})
    a.publish()
    a.get()


def declares_a_mode_of_no_meaning(room):
    a = room.channel()
    a.declare(arguments={"x-queue-mode": "sideways"})


def declares_a_version(room):
    a = room.channel()
    a.declare(arguments={"x-queue-version": 2})
    a.publish()
    a.get()


def declares_a_version_of_no_meaning(room):
    a = room.channel()
    a.declare(arguments={"x-queue-version": 7})


def declares_a_master_locator(room):
    a = room.channel()
    a.declare(arguments={"x-queue-master-locator": "min-masters"})


def declares_a_quorum_queue(room):
    a = room.channel()
    a.declare(durable=True, arguments=QUORUM)
    a.select()
    a.publish()
    a.receive()
    a.get(no_ack=False)
    a.ack(1)


def declares_a_quorum_queue_that_is_not_durable(room):
    a = room.channel()
    a.declare(arguments=QUORUM)


def declares_a_quorum_queue_that_is_exclusive(room):
    a = room.channel()
    a.declare(durable=True, exclusive=True, arguments=QUORUM)


def declares_a_quorum_queue_that_deletes_itself(room):
    a = room.channel()
    a.declare(durable=True, auto_delete=True, arguments=QUORUM)


def declares_a_quorum_queue_with_priorities(room):
    a = room.channel()
    a.declare(durable=True, arguments=QUORUM | {"x-max-priority": 5})


def declares_a_quorum_queue_with_a_time(room):
    a = room.channel()
    a.declare(durable=True, arguments=QUORUM | {"x-message-ttl": 300})
    a.publish()
    room.pause(1)
    a.get()


def declares_a_quorum_queue_without_a_name(room):
    a = room.channel()
    a.declare("", durable=True, arguments=QUORUM)


def declares_a_classic_queue_again_as_quorum(room):
    a = room.channel()
    a.declare(durable=True)
    a.declare(durable=True, arguments=QUORUM)


def counts_deliveries(room):
    a = room.channel()
    a.declare(durable=True, arguments=QUORUM)
    a.select()
    a.publish()
    a.receive()
    for tag in (1, 2):
        a.get(no_ack=False)
        a.reject(tag)
        room.pause(0.2)
    a.get()


def delivers_so_often_and_no_more(room):
    a = room.channel()
    a.declare("d")
    arguments = {"x-delivery-limit": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "d"}
    a.declare(durable=True, arguments=QUORUM | arguments)
    a.select()
    a.publish()
    a.receive()
    for tag in (1, 2):
        a.get(no_ack=False)
        a.reject(tag)
        room.pause(0.3)
    a.get()
    a.get("d")


def declares_a_negative_delivery_limit(room):
    a = room.channel()
    a.declare(durable=True, arguments=QUORUM | {"x-delivery-limit": -1})


def declares_a_delivery_limit_on_a_classic_queue(room):
    a = room.channel()
    a.declare(arguments={"x-delivery-limit": 3})


def sets_the_prefetch_of_a_quorum_channel(room):
    a = room.channel()
    a.declare(durable=True, arguments=QUORUM)
    a.qos(1, global_qos=True)
    a.consume()


def consumes_from_a_quorum_queue_alone(room):
    a, b = room.channel(), room.channel()
    a.declare(durable=True, arguments=QUORUM)
    a.consume(exclusive=True)
    b.consume()


def declares_a_stream(room):
    a = room.channel()
    a.declare(durable=True, arguments={"x-queue-type": "stream"})
