"""Clients that begin with the protocol headers of older versions: carbon with txAMQP (0-8), and aioamqp (0-9).

carbon and what it stands on are the source distributions in INTEROP_SOURCES; aioamqp is installed.
"""

import os
import sys
import tarfile
import time
from pathlib import Path

import pika

import harness

PROGRAMS = harness.HERE / "programs_older"
METRICS = 100

CARBON = """
[cache]
STORAGE_DIR = {scratch}
LOCAL_DATA_DIR = {scratch}/metrics
LOG_DIR = {scratch}
PID_DIR = {scratch}
LINE_RECEIVER_PORT = 0
PICKLE_RECEIVER_PORT = 0
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query_port}
CARBON_METRIC_INTERVAL = 0
MAX_CREATES_PER_MINUTE = inf
ENABLE_AMQP = True
AMQP_HOST = 127.0.0.1
AMQP_PORT = {port}
AMQP_VHOST = /
AMQP_USER = guest
AMQP_PASSWORD = guest
AMQP_EXCHANGE = graphite
BIND_PATTERNS = #
"""
SCHEMAS = """
[all]
pattern = .*
retentions = 1s:1d
"""


def carbon(server):
    """carbon's listener stores a hundred metrics that its own publisher sends."""
    with harness.Scratch("carbon") as scratch:
        sources = unpack(scratch)
        path = os.pathsep.join(map(str, [sources["carbon"] / "lib", sources["txAMQP"] / "src", sources["whisper"]]))
        environment = dict(os.environ, PYTHONPATH=path, PYTHONUNBUFFERED="1", AMQP_PORT=str(server.port))
        settings = scratch / "carbon.conf"
        settings.write_text(CARBON.format(scratch=scratch, port=server.port, query_port=harness.free_port()))
        (scratch / "storage-schemas.conf").write_text(SCHEMAS)

        cache = [sys.executable, str(sources["carbon"] / "bin" / "carbon-cache.py"), f"--config={settings}", "--nodaemon", "start"]
        listener = harness.Process("carbon-cache", cache, env=environment, cwd=scratch)
        listener.expect("New AMQP connection made")
        listener.expect("binding exchange 'graphite'")
        harness.wait_until(lambda: routed(server, "probe"), f"the queue is bound: {listener}")

        publisher = harness.Process(
            "publish_metrics.py",
            [sys.executable, str(PROGRAMS / "publish_metrics.py"), str(METRICS)],
            env=environment,
            cwd=scratch,
        )
        publisher.expect("^published$", within=120)
        publisher.succeed()

        sys.path.insert(0, str(sources["whisper"]))
        import whisper

        for number in range(METRICS):
            file = scratch / "metrics" / "hosts" / f"h{number}" / "load.wsp"
            harness.wait_until(lambda: file.exists() and values(whisper, file), f"metric {number} is stored: {listener}")
            assert values(whisper, file) == [number + 0.5], file
        listener.kill()


def values(whisper, file):
    """All values of a metric in its file."""
    _, found = whisper.fetch(str(file), 0)
    return [value for value in found if value is not None]


def routed(server, metric):
    """Publishes a value of `metric`; whether it got to a queue."""
    connection = harness.connect(server)
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("graphite", metric, f"1 {time.time():.0f}", mandatory=True)
        return True
    except pika.exceptions.UnroutableError:
        return False
    finally:
        connection.close()


def unpack(scratch):
    """Unpacks carbon and what it stands on; the directories, by the names of the packages."""
    directories = {}
    for name in ["carbon", "txAMQP", "whisper"]:
        (archive,) = Path(os.environ["INTEROP_SOURCES"]).glob(f"{name}-*.tar.gz")
        with tarfile.open(archive) as sources:
            sources.extractall(scratch)
        directories[name] = scratch / archive.name.removesuffix(".tar.gz")
    return directories


def aioamqp(server):
    """Confirmed messages, a broker that is killed, and a consumer that acknowledges them in order."""
    for program in ["aioamqp_publish.py", "aioamqp_consume.py"]:
        environment = dict(os.environ, AMQP_PORT=str(server.port))
        process = harness.Process(program, [sys.executable, str(PROGRAMS / program)], env=environment)
        process.expect("^passed$")
        process.succeed()
        server.kill()
        server.start()
    assert harness.ready_messages(server, "older") == 0


harness.run_scenario([carbon, aioamqp], "carbon, aioamqp")
