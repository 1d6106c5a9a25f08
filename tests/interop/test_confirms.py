"""Confirms survive: what a publisher saw confirmed before the server was killed is there after it."""

import random
import time

import harness

ROUNDS = 5


def test(server):
    number = 0
    for _ in range(ROUNDS):
        publisher = harness.program(server, "publish_confirmed.py", number)
        publisher.expect("^confirmed")
        time.sleep(random.uniform(0.0, 1.0))
        server.kill()
        publisher.expect("^connection lost$")
        publisher.succeed()
        confirmed = [int(match.group(1)) for match in publisher.matches(r"^confirmed (\d+)$")]
        assert confirmed == list(range(number, number + len(confirmed))), publisher

        took = server.start()
        drain = harness.program(server, "drain.py")
        drain.expect("^empty$", within=60)
        drain.succeed()
        expected = [f"{n}:{'x' * (n % 1000)} mode=2" for n in confirmed]
        got = [match.group(1) for match in drain.matches("^got (.*)$")]
        # The one message that was on its way may be there, whole, and nothing else.
        following = number + len(confirmed)
        on_its_way = f"{following}:{'x' * (following % 1000)} mode=2"
        assert got in (expected, expected + [on_its_way]), (
            f"confirmed {confirmed[:1]} to {confirmed[-1:]}, got {len(got)} messages, "
            f"the first differing: {next((p for p in zip(expected, got) if p[0] != p[1]), None)}"
        )
        print(f"{len(confirmed)} confirmed, {len(got)} recovered, ready again in {took:.2f} s")
        number = following + 1


harness.run(test, needs_own_server=True)
