"""Queues that hold so much and no more."""


def has_room_for_two(room):
    a = room.channel()
    a.declare(arguments={"x-max-length": 2})
    for number in range(1, 5):
        a.publish(str(number))
    a.count()
    a.get()
    a.get()


def has_room_for_ten_bytes(room):
    a = room.channel()
    a.declare(arguments={"x-max-length-bytes": 10})
    for letter in "abc":
        a.publish(letter * 5)
    a.count()
    a.get()
    a.publish("longer than the whole")
    a.count()


def has_no_room_at_all(room):
    a = room.channel()
    a.declare(arguments={"x-max-length": 0})
    a.select()
    a.publish()
    a.receive()
    a.count()


def does_not_count_what_is_held(room):
    a = room.channel()
    a.declare(arguments={"x-max-length": 1})
    a.publish("1")
    a.get(no_ack=False)
    a.publish("2")
    a.count()
    a.reject(1)
    a.count()
    a.get()


def refuses_what_is_too_much(room):
    a = room.channel()
    a.declare(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    a.select()
    a.publish("1")
    a.receive()
    a.publish("2")
    a.receive()
    a.count()
    a.get()
    a.publish("3")
    a.receive()


def refuses_what_is_too_much_without_confirms(room):
    a = room.channel()
    a.declare(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    a.publish("1")
    a.publish("2", mandatory=True)
    a.count()
    a.get()


def refuses_too_many_bytes(room):
    a = room.channel()
    a.declare(arguments={"x-max-length-bytes": 5, "x-overflow": "reject-publish"})
    a.select()
    for body in ("12345", "6", "7"):
        a.publish(body)
        a.receive()
    a.count()


def refuses_in_one_of_two_queues(room):
    a = room.channel()
    a.declare("full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    a.declare("open")
    a.bind("full", "amq.fanout")
    a.bind("open", "amq.fanout")
    a.select()
    a.publish(exchange="amq.fanout", key="")
    a.receive()
    a.count("open")


def gives_what_is_refused_to_another(room):
    a = room.channel()
    a.declare("d")
    a.declare(
        arguments={
            "x-max-length": 1,
            "x-overflow": "reject-publish-dlx",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "d",
        }
    )
    a.select()
    a.publish("1")
    a.receive()
    a.publish("2")
    a.receive()
    a.count()
    a.get("d")


def refuses_without_giving_to_another(room):
    a = room.channel()
    a.declare("d")
    a.declare(
        arguments={
            "x-max-length": 1,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "d",
        }
    )
    a.select()
    for body in "12":
        a.publish(body)
        a.receive()
    a.count("d")


def overflows_in_an_unknown_way(room):
    a = room.channel()
    a.declare(arguments={"x-max-length": 1, "x-overflow": "sideways"})


def overflows_in_a_way_that_is_a_number(room):
    a = room.channel()
    a.declare(arguments={"x-overflow": 1})


def declares_a_negative_length(room):
    a = room.channel()
    a.declare(arguments={"x-max-length": -1})


def declares_a_length_in_words(room):
    a = room.channel()
    a.declare(arguments={"x-max-length": "many"})


def declares_negative_bytes(room):
    a = room.channel()
    a.declare(arguments={"x-max-length-bytes": -1})


def declares_another_length(room):
    a = room.channel()
    a.declare(arguments={"x-max-length": 1})
    a.declare(arguments={"x-max-length": 2})
