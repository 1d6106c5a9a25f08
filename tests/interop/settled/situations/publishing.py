"""Messages on their way in: confirms, returns, properties that are looked at, transactions."""

import datetime
import decimal

import pika.spec as spec


def publishes_to_an_exchange_that_is_not_there(room):
    a = room.channel()
    a.publish(exchange="missing")
    a.receive()


def publishes_to_an_exchange_that_is_not_there_with_confirms(room):
    a = room.channel()
    a.select()
    a.publish(exchange="missing")
    a.receive_all()


def confirms(room):
    a = room.channel()
    a.declare(durable=True)
    a.select()
    a.publish(delivery_mode=2)
    a.receive()
    a.publish(delivery_mode=2)
    a.receive()


def confirms_what_goes_nowhere(room):
    a = room.channel()
    a.select()
    a.publish(key="nowhere")
    a.receive()


def returns_before_it_confirms(room):
    a = room.channel()
    a.select()
    a.publish(key="nowhere", mandatory=True, message_id="7", headers={"a": "b"})
    a.receive()
    a.receive()


def returns_without_confirms(room):
    a = room.channel()
    a.publish(key="nowhere", mandatory=True)
    a.receive()


def selects_confirms_twice(room):
    a = room.channel()
    a.select()
    a.select()


def publishes_in_the_name_of_another(room):
    a = room.channel()
    a.declare()
    a.publish(user_id="somebody")
    a.receive()


def publishes_in_its_own_name(room):
    a = room.channel()
    a.declare()
    a.publish(user_id="guest")
    a.get()


def sends_all_properties(room):
    a = room.channel()
    a.declare()
    a.publish(
        content_type="text/plain",
        content_encoding="utf-8",
        headers={},
        delivery_mode=2,
        priority=9,
        correlation_id="correlation",
        reply_to="reply",
        expiration="600000",
        message_id="id",
        timestamp=1234567890,
        type="type",
        user_id="guest",
        app_id="app",
        cluster_id="cluster",
    )
    a.get()


def sends_fields_of_all_types(room):
    a = room.channel()
    a.declare()
    a.publish(
        headers={
            "array": [1, "two", [True, None], {"k": "v"}],
            "bytes": b"\0\xff",
            "decimal": decimal.Decimal("12.34"),
            "false": False,
            "large": 1 << 40,
            "negative": -5,
            "small": 5,
            "table": {"inner": {"deep": "value"}},
            "text": "text",
            "timestamp": datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
            "void": None,
        }
    )
    a.get()


def sends_a_delivery_mode_of_no_meaning(room):
    a = room.channel()
    a.declare()
    a.publish(delivery_mode=7)
    a.get()


def confirms_in_a_transaction(room):
    a = room.channel()
    a.call(spec.Tx.Select())
    a.select()


def begins_a_transaction_with_confirms(room):
    a = room.channel()
    a.select()
    a.call(spec.Tx.Select())


def commits_without_a_transaction(room):
    a = room.channel()
    a.call(spec.Tx.Commit())


def rolls_back_without_a_transaction(room):
    a = room.channel()
    a.call(spec.Tx.Rollback())


def selects_a_transaction_twice(room):
    a = room.channel()
    a.call(spec.Tx.Select())
    a.call(spec.Tx.Select())


def commits(room):
    a = room.channel()
    a.declare()
    a.call(spec.Tx.Select())
    a.publish("one")
    a.publish("two")
    a.count()
    a.call(spec.Tx.Commit())
    a.count()


def rolls_back(room):
    a = room.channel()
    a.declare()
    a.call(spec.Tx.Select())
    a.publish("one")
    a.call(spec.Tx.Rollback())
    a.count()
    a.call(spec.Tx.Commit())
    a.count()


def closes_the_channel_of_a_transaction(room):
    a = room.channel()
    a.declare()
    a.call(spec.Tx.Select())
    a.publish("one")
    a.close()
    a.open()
    a.count()


def commits_an_acknowledgement(room):
    a = room.channel()
    a.declare()
    a.publish("one")
    a.publish("two")
    a.call(spec.Tx.Select())
    a.get(no_ack=False)
    a.get(no_ack=False)
    a.ack(1)
    a.call(spec.Tx.Commit())
    a.recover()
    a.get()
    a.get()


def rolls_an_acknowledgement_back(room):
    a = room.channel()
    a.declare()
    a.publish("one")
    a.call(spec.Tx.Select())
    a.get(no_ack=False)
    a.ack(1)
    a.call(spec.Tx.Rollback())
    a.ack(1)
    a.call(spec.Tx.Commit())
    a.recover()
    a.count()


def rejects_in_a_transaction(room):
    a = room.channel()
    a.declare()
    a.publish("one")
    a.call(spec.Tx.Select())
    a.get(no_ack=False)
    a.reject(1)
    a.get()
    a.call(spec.Tx.Commit())
    a.get()


def acknowledges_twice_in_a_transaction(room):
    a = room.channel()
    a.declare()
    a.publish("one")
    a.call(spec.Tx.Select())
    a.get(no_ack=False)
    a.ack(1)
    a.ack(1)
    a.receive_all()


def is_returned_a_message_at_the_commit(room):
    a = room.channel()
    a.call(spec.Tx.Select())
    a.publish(key="nowhere", mandatory=True)
    a.receive_all()
    a.call(spec.Tx.Commit())
    a.receive_all()


def publishes_to_an_exchange_that_is_not_there_in_a_transaction(room):
    a = room.channel()
    a.call(spec.Tx.Select())
    a.publish(exchange="missing")
    a.receive_all()
