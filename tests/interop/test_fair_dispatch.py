"""Fair dispatch: with prefetch_count=1 a slow worker is not given work while a fast one is idle."""

import signal

import harness


def test(server):
    harness.forget(server, "task_queue")
    slow = harness.program(server, "worker.py", 1)
    slow.expect("^waiting$")
    harness.program(server, "new_task.py", "slow" + "." * 600).succeed()
    slow.expect("^received 'slow")

    fast = harness.program(server, "worker.py", 1)
    fast.expect("^waiting$")
    quick = [f"quick {number}" for number in range(20)]
    harness.program(server, "new_task.py", *quick).succeed()
    for task in quick:
        fast.expect(f"^done '{task}'$")
    assert not slow.matches("quick"), slow

    # Once it is idle again, the slow worker takes its share.
    assert not slow.matches("^done"), slow
    slow.signal(signal.SIGUSR1)
    slow.expect("^done 'slow")
    harness.program(server, "new_task.py", "one..", "two..").succeed()
    slow.expect("^received '(one|two)")
    fast.expect("^received '(one|two)")
    slow.kill()
    fast.kill()


harness.run(test)
