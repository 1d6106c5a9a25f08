"""Ruby's Bunny: each scenario is a program in `ruby/`."""

import os

import harness

PROGRAMS = harness.HERE / "ruby"


def start(server, program):
    environment = dict(os.environ, AMQP_PORT=str(server.port))
    return harness.Process(program, ["ruby", str(PROGRAMS / program)], env=environment)


def ruby(server, program):
    """Runs one program to its end; it says "passed" when everything in it came true."""
    process = start(server, program)
    process.expect("^passed$", within=60)
    process.succeed()


def confirmed(server):
    """A thousand confirmed messages, a broker that is killed, and a consumer with prefetch."""
    ruby(server, "publish.rb")
    server.kill()
    server.start()
    ruby(server, "consume.rb")


def exchanges(server):
    ruby(server, "exchanges.rb")


def returns(server):
    ruby(server, "returns.rb")


def channel_errors(server):
    ruby(server, "channel_errors.rb")


def recovery(server):
    """A client that comes back to a broker that was killed, with its queue, its binding and its consumer."""
    process = start(server, "recovery.rb")
    process.expect("^listening$", within=60)
    server.kill()
    server.start()
    process.expect("^passed$", within=60)
    process.succeed()


SCENARIOS = [confirmed, exchanges, returns, channel_errors, recovery]
harness.run_scenario(SCENARIOS, "bunny")
