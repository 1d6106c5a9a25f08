"""Sends as many metrics as the argument says with carbon's publisher, each on a connection of its own."""

import os
import sys
import time

from carbon.amqp_publisher import writeMetric
from twisted.internet import defer, reactor


@defer.inlineCallbacks
def publish():
    place = "127.0.0.1", int(os.environ["AMQP_PORT"]), "guest", "guest", "/", "graphite"
    for number in range(int(sys.argv[1])):
        yield writeMetric(f"hosts.h{number}.load", number + 0.5, int(time.time()), *place)
    print("published", flush=True)


publish().addErrback(lambda failure: failure.printTraceback()).addBoth(lambda _: reactor.stop())
reactor.run()
