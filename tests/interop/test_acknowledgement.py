"""Acknowledgement: what a killed worker had not acknowledged goes to another at once, redelivered."""

import time

import harness

AT_ONCE = 30  # seconds: long before a heartbeat is missed, on whatever machine; the broker needs milliseconds
LONG = "." * 600  # seconds of work: nobody comes to the end of it


def another_worker_gets_the_task_of_a_killed_one(server):
    harness.forget(server, "task_queue")
    victim = harness.program(server, "worker.py", 1)
    victim.expect("^waiting$")
    harness.program(server, "new_task.py", "long task" + LONG, "short task").succeed()
    victim.expect("^received 'long task[.]+' redelivered=False")

    heir = harness.program(server, "worker.py", 1)
    heir.expect("^done 'short task'$")
    assert not heir.matches("long task"), "a task in work belongs to its worker"
    killed_at = time.monotonic()
    victim.kill()
    heir.expect("^received 'long task[.]+' redelivered=True", within=AT_ONCE)
    print(f"redelivered {time.monotonic() - killed_at:.3f} s after the worker was killed")
    assert not victim.matches("^done"), victim

    # And once more, from the heir to a third one: still unacknowledged, still redelivered.
    third = harness.program(server, "worker.py", 1)
    third.expect("^waiting$")
    heir.kill()
    third.expect("^received 'long task[.]+' redelivered=True", within=AT_ONCE)
    third.kill()


def requeued_tasks_keep_their_places(server):
    harness.forget(server, "task_queue")
    tasks = ["task 0" + LONG] + [f"task {number}" for number in range(1, 10)]
    victim = harness.program(server, "worker.py", 5)
    victim.expect("^waiting$")
    harness.program(server, "new_task.py", *tasks).succeed()
    victim.expect("^received 'task 0[.]+'")
    harness.wait_until(
        lambda: harness.ready_messages(server, "task_queue") == 5,
        "the worker holds as many as its prefetch count allows, the others wait",
    )
    victim.kill()
    harness.wait_until(
        lambda: harness.ready_messages(server, "task_queue") == 10, "all ten wait again", AT_ONCE
    )

    connection = harness.connect(server)
    channel = connection.channel()
    for number in range(10):
        method, _, body = channel.basic_get(queue="task_queue")
        got = (body.decode(), method.redelivered)
        assert got == (tasks[number], number < 5), f"at place {number}: {got}"
        channel.basic_ack(method.delivery_tag)
    assert channel.basic_get(queue="task_queue")[0] is None
    connection.close()


def test(server):
    another_worker_gets_the_task_of_a_killed_one(server)
    requeued_tasks_keep_their_places(server)


harness.run(test)
