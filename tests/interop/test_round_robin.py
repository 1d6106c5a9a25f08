"""Round robin: without prefetch, tasks alternate evenly between the workers."""

import harness

TASKS = [f"task {number}" for number in range(30)]


def test(server):
    harness.forget(server, "task_queue")
    workers = [harness.program(server, "worker.py") for _ in range(3)]
    for worker in workers:
        worker.expect("^waiting$")
    harness.program(server, "new_task.py", *TASKS).succeed()

    def received(worker):
        return [match.group(1) for match in worker.matches("^received '(.*)' redelivered=False")]

    harness.wait_until(
        lambda: sum(len(received(worker)) for worker in workers) >= len(TASKS), "all tasks arrive"
    )
    turns = [TASKS[first :: len(workers)] for first in range(len(workers))]
    assert sorted(received(worker) for worker in workers) == sorted(turns), [
        received(worker) for worker in workers
    ]
    for worker in workers:
        worker.kill()


harness.run(test)
