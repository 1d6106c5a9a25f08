"""Bindings, the types of exchanges, alternates, and copies."""


def binds_to_an_exchange_that_is_not_there(room):
    a = room.channel()
    a.declare()
    a.bind("q", "missing")


def binds_a_queue_that_is_not_there(room):
    a = room.channel()
    a.bind("missing", "amq.direct", "k")


def binds_to_the_default_exchange(room):
    a = room.channel()
    a.declare()
    a.bind("q", "", "k")


def unbinds_from_the_default_exchange(room):
    a = room.channel()
    a.declare()
    a.unbind("q", "", "q")


def unbinds_what_was_not_bound(room):
    a = room.channel()
    a.declare()
    a.unbind("q", "amq.direct", "k")


def unbinds_from_an_exchange_that_is_not_there(room):
    a = room.channel()
    a.declare()
    a.unbind("q", "missing", "k")


def unbinds_a_queue_that_is_not_there(room):
    a = room.channel()
    a.unbind("missing", "amq.direct", "k")


def binds_twice(room):
    a = room.channel()
    a.declare()
    a.bind("q", "amq.direct", "k")
    a.bind("q", "amq.direct", "k")
    a.publish(exchange="amq.direct", key="k")
    a.count()


def gets_a_message_once_through_several_bindings(room):
    a = room.channel()
    a.declare()
    a.bind("q", "amq.topic", "a.*")
    a.bind("q", "amq.topic", "#")
    a.publish(exchange="amq.topic", key="a.b")
    a.count()


def uses_words_of_topics(room):
    a = room.channel()
    a.declare()
    for pattern in ("one.*", "*.*.three", "many.#", "#.end"):
        a.bind("q", "amq.topic", pattern)
    for key in ("one", "one.two", "a.b.three", "many", "many.more.words", "end", "at.the.end", "at.the.end.not", ""):
        a.publish(exchange="amq.topic", key=key, body=key)
    for _ in range(7):
        a.get()


def _headers(room, arguments, *tried):
    a = room.channel()
    a.declare()
    a.bind("q", "amq.headers", arguments=arguments)
    for headers in tried:
        a.publish(exchange="amq.headers", key="", headers=headers)
    for _ in tried:
        a.get()


def matches_all_headers(room):
    wanted = {"x-match": "all", "a": "1", "b": 2}
    _headers(room, wanted, {"a": "1", "b": 2}, {"a": "1", "b": 2, "c": 3}, {"a": "1"}, {"a": "1", "b": "2"}, {})


def matches_any_header(room):
    wanted = {"x-match": "any", "a": "1", "b": 2}
    _headers(room, wanted, {"a": "1"}, {"b": 2, "a": "0"}, {"c": 3}, {})


def matches_headers_that_are_there(room):
    _headers(room, {"x-match": "all", "a": None}, {"a": "1"}, {"a": None}, {"b": "1"})


def matches_headers_with_x_in_front(room):
    _headers(room, {"x-match": "all", "x-a": "1"}, {"x-a": "1"}, {"x-a": "2"}, {})


def matches_headers_with_x_in_front_too(room):
    _headers(room, {"x-match": "all-with-x", "x-a": "1"}, {"x-a": "1"}, {"x-a": "2"}, {})


def matches_any_header_with_x_in_front_too(room):
    _headers(room, {"x-match": "any-with-x", "x-a": "1", "b": "2"}, {"x-a": "1"}, {"b": "2"}, {"x-a": "2"})


def matches_no_headers(room):
    _headers(room, {"x-match": "all"}, {}, {"a": "1"})


def matches_any_of_no_headers(room):
    _headers(room, {"x-match": "any"}, {}, {"a": "1"})


def matches_headers_without_saying_how(room):
    _headers(room, {"a": "1", "b": "2"}, {"a": "1", "b": "2"}, {"a": "1"})


def matches_headers_by_an_unknown_rule(room):
    _headers(room, {"x-match": "some", "a": "1"}, {"a": "1"})


def matches_headers_by_a_rule_that_is_a_number(room):
    _headers(room, {"x-match": 1, "a": "1"}, {"a": "1"})


def matches_numbers_of_other_types(room):
    _headers(room, {"a": 2}, {"a": 2}, {"a": 1 << 40}, {"a": "2"}, {"a": True})


def binds_exchanges(room):
    a = room.channel()
    a.exchange("from", "fanout")
    a.exchange("to", "direct")
    a.declare()
    a.bind("q", "to", "k")
    a.bind_exchange("to", "from")
    a.publish(exchange="from", key="k")
    a.publish(exchange="from", key="other")
    a.count()
    a.unbind_exchange("to", "from")
    a.publish(exchange="from", key="k")
    a.count()


def binds_exchanges_in_a_circle(room):
    a = room.channel()
    for name in ("left", "right"):
        a.exchange(name, "fanout")
    a.bind_exchange("left", "right")
    a.bind_exchange("right", "left")
    a.declare()
    a.bind("q", "left")
    a.publish(exchange="right", key="")
    a.count()


def binds_an_exchange_that_is_not_there(room):
    a = room.channel()
    a.bind_exchange("missing", "amq.direct")


def binds_to_a_source_that_is_not_there(room):
    a = room.channel()
    a.bind_exchange("amq.direct", "missing")


def binds_the_default_exchange_to_another(room):
    a = room.channel()
    a.bind_exchange("", "amq.direct")


def publishes_to_an_internal_exchange(room):
    a = room.channel()
    a.exchange(internal=True)
    a.publish(exchange="x")
    a.receive()


def reaches_an_internal_exchange_through_another(room):
    a = room.channel()
    a.exchange("inside", "fanout", internal=True)
    a.declare()
    a.bind("q", "inside")
    a.bind_exchange("inside", "amq.fanout")
    a.publish(exchange="amq.fanout")
    a.count()
    a.unbind_exchange("inside", "amq.fanout")


def takes_the_alternate(room):
    a = room.channel()
    a.exchange("other", "fanout")
    a.exchange(arguments={"alternate-exchange": "other"})
    a.declare()
    a.bind("q", "other")
    a.select()
    a.publish(exchange="x", key="nowhere", mandatory=True)
    a.receive()
    a.get()


def has_an_alternate_that_is_not_there(room):
    a = room.channel()
    a.exchange(arguments={"alternate-exchange": "missing"})
    a.select()
    a.publish(exchange="x", key="nowhere", mandatory=True)
    a.receive()
    a.receive()


def has_an_alternate_of_a_wrong_type(room):
    a = room.channel()
    a.exchange(arguments={"alternate-exchange": 5})


def sends_copies(room):
    a = room.channel()
    for name in ("q", "copy", "blind"):
        a.declare(name)
    a.publish(headers={"CC": ["copy"], "BCC": ["blind", "q"], "kept": "yes"})
    for name in ("q", "copy", "blind"):
        a.get(name)


def sends_copies_to_what_is_no_array(room):
    a = room.channel()
    a.publish(headers={"CC": "copy"})
    a.receive()


def sends_copies_to_numbers(room):
    a = room.channel()
    a.declare()
    a.publish(headers={"CC": [1]})
    a.count()


def sends_blind_copies_to_what_is_no_array(room):
    a = room.channel()
    a.publish(headers={"BCC": 7})
    a.receive()
