"""Hello: one message through the default exchange, consumed with automatic acknowledgement."""

import harness


def test(server):
    harness.forget(server, "hello")

    # The receiver is there first.
    receiver = harness.program(server, "receive.py")
    receiver.expect("^waiting$")
    harness.program(server, "send.py").succeed()
    receiver.expect("^received 'Hello World!'$")
    receiver.kill()

    # The message is there first.
    harness.program(server, "send.py").succeed()
    harness.wait_until(
        lambda: harness.ready_messages(server, "hello") == 1,
        "the message sent without a receiver waits, and it alone: the first one was acknowledged",
    )
    late = harness.program(server, "receive.py")
    late.expect("^received 'Hello World!'$")
    late.kill()

    assert harness.ready_messages(server, "hello") == 0, "nothing is left: acknowledged on delivery"
    assert len(receiver.matches("^received")) == 1
    assert len(late.matches("^received")) == 1


harness.run(test)
