"""Node's amqplib: each scenario is a program in `nodejs/`, with NODE_PATH saying where the client is."""

import os

import harness

PROGRAMS = harness.HERE / "nodejs"


def node(server, program):
    """Runs one program to its end; it says "passed" when everything in it came true."""
    environment = dict(os.environ, AMQP_PORT=str(server.port))
    process = harness.Process(program, ["node", str(PROGRAMS / program)], env=environment)
    process.expect("^passed$", within=60)
    process.succeed()


def confirmed(server):
    """A thousand confirmed messages, a broker that is killed, and a consumer with prefetch."""
    node(server, "publish.js")
    server.kill()
    server.start()
    node(server, "consume.js")


def exchanges(server):
    node(server, "exchanges.js")


def returns(server):
    node(server, "returns.js")


def channel_errors(server):
    node(server, "channel_errors.js")


def tables(server):
    node(server, "tables.js")


SCENARIOS = [confirmed, exchanges, returns, channel_errors, tables]
harness.run_scenario(SCENARIOS, "amqplib")
