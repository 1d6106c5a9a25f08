"""What becomes of messages that were rejected, that have expired, or that there was no room for."""

TO_D = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "d"}


def _queues(room, **arguments):
    """A channel, with `q` whose dead letters go to `d`."""
    a = room.channel()
    a.declare("d")
    a.declare("q", arguments=TO_D | arguments)
    return a


def rejects(room):
    a = _queues(room)
    a.publish(headers={"mine": "kept"}, message_id="7")
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    a.count()
    a.get("d")


def rejects_several(room):
    a = _queues(room)
    for number in range(3):
        a.publish(str(number))
        a.get(no_ack=False)
    a.nack(3, multiple=True, requeue=False)
    a.count()
    for _ in range(3):
        a.get("d")


def requeues(room):
    a = _queues(room)
    a.publish()
    a.get(no_ack=False)
    a.reject(1, requeue=True)
    a.count()
    a.count("d")


def lets_messages_expire(room):
    a = _queues(room, **{"x-message-ttl": 200})
    a.publish()
    room.pause(0.6)
    a.get("d")


def publishes_a_message_that_expires(room):
    a = _queues(room)
    a.publish(expiration="200")
    room.pause(0.6)
    a.get("d")


def has_no_room_for_more(room):
    a = _queues(room, **{"x-max-length": 1})
    a.publish("1")
    a.publish("2")
    a.count()
    a.get()
    a.get("d")


def gives_no_routing_key(room):
    a = room.channel()
    a.exchange("dead", "direct")
    a.declare("d")
    a.bind("d", "dead", "q")
    a.declare("q", arguments={"x-dead-letter-exchange": "dead"})
    a.publish()
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    a.count()
    a.get("d")


def gives_no_routing_key_to_copies(room):
    a = room.channel()
    a.exchange("dead", "topic")
    a.declare("d")
    a.bind("d", "dead", "#")
    a.declare("q", arguments={"x-dead-letter-exchange": "dead"})
    a.publish(headers={"CC": ["elsewhere"], "BCC": ["nowhere"]})
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    a.count()
    a.get("d")


def gives_a_routing_key_to_copies(room):
    a = _queues(room)
    a.publish(headers={"CC": ["elsewhere"]})
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    a.count()
    a.get("d")


def gives_a_routing_key_without_an_exchange(room):
    a = room.channel()
    a.declare(arguments={"x-dead-letter-routing-key": "d"})


def gives_an_exchange_that_is_not_there(room):
    a = room.channel()
    a.declare(arguments={"x-dead-letter-exchange": "missing"})
    a.publish()
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    a.count()


def gives_an_exchange_that_is_a_number(room):
    a = room.channel()
    a.declare(arguments={"x-dead-letter-exchange": 1})


def gives_a_routing_key_that_is_a_number(room):
    a = room.channel()
    a.declare(arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": 1})


def dies_twice_in_different_queues(room):
    a = room.channel()
    a.declare("end")
    a.declare("d", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "end", "x-message-ttl": 100})
    a.declare("q", arguments=TO_D)
    a.publish()
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    room.pause(0.6)
    a.get("end")


def dies_twice_in_the_same_queue(room):
    """A cycle with a rejection in it is no cycle that is dropped."""
    a = room.channel()
    a.declare("d", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q", "x-message-ttl": 100})
    a.declare("q", arguments=TO_D)
    a.publish()
    for tag in (1, 2):
        a.get(no_ack=False)
        a.reject(tag, requeue=False)
        room.pause(0.6)
    a.get()


def goes_in_circles_by_itself(room):
    a = room.channel()
    a.declare("d", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q", "x-message-ttl": 100})
    a.declare("q", arguments=TO_D | {"x-message-ttl": 100})
    a.publish()
    room.pause(0.8)
    a.count()
    a.count("d")


def dies_into_its_own_queue(room):
    a = room.channel()
    a.declare(arguments={"x-dead-letter-exchange": "", "x-message-ttl": 100})
    a.publish()
    room.pause(0.5)
    a.count()


def is_rejected_into_its_own_queue(room):
    a = room.channel()
    a.declare(arguments={"x-dead-letter-exchange": ""})
    a.publish()
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    room.pause(0.1)
    a.get()


def purges_dead_letters(room):
    a = _queues(room)
    a.publish()
    a.purge()
    a.count("d")


def deletes_the_queue_with_messages(room):
    a = _queues(room)
    a.publish()
    a.delete()
    a.count("d")


def writes_its_own_death(room):
    a = _queues(room)
    a.publish(headers={"x-death": "what?"})
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    a.count()
    a.get("d")


def dies_into_several_queues(room):
    a = room.channel()
    a.exchange("dead", "fanout")
    for name in ("one", "two"):
        a.declare(name)
        a.bind(name, "dead")
    a.declare("q", arguments={"x-dead-letter-exchange": "dead"})
    a.publish()
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    a.count()
    a.get("one")
    a.get("two")


def dies_with_a_consumer_waiting(room):
    a = _queues(room)
    a.consume("d", no_ack=True)
    a.publish()
    a.get(no_ack=False)
    a.reject(1, requeue=False)
    a.receive()
