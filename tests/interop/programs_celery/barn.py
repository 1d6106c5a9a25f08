"""A small Celery application: tasks that are acknowledged when they are done, and results that come back as messages.

With BARN_QUEUE=quorum its queue is one of RabbitMQ's quorum queues, and tasks wait in the broker until they are due. With
BARN_QUEUE=priorities the more important of its tasks go before the others.
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
)
if os.environ.get("BARN_QUEUE") == "priorities":
    app.conf.update(task_queue_max_priority=9)
if os.environ.get("BARN_QUEUE") == "quorum":
    # Tasks wait in the broker only where the exchange is a topic exchange.
    app.conf.update(task_default_queue_type="quorum", task_default_exchange_type="topic")


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
