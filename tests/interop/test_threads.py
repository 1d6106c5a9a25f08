"""Threads: three consumer threads, a connection each, share 10,000 messages of one queue."""

import json

import harness

TOTAL = 10_000


def test(server):
    harness.forget(server, "shared")
    sharing = harness.program(server, "share.py", TOTAL)
    sharing.succeed(within=240)
    got = [json.loads(match.group(1)) for match in sharing.matches("^got (.*)$")]
    assert len(got) == 3, sharing
    print("messages per thread:", [len(mine) for mine in got])

    together = sorted(number for mine in got for number in mine)
    assert together == list(range(TOTAL)), "a message is missing, or there twice"
    for mine in got:
        assert mine == sorted(mine), "each thread sees the queue's order"
        assert mine, "every thread has a share"
    assert harness.ready_messages(server, "shared") == 0


harness.run(test)
