"""The clients' own test suites, unchanged, against a server of its own.

Every test has to pass, but for those of `suites/exceptions.txt`, which have to fail: a list of what does not work says nothing
any more when nobody takes out what does. One whose reason begins with "races" has to pass like all others, but is given more
tries: it measures how fast two of its own threads are.

The first argument is the suite. Python's are in the source distributions in INTEROP_SOURCES, and the directory with the
certificates is the second argument; Go's is in Debian's package, and is compiled below INTEROP_SCRATCH, where it is kept.
amqplib itself is Debian's package, the only one for Python 3.
"""

import collections
import concurrent.futures
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree
from pathlib import Path

import harness
from suites import tidying

SECONDS = 200
# How often a test is tried that races.
TRIES = 5
GO_PATH = Path("/usr/share/gocode")
GO_PACKAGE = "github.com/rabbitmq/amqp091-go"
DEBIAN_PACKAGES = Path("/usr/lib/python3/dist-packages")


def py_amqp(scratch):
    """py-amqp's integration tests, those of TLS with certificates of ours in the place of its own."""
    sources = unpack("amqp", scratch)
    files, certificates = Path(sys.argv[2]), sources / "t" / "certs"
    certificates.mkdir()
    places = {
        "ca_certificate": "roots.pem",
        "client_certificate": "client.pem",
        "client_key": "client.key",
        # A certificate, and the key of another.
        "client_certificate_broken": "client.pem",
        "client_key_broken": "localhost.key",
    }
    for name, ours in places.items():
        shutil.copy(files / ours, certificates / f"{name}.pem")
    tls = harness.free_port()
    server = start(
        scratch,
        f"tls.listen=127.0.0.1:{tls}",
        f"tls.certificate={files}/localhost.pem",
        f"tls.key={files}/localhost.key",
        f"tls.client_roots={files}/roots.pem",
    )
    return pytest(sources, ["t/integration"], server, RABBITMQ_5671_TCP=str(tls))


def kombu(scratch):
    """kombu's integration tests of the transport for AMQP."""
    sources = unpack("kombu", scratch)
    return pytest(sources, ["t/integration/test_py_amqp.py"], start(scratch))


def amqpstorm(scratch):
    """AMQPStorm's functional tests, without those of RabbitMQ's HTTP interface."""
    sources = unpack("amqpstorm", scratch)
    # They know no port but the usual one, which may be taken on the usual address.
    host = ".".join(map(str, [127, *(random.randint(1, 254) for _ in range(3))]))
    server = harness.Server(scratch / "data", addresses=[f"{host}:5672"])
    server.start()
    variables = {
        "AMQP_HOST": host,
        "AMQP_USERNAME": "guest",
        "AMQP_PASSWORD": "guest",
        "AMQP_URI": f"amqp://guest:guest@{host}:5672/%2F",
        "AMQP_HTTP_URL": f"http://127.0.0.1:{tidying.serve(server.port)}",
    }
    tests = sources / "amqpstorm" / "tests" / "functional"
    files = sorted(str(file) for file in tests.glob("test_*.py") if file.name != "test_web_based.py")
    # The client polls, and waits most of the time: three at a time.
    long = "Consume1k or PublishAndConsume1k"
    reliability = str(tests / "test_reliability.py")
    files.remove(reliability)
    parts = [[reliability, "-k", long], [reliability, "-k", f"not ({long})"], files]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(collections.ChainMap(*pool.map(lambda part: pytest(sources, part, server, **variables), parts)))


def amqplib(scratch):
    """All tests of amqplib, which speaks AMQP 0-8."""
    tests = unpack("amqplib", scratch) / "tests" / "client_0_8"
    packages = scratch / "packages"
    packages.mkdir()
    (packages / "amqplib").symlink_to(DEBIAN_PACKAGES / "amqplib")
    return placed("amqplib", tests, ["."], start(scratch), packages)


def txamqp(scratch):
    """All tests of txAMQP, in AMQP 0-8: the description of the protocol is carbon's."""
    sources = unpack("txAMQP", scratch) / "src"
    description = unpack("carbon", scratch) / "lib" / "carbon" / "amqp0-8.xml"
    # Where its repository has them, seen from the package and from what it is in.
    for place in ["standard/amqp0-9.stripped.xml", "rabbitmq/amqp0-8.stripped.rabbitmq.xml"]:
        for specs in [sources / "specs", sources.parent / "specs"]:
            (specs / place).parent.mkdir(parents=True)
            shutil.copy(description, specs / place)
    return placed("txamqp", sources, ["txamqp/test"], start(scratch), sources, TXAMQP_BROKER="RABBITMQ")


