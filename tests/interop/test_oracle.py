"""The oracle of the durability test must itself be able to fail: each fault it exists for, tried on it."""

import unittest

from oracle import Found, Oracle


class Message:
    def __init__(self, number, publisher="p", body=b"body", persistent=True):
        self.identity = (publisher, number)
        self.properties = {"number": number}
        self.persistent = persistent
        self._body = body

    def content(self):
        return self._body


def found(message, **changes):
    fields = dict(properties=message.properties, body=message.content(), redelivered=False)
    return Found(message.identity, **{**fields, **changes})


class AnOracle(unittest.TestCase):
    def setUp(self):
        self.oracle = Oracle(["q", "other"])
        self.messages = [Message(number) for number in range(5)]
        for message in self.messages:
            self.oracle.published(message, ["q"])
            self.oracle.confirmed(message.identity)

    def judge(self, contents, queue="q"):
        self.oracle.recovered(queue, contents)
        return self.oracle.violations

    def assert_one(self, violations, *words):
        self.assertEqual(len(violations), 1, violations)
        for word in words:
            self.assertIn(word, violations[0])

    def test_accepts_what_is_right(self):
        self.assertEqual(self.oracle.must("q"), 5)
        self.assertEqual(self.judge([found(message) for message in self.messages]), [])

    def test_notices_a_lost_message_anywhere(self):
        for lost in range(5):
            with self.subTest(lost=lost):
                self.setUp()
                contents = [found(m) for m in self.messages if m.identity[1] != lost]
                self.assert_one(self.judge(contents), "LOST", str(lost))

    def test_notices_an_empty_queue(self):
        self.assertEqual(len(self.judge([])), 5)

    def test_notices_a_message_lost_from_one_of_two_queues(self):
        both = Message(7)
        self.oracle.published(both, ["q", "other"])
        self.oracle.confirmed(both.identity)
        self.assertEqual(self.judge([found(m) for m in [*self.messages, both]]), [])
        self.assert_one(self.judge([], "other"), "other", "LOST")

    def test_notices_an_altered_body(self):
        for body in (b"bodY", b"bod", b"body ", b""):
            with self.subTest(body=body):
                self.setUp()
                contents = [found(m) for m in self.messages]
                contents[2].body = body
                self.assert_one(self.judge(contents), "another body")

    def test_notices_altered_properties(self):
        contents = [found(m) for m in self.messages]
        contents[2].properties = {"number": 3}
        self.assert_one(self.judge(contents), "other properties")

    def test_notices_a_body_altered_before_any_restart(self):
        self.oracle.delivered("q", found(self.messages[0], body=b"x"))
        self.assert_one(self.oracle.violations, "another body")

    def test_notices_two_messages_in_the_wrong_order(self):
        contents = [found(m) for m in self.messages]
        contents[1], contents[2] = contents[2], contents[1]
        self.assert_one(self.judge(contents), "is behind")

    def test_leaves_the_order_between_publishers_open_until_a_restart_has_shown_it(self):
        stranger = Message(0, publisher="s")
        self.oracle.published(stranger, ["q"])
        self.oracle.confirmed(stranger.identity)
        mixed = [*self.messages[:2], stranger, *self.messages[2:]]
        self.assertEqual(self.judge([found(m) for m in mixed]), [])
        again = [self.messages[0], stranger, *self.messages[1:]]
        self.assert_one(self.judge([found(m) for m in again]), "is behind")

    def test_notices_a_new_message_before_an_old_one(self):
        self.judge([found(m) for m in self.messages])
        new = Message(9)
        self.oracle.published(new, ["q"])
        self.oracle.confirmed(new.identity)
        contents = [*self.messages[:4], new, self.messages[4]]
        self.assert_one(self.judge([found(m) for m in contents]), "is behind")

    def test_notices_a_duplicate(self):
        contents = [found(m) for m in self.messages]
        self.assert_one(self.judge([*contents, contents[4]]), "twice")

    def test_notices_what_was_never_published_to_the_queue(self):
        stranger = Message(6)
        self.oracle.published(stranger, ["other"])
        contents = [found(m) for m in [*self.messages, stranger]]
        self.assert_one(self.judge(contents), "never published")

    def test_notices_a_message_that_was_acknowledged_and_synced(self):
        first = self.messages[0].identity
        self.oracle.acknowledged("q", first)
        self.oracle.synced("q", [first])
        self.assert_one(self.judge([found(m) for m in self.messages]), "acknowledged", "synced")

    def test_accepts_an_acknowledged_message_either_way_until_it_is_synced(self):
        for contents in (self.messages, self.messages[1:]):
            self.setUp()
            self.oracle.acknowledged("q", self.messages[0].identity)
            self.assertEqual(self.judge([found(m) for m in contents]), [])

    def test_does_not_forget_an_acknowledgement_that_overtook_the_confirm(self):
        early = Message(8)
        self.oracle.published(early, ["q"])
        self.oracle.acknowledged("q", early.identity)
        self.oracle.confirmed(early.identity)
        self.assertEqual(self.judge([found(m) for m in self.messages]), [])

    def test_accepts_an_unconfirmed_message_either_way_once(self):
        last = Message(5)
        self.oracle.published(last, ["q"])
        self.assertEqual(self.judge([found(m) for m in [*self.messages, last]]), [])
        # It was found: now it must stay.
        self.assert_one(self.judge([found(m) for m in self.messages]), "LOST")

    def test_notices_an_unconfirmed_message_that_comes_back_at_a_later_restart(self):
        last = Message(5)
        self.oracle.published(last, ["q"])
        self.assertEqual(self.judge([found(m) for m in self.messages]), [])
        self.assert_one(self.judge([found(m) for m in [*self.messages, last]]), "not there after")

    def test_notices_an_unconfirmed_message_that_is_there_in_part(self):
        last = Message(5, body=b"0123456789")
        self.oracle.published(last, ["q"])
        contents = [*map(found, self.messages), found(last, body=b"01234")]
        self.assert_one(self.judge(contents), "another body")

    def test_notices_a_transient_message_that_outlives_the_server(self):
        fleeting = Message(5, persistent=False)
        self.oracle.published(fleeting, ["q"])
        self.oracle.confirmed(fleeting.identity)
        self.assertEqual(self.oracle.must("q"), 5)
        self.assert_one(self.judge([found(m) for m in [*self.messages, fleeting]]), "transient")
        self.setUp()
        self.oracle.published(fleeting, ["q"])
        self.oracle.confirmed(fleeting.identity)
        self.assertEqual(self.judge([found(m) for m in self.messages]), [])

    def test_notices_a_redelivered_flag_that_is_lost(self):
        first = self.messages[0].identity
        self.oracle.synced("q", [], [first])
        contents = [found(m, redelivered=m.identity == first) for m in self.messages]
        self.assertEqual(self.judge(contents), [])
        contents[0].redelivered = False
        self.assert_one(self.judge(contents), "redelivered is not set")


if __name__ == "__main__":
    unittest.main()
