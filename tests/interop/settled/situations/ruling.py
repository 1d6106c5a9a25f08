"""Policies: what operators say of queues and exchanges by their names, alone and beside the arguments of these."""


def _prepare(operator):
    operator.policy("short", "^short", '{"message-ttl": 300}', "queues")
    operator.policy("small", "^small", '{"max-length": 2}', "queues")
    operator.policy("tiny", "^small-tiny", '{"max-length": 1}', "queues", priority=5)
    operator.policy("dying", "^dying", '{"message-ttl": 200, "dead-letter-exchange": "", "dead-letter-routing-key": "d"}', "queues")
    operator.policy("full", "^full", '{"max-length": 1, "overflow": "reject-publish"}', "queues")
    operator.policy("lost", "^lost", '{"alternate-exchange": "amq.fanout"}', "exchanges")
    operator.operator_policy("ceiling", "^capped", '{"max-length": 1}', "queues")
    operator.policy("roomy", "^capped", '{"max-length": 100, "message-ttl": 1000}', "queues")


def _fill(room, name, count=3, **arguments):
    a = room.channel()
    a.declare(name, arguments=arguments)
    for number in range(count):
        a.publish(str(number), key=name)
    return a


def has_messages_that_expire(room):
    a = _fill(room, "short", 1)
    room.pause(0.8)
    a.count("short")


def has_an_argument_that_is_shorter(room):
    a = _fill(room, "short", 1, **{"x-message-ttl": 0})
    a.count("short")


def has_an_argument_that_is_longer(room):
    a = _fill(room, "short", 1, **{"x-message-ttl": 60_000})
    room.pause(0.8)
    a.count("short")


def has_room_for_two(room):
    a = _fill(room, "small")
    a.count("small")


def has_an_argument_that_gives_more_room(room):
    a = _fill(room, "small", **{"x-max-length": 100})
    a.count("small")


def has_an_argument_that_gives_less_room(room):
    a = _fill(room, "small", **{"x-max-length": 1})
    a.count("small")


def obeys_the_policy_of_higher_priority(room):
    a = _fill(room, "small-tiny")
    a.count("small-tiny")


def obeys_an_operators_policy_beside_another(room):
    a = _fill(room, "capped")
    a.count("capped")
    room.pause(1.8)
    a.count("capped")


def has_dead_letters(room):
    a = room.channel()
    a.declare("d")
    a.declare("dying")
    a.publish(key="dying")
    room.pause(0.8)
    a.get("d")


def has_an_argument_that_sends_dead_letters_elsewhere(room):
    a = room.channel()
    a.declare("d")
    a.declare("e")
    a.declare("dying", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "e"})
    a.publish(key="dying")
    room.pause(0.8)
    a.count("d")
    a.count("e")


def refuses_what_is_too_much(room):
    a = room.channel()
    a.declare("full")
    a.select()
    for number in "12":
        a.publish(number, key="full")
        a.receive()
    a.count("full")


def has_an_argument_about_what_is_too_much(room):
    a = room.channel()
    a.declare("full", arguments={"x-overflow": "drop-head"})
    a.select()
    for number in "12":
        a.publish(number, key="full")
        a.receive()
    a.get("full")


def takes_the_alternate(room):
    a = room.channel()
    a.exchange("lost")
    a.declare("q")
    a.bind("q", "amq.fanout")
    a.publish(exchange="lost", key="nowhere", mandatory=True)
    a.get("q")


def has_an_argument_about_the_alternate(room):
    a = room.channel()
    a.exchange("lost", arguments={"alternate-exchange": "missing"})
    a.declare("q")
    a.bind("q", "amq.fanout")
    a.publish(exchange="lost", key="nowhere", mandatory=True)
    a.receive()
    a.get("q")


def says_nothing_of_a_policy_in_a_declaration(room):
    a = room.channel()
    a.declare("short")
    a.declare("short")
    a.declare("short", arguments={"x-message-ttl": 300})
