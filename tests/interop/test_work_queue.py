"""Work queue: persistent tasks in a durable queue, shared by workers that take one at a time."""

import harness

TASKS = ["First task.", "Second task..", "Third task...", "Fourth task.", "Fifth task..", "Sixth task"]


def test(server):
    harness.forget(server, "task_queue")
    workers = [harness.program(server, "worker.py", 1) for _ in range(2)]
    for worker in workers:
        worker.expect("^waiting$")
    harness.program(server, "new_task.py", *TASKS).succeed()

    def done():
        return [match.group(1) for worker in workers for match in worker.matches("^done '(.*)'$")]

    harness.wait_until(lambda: len(done()) >= len(TASKS), "all tasks are done", within=30)
    assert sorted(done()) == sorted(TASKS), done()
    for worker in workers:
        assert worker.matches("^done"), f"both workers had something to do: {worker}"
        assert not worker.matches("redelivered=True"), worker
        assert not worker.matches("mode=(?!2)"), f"delivery_mode=2 arrives as it was sent: {worker}"
        worker.kill()
    assert harness.ready_messages(server, "task_queue") == 0, "every task was acknowledged"


harness.run(test)
