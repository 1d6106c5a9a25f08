"""Celery: tasks with results, acknowledged when they are done, while workers and the broker are killed."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import celery

import harness

APPLICATION = harness.HERE / "programs_celery"
RESULT_SECONDS = 60  # for a result that nothing but the speed of the machine holds up


def barn(server):
    """The application, as one of its clients imports it."""
    os.environ["AMQP_PORT"] = str(server.port)
    sys.path.insert(0, str(APPLICATION))
    import barn

    return barn


def worker(server, *options):
    """Starts a worker, and returns once it consumes. It asks those that run for what they know, and all of them talk to each other."""
    command = [sys.executable, "-m", "celery", "-A", "barn", "worker", "--loglevel", "INFO", *options]
    environment = dict(os.environ, AMQP_PORT=str(server.port), PYTHONUNBUFFERED="1")
    process = harness.Process("worker", command, env=environment, cwd=APPLICATION)
    process.expect("ready[.]$", within=RESULT_SECONDS)
    return process


def stop(application, team):
    """Ends a worker that is at rest, and sees it end well."""
    rest(application)
    team.signal(signal.SIGTERM)
    team.succeed(within=RESULT_SECONDS)


def rest(application, workers=1):
    """Returns when that many workers know that all they were given is done.

    A result comes from the process that has done the task, before the worker has heard of it from that process. One that is told to
    stop in between forgets the task (billiard's pool drops what it does not know to be running), so that it comes again; and the
    process, to which nobody listens any more, stays for half a minute to be heard (`_ensure_messages_consumed`).
    """
    inspect = application.app.control.inspect(timeout=5, limit=workers)

    def at_rest():
        answers = [inspect.reserved(), inspect.active()]
        return all(len(told or {}) == workers and not any(told.values()) for told in answers)

    harness.wait_until(at_rest, "the workers are at rest", within=RESULT_SECONDS)


def results(server):
    """A hundred tasks at once, and one that fails; the worker stops cleanly and nothing is left."""
    application = barn(server)
    team = worker(server, "--concurrency", "2")

    together = celery.group(application.stack.s([n, 1]) for n in range(100))()
    assert together.get(timeout=RESULT_SECONDS) == [n + 1 for n in range(100)]

    failed = application.burn.delay()
    try:
        failed.get(timeout=RESULT_SECONDS)
        raise AssertionError("the task failed, and its result did not say so")
    except ValueError as error:
        assert str(error) == "hay does not burn here", error

    stop(application, team)
    assert harness.ready_messages(server, "barn") == 0


def killed_worker(server):
    """A worker is killed in the middle of a task: another one does it, and knows that it is not the first."""
    application = barn(server)
    with tempfile.TemporaryDirectory(dir=os.environ.get("INTEROP_SCRATCH")) as scratch:
        gate = Path(scratch) / "open"
        # In one process, so that killing it closes the connection.
        victim = worker(server, "--pool", "solo", "--hostname", "victim@%h")
        task = application.guard.delay(str(gate))
        victim.expect("on guard, redelivered=False")
        victim.kill()

        heir = worker(server, "--concurrency", "1", "--hostname", "heir@%h")
        heir.expect("on guard, redelivered=True")
        gate.touch()
        assert task.get(timeout=RESULT_SECONDS) == "relieved"
        assert len(heir.matches("on guard")) == 1, heir
        # The result comes before the acknowledgement; a clean end comes after it.
        stop(application, heir)
    assert harness.ready_messages(server, "barn") == 0


def killed_process(server):
    """The process of a worker that runs a task dies: the worker rejects the task, and it comes again."""
    application = barn(server)
    team = worker(server, "--concurrency", "1")
    assert application.collapse.delay().get(timeout=RESULT_SECONDS) == "rebuilt"
    stop(application, team)
    assert len(team.matches("WorkerLostError")) > 0, team
    assert harness.ready_messages(server, "barn") == 0


def retry(server):
    """A task that asks to be tried again is published anew each time; while a worker holds delayed ones, it asks for more."""
    application = barn(server)
    team = worker(server, "--concurrency", "2")
    assert application.climb.delay().get(timeout=RESULT_SECONDS) == 3
    team.expect("attempt 3$")
    attempts = [int(match.group(1)) for match in team.matches(r"attempt (\d)$")]
    assert attempts == [0, 1, 2, 3], team
    delayed = [application.stack.apply_async(([n],), countdown=1) for n in range(10)]
    assert [task.get(timeout=RESULT_SECONDS) for task in delayed] == list(range(10))
    team.kill()


def expired(server):
    """A task that nobody does in time is not done at all."""
    application = barn(server)
    late = application.stack.apply_async(([1],), expires=0.5)
    time.sleep(1)
    in_time = application.stack.apply_async(([2],), expires=60)
    harness.wait_until(
        lambda: harness.ready_messages(server, "barn") == 1, "the late task is gone without a worker"
    )
    team = worker(server, "--concurrency", "1")
    assert in_time.get(timeout=RESULT_SECONDS) == 2
    assert late.state == "PENDING"
    team.kill()


def control(server):
    """Workers that find each other, and are asked and told things from outside."""
    application = barn(server)
    first = worker(server, "--concurrency", "1", "--hostname", "first@barn")
    second = worker(server, "--concurrency", "1", "--hostname", "second@barn")
    first.expect("sync with second@barn", within=RESULT_SECONDS)
    names = {"first@barn", "second@barn"}
    inspect = application.app.control.inspect(timeout=RESULT_SECONDS, limit=2)
    assert set(inspect.ping()) == names
    assert {queue["name"] for queues in inspect.active_queues().values() for queue in queues} == {"barn"}

    # A task that was called off before it came is not done.
    application.app.control.revoke("called-off")
    for one in (first, second):
        one.expect("flagged as revoked: called-off")
    application.stack.apply_async(([7],), task_id="called-off")
    assert application.stack.delay([8]).get(timeout=RESULT_SECONDS) == 8
    assert not first.matches("stacked .7.") and not second.matches("stacked .7."), "it was called off"

    rest(application, workers=2)
    application.app.control.shutdown(destination=["second@barn"])
    second.succeed(within=RESULT_SECONDS)
    inspect = application.app.control.inspect(timeout=RESULT_SECONDS, limit=1)
    assert set(inspect.ping()) == {"first@barn"}
    first.kill()


def quorum(server):
    """Quorum queues, and tasks that wait in the broker for their time, in queues whose messages expire into each other."""
    os.environ["BARN_QUEUE"] = "quorum"
    application = barn(server)
    team = worker(server, "--concurrency", "2")
    began = time.monotonic()
    delayed = [application.stack.apply_async(([n],), countdown=6) for n in range(5)]
    published = time.monotonic()
    assert application.stack.delay([7]).get(timeout=RESULT_SECONDS) == 7
    early = any(task.ready() for task in delayed)
    assert not early or time.monotonic() - began > 5, "the others are not due"
    assert [task.get(timeout=RESULT_SECONDS) for task in delayed] == list(range(5))
    assert time.monotonic() - published > 5, "they were not due before"
    stop(application, team)
    assert harness.ready_messages(server, "barn") == 0


def priorities(server):
    """The more important tasks are done first, whenever they came; those of one importance in their order."""
    os.environ["BARN_QUEUE"] = "priorities"
    application = barn(server)
    tasks = [application.stack.apply_async(([n],), priority=wanted) for n, wanted in enumerate([0, 9, 5, 0, 9, 3])]
    # One task at a time, so that nothing is ahead of what is asked for.
    team = worker(server, "--concurrency", "1", "--prefetch-multiplier", "1")
    assert [task.get(timeout=RESULT_SECONDS) for task in tasks] == list(range(6))
    team.expect(r"stacked \[3\]$", within=RESULT_SECONDS)
    stacked = [int(match.group(1)) for match in team.matches(r"stacked \[(\d+)\]$")]
    assert stacked == [1, 4, 2, 5, 0, 3], stacked
    stop(application, team)
    assert harness.ready_messages(server, "barn") == 0


def killed_broker(server):
    """Tasks whose publishing was confirmed survive the broker; a worker comes back to it by itself."""
    application = barn(server)
    for n in range(100):
        application.stack.apply_async(([n],), ignore_result=True)
    server.kill()
    server.start()
    assert harness.ready_messages(server, "barn") == 100

    team = worker(server, "--concurrency", "1")
    team.expect(r"stacked \[99\]$", within=RESULT_SECONDS)

    server.kill()
    team.expect("Connection to broker lost", within=RESULT_SECONDS)
    server.start()
    for n in range(100, 120):
        application.stack.apply_async(([n],), ignore_result=True)
    team.expect(r"stacked \[119\]$", within=RESULT_SECONDS)
    stacked = [int(match.group(1)) for match in team.matches(r"stacked \[(\d+)\]$")]
    assert stacked[:100] == list(range(100)) and stacked[-20:] == list(range(100, 120)), stacked
    # Those whose acknowledgements were not yet durable when the broker was killed come again, once and in their order. They need
    # not be the very last ones: Celery does not acknowledge in the order in which tasks end.
    again = stacked[100:-20]
    assert again == sorted(set(again)) and set(again) <= set(range(100)), stacked
    team.kill()


SCENARIOS = [results, killed_worker, killed_process, retry, expired, control, quorum, priorities, killed_broker]
harness.run_scenario(SCENARIOS, f"celery {celery.__version__}")