def placed(suite, directory, tests, server, packages, **variables):
    """Runs tests that know but one place for a broker, with `packages` to import from."""
    path = os.pathsep.join([str(harness.HERE / "suites"), str(packages)])
    variables.update(SUITE=suite, SUITE_PORT=str(server.port), PYTHONPATH=path)
    return pytest(directory, ["-p", "placing", *tests], server, **variables)


def amqp091(scratch):
    """The tests of Go's client, those that need no broker among them."""
    kept = Path(os.environ.get("INTEROP_SCRATCH", scratch)) / "go"
    kept.mkdir(exist_ok=True)
    environment = dict(os.environ, GO111MODULE="off", GOPATH=str(GO_PATH), GOCACHE=str(kept / "cache"), GOFLAGS="")
    binary = kept / "amqp091.test"
    compile = ["go", "test", "-c", "-tags", "integration", "-o", str(binary), GO_PACKAGE]
    subprocess.run(compile, env=environment, check=True, timeout=SECONDS)

    server = start(scratch)
    environment["AMQP_URL"] = f"amqp://guest:guest@127.0.0.1:{server.port}/"

    def run(*which):
        command = [str(binary), "-test.v", f"-test.timeout={SECONDS}s", *which]
        output = printed(command, GO_PATH / "src" / GO_PACKAGE, environment)
        return {name: verdict == "PASS" for verdict, name in re.findall(r"^--- (PASS|FAIL|SKIP): (\S+)", output, re.MULTILINE)}

    passed = run()
    for name in racing("amqp091"):
        for _ in range(1, TRIES):
            if not passed.get(name):
                print(f"{name} lost its race, once more", flush=True)
                passed.update(run(f"-test.run=^{name}$"))
    return passed


def start(scratch, *settings):
    server = harness.Server(scratch / "data", settings)
    server.start()
    return server


def unpack(name, scratch):
    (archive,) = Path(os.environ["INTEROP_SOURCES"]).glob(f"{name}-*gz")
    with tarfile.open(archive) as sources:
        sources.extractall(scratch)
    return scratch / archive.name.removesuffix(".tar.gz").removesuffix(".tgz")


def pytest(directory, tests, server, **variables):
    """Runs the tests in the unpacked sources; whether each has passed, by its name."""
    environment = dict(os.environ, RABBITMQ_HOST="localhost", RABBITMQ_5672_TCP=str(server.port), **variables)
    report = Path(tempfile.mkstemp(suffix=".xml", dir=directory)[1])
    # Tests that are marked as flaky are not given another try: what would do that is not installed.
    quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore"]
    printed([sys.executable, "-m", "pytest", *quiet, f"--junitxml={report}", *tests], directory, environment)
    passed = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        module = re.sub(r"^.*?(?=test_)", "", case.get("classname"))
        passed[f"{module}.{case.get('name')}"] = not list(case)
    return passed


def printed(command, directory, environment):
    """What a command printed, which is printed here as well. Whether it found fault is seen in what it printed."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS,
    )
    print(done.stdout, flush=True)
    return done.stdout


def exceptions(suite):
    """The tests of a suite that need not pass, and why."""
    found = {}
    for line in (harness.HERE / "suites" / "exceptions.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            of, test, reason = line.split(maxsplit=2)
            if of == suite:
                found[test] = reason
    return found


def racing(suite):
    """The tests of a suite that measure how fast their own threads are."""
    return [name for name, reason in exceptions(suite).items() if reason.startswith("races")]


def judge(suite, passed):
    races = racing(suite)
    listed = [name for name in exceptions(suite) if name not in races]
    complaints = [f"{name} failed, and is not listed" for name, well in passed.items() if not well and name not in listed]
    complaints += [f"{name} passed: take it out of the list" for name, well in passed.items() if well and name in listed]
    complaints += [f"{name} is listed, and was not run" for name in [*listed, *races] if name not in passed]
    assert not complaints, "\n".join(complaints)
    assert sum(passed.values()) > 0, "nothing was run"
    print(f"{suite}: {sum(passed.values())} tests passed, {len(listed)} listed as exceptions", flush=True)
    # What the page tells of it.
    told = f"{len(passed) - len(listed)} of {len(passed)}"
    page = (harness.HERE.parents[1] / "docs" / "compatibility.md").read_text(encoding="utf-8")
    row = re.search(rf"^.*<!-- {suite} -->.*$", page, re.MULTILINE).group()
    assert f" {told} " in row, f"docs/compatibility.md should say {told}: {row}"


SUITES = {suite.__name__: suite for suite in [py_amqp, kombu, amqpstorm, amqp091, amqplib, txamqp]}

if len(sys.argv) < 2 or sys.argv[1] not in SUITES:
    raise SystemExit(f"usage: test_suites.py {'|'.join(SUITES)}")
harness.deadline(SECONDS + 80)
with harness.Scratch(f"suite-{sys.argv[1]}") as scratch:
    judge(sys.argv[1], SUITES[sys.argv[1]](scratch))
