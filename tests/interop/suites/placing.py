"""Tells test suites that know no broker but the one at `localhost:5672` where theirs is. A plugin of pytest.

SUITE_PORT is the broker's port on 127.0.0.1.
"""

import builtins
import os
import sys
import types

PORT = int(os.environ["SUITE_PORT"])


def place_amqplib():
    """amqplib's tests take the place from a module that reads the command line. Their Python is 2."""
    settings = types.ModuleType("settings")
    settings.connect_args = {"host": f"127.0.0.1:{PORT}", "userid": "guest", "password": "guest", "ssl": False}
    settings.test_args = {}
    sys.modules["settings"] = settings
    builtins.unicode = str


def place_txamqp():
    """txAMQP's tests have the port in them."""
    from twisted.internet import reactor

    connect = reactor.connectTCP

    def connect_tcp(host, port, *arguments, **named):
        return connect("127.0.0.1", PORT if port == 5672 else port, *arguments, **named)

    reactor.connectTCP = connect_tcp


{"amqplib": place_amqplib, "txamqp": place_txamqp}[os.environ["SUITE"]]()
