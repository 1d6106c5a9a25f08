"""Celery: tasks with results, acknowledged when they are done, while workers and the broker are killed."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import celery

import harness

APPLICATION = harness.HERE / "programs_celery"
RESULT_SECONDS = 30  # for a result that nothing but the speed of the machine holds up


def barn(server):
    """The application, as one of its clients imports it."""
    os.environ["AMQP_PORT"] = str(server.port)
    sys.path.insert(0, str(APPLICATION))
    import barn

    return barn


def worker(server, *options):
    """Starts a worker, and returns once it consumes. Mingle and gossip want queues that expire."""
    command = [sys.executable, "-m", "celery", "-A", "barn", "worker", "--loglevel", "INFO"]
    command += ["--without-gossip", "--without-mingle", *options]
    environment = dict(os.environ, AMQP_PORT=str(server.port), PYTHONUNBUFFERED="1")
    process = harness.Process("worker", command, env=environment, cwd=APPLICATION)
    process.expect("ready[.]$", within=RESULT_SECONDS)
    return process


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

    team.signal(signal.SIGTERM)
    team.succeed(within=RESULT_SECONDS)
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
        heir.signal(signal.SIGTERM)
        heir.succeed(within=RESULT_SECONDS)
    assert harness.ready_messages(server, "barn") == 0


def killed_process(server):
    """The process of a worker that runs a task dies: the worker rejects the task, and it comes again."""
    application = barn(server)
    team = worker(server, "--concurrency", "1")
    assert application.collapse.delay().get(timeout=RESULT_SECONDS) == "rebuilt"
    team.signal(signal.SIGTERM)
    team.succeed(within=RESULT_SECONDS)
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


SCENARIOS = [results, killed_worker, killed_process, retry, killed_broker]
harness.run_scenario(SCENARIOS, f"celery {celery.__version__}", seconds=150)
