"""A small Celery application: tasks that are acknowledged when they are done, and results that come back as messages.

The settings under "refused" are there because their defaults ask for queues that expire, which the broker refuses with 540.
"""

import os
import signal
import time
from pathlib import Path

from celery import Celery

app = Celery(
    "barn",
    broker=f"amqp://guest:guest@localhost:{os.environ.get('AMQP_PORT', '5672')}//",
    backend="rpc://",
)
app.conf.update(
    task_default_queue="barn",
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    result_persistent=True,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    # Refused: a queue for results with `x-expires`, queues for remote control with `x-expires` and `x-message-ttl`.
    result_expires=None,
    worker_enable_remote_control=False,
)


@app.task
def stack(bales):
    print(f"stacked {bales}")
    return sum(bales)


@app.task
def burn():
    raise ValueError("hay does not burn here")


@app.task(bind=True)
def guard(self, gate):
    """Runs until there is a file at `gate`."""
    print(f"on guard, redelivered={self.request.delivery_info['redelivered']}")
    while not Path(gate).exists():
        time.sleep(0.02)
    return "relieved"


@app.task(bind=True)
def collapse(self):
    """Takes the process that runs it along, the first time."""
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "rebuilt"


@app.task(bind=True, max_retries=3)
def climb(self):
    """Succeeds at the fourth attempt."""
    print(f"attempt {self.request.retries}")
    if self.request.retries < 3:
        raise self.retry(countdown=0)
    return self.request.retries
