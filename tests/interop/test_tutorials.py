"""The tutorials in `docs/tutorials`: the programs and the terminals of one page, exactly as they are printed.

A block of Python begins with the name of its file. A block of a console is one terminal: a command, and all that it prints. The
terminals are opened in the order of the page. A program that consumes for ever goes on in the background, once its first line is there,
and has to have printed the others when all the rest has been done; the others have to end well.
"""

import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

import pika

import harness

PAGES = harness.HERE.parent.parent / "docs" / "tutorials"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """The programs of a page, by the names of their files, and its terminals: a command and the lines that it prints."""
    programs, terminals = {}, []
    for language, text in BLOCK.findall((PAGES / page).read_text(encoding="utf-8")):
        lines = text.splitlines()
        if language == "python":
            name = re.fullmatch(r"# (\w+\.py)", lines[0])
            assert name, f"{page}: a program begins with {lines[0]!r}, not with the name of its file"
            programs[name.group(1)] = text
        elif language == "console":
            assert lines[0].startswith("$ python "), f"{page}: a terminal begins with {lines[0]!r}"
            assert not any(line.startswith("$") for line in lines[1:]), f"{page}: two commands in one"
            terminals.append((shlex.split(lines[0].removeprefix("$ python ")), lines[1:]))
        else:
            raise AssertionError(f"{page}: a block of {language!r} would not be tested")
    unused = set(programs) - {command[0] for command, _ in terminals}
    assert programs and not unused, f"{page}: never run: {unused}"
    return programs, terminals


def printed(process):
    return [line for _, line in process.lines]


def follow(page, server):
    programs, terminals = blocks(page)
    environment = dict(
        os.environ, AMQP_PORT=str(server.port), PYTHONPATH=str(harness.HERE / "tutorials")
    )
    with tempfile.TemporaryDirectory(dir=os.environ.get("INTEROP_SCRATCH")) as directory:
        for name, text in programs.items():
            (Path(directory) / name).write_text(text, encoding="utf-8")
        running = []
        for command, expected in terminals:
            process = harness.Process(
                command[0], [sys.executable, *command], env=environment, cwd=directory
            )
            if "start_consuming()" in programs[command[0]]:
                process.expect(f"^{re.escape(expected[0])}$")
                running.append((process, expected))
            else:
                process.succeed()
                assert printed(process) == expected, f"{page}: not {expected}: {process}"
        for process, expected in running:
            harness.wait_until(
                lambda: len(process.lines) >= len(expected) or not process.running(),
                f"{page}: {process} prints {expected}",
            )
        for process, expected in running:
            assert process.running(), f"{page}: it ended: {process}"
            process.kill()
            assert printed(process) == expected, f"{page}: not {expected}: {process}"


def page(path):
    def scenario(server):
        follow(path.name, server)

    scenario.__name__ = path.stem
    return scenario


SCENARIOS = [page(path) for path in sorted(PAGES.glob("[0-9]*.md"))]
harness.run_scenario(SCENARIOS, f"pika {pika.__version__}")
