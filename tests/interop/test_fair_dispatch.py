"""Fair dispatch: with prefetch_count=1 a slow worker is not given work while a fast one is idle."""

import harness


def test(server):
    harness.forget(server, "task_queue")
    slow = harness.program(server, "worker.py", 1)
    slow.expect("^waiting$")
    harness.program(server, "new_task.py", "slow" + "." * 8).succeed()
    slow.expect("^received 'slow")

    fast = harness.program(server, "worker.py", 1)
    fast.expect("^waiting$")
    quick = [f"quick {number}" for number in range(20)]
    harness.program(server, "new_task.py", *quick).succeed()
    for task in quick:
        fast.expect(f"^done '{task}'$", within=6)
    assert not slow.matches("^done"), f"the fast worker needed the time of a slow task: {slow}"
    assert not slow.matches("quick"), slow

    # Once it is idle again, the slow worker takes its share.
    slow.expect("^done 'slow", within=20)
    harness.program(server, "new_task.py", "one..", "two..").succeed()
    slow.expect("^received '(one|two)")
    fast.expect("^received '(one|two)")
    slow.kill()
    fast.kill()


harness.run(test, seconds=90)
