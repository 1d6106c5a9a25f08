"""What clients see, situation by situation, beside what RabbitMQ lets them see.

    test_settled.py AREA              play one area against a server of its own, and compare (what `cargo test` runs)
    test_settled.py show PATTERN      play what fits the pattern, like 'expiring/*', and print it, with what is different
    test_settled.py judge             show that the comparison can fail, in every way that it should
    test_settled.py page              compare what docs/compatibility.md tells of all this with what is written down
    test_settled.py differ            play what is different on purpose against a server of its own, and write down what it does
    test_settled.py record            play everything against INTEROP_BROKER, and make it the reference

With INTEROP_BROKER=HOST:PORT the first two play against that broker, too. INTEROP_RABBITMQCTL is the command that makes users in
it, `rabbitmqctl -n NODE` for one; without it they have to be there.
"""

import difflib
import fnmatch
import itertools
import os
import re
import sys

import harness
from settled import operators, player, situations, transcripts

SECONDS = 280  # for one area
PATIENCE = (1, 5, 20)  # how many times as long as usual is waited, one after the other
RECORD_SECONDS = 900  # for all of them, with RabbitMQ


def operator(server):
    """Who makes users in the server."""
    command = os.environ.get("INTEROP_RABBITMQCTL")
    if command:
        return operators.RabbitMQ(command.split())
    return operators.Haypile(os.environ["HAYPILE_BIN"], server.directory) if harness.owns_server() else None


def compare(name, lines, reference, different, not_yet):
    """What is wrong with what was played, as lines; none if it is as it should be."""
    same = lines == reference
    if name in not_yet:
        return [f"{name} holds now: take it out of {transcripts.NOT_YET.name}"] if same else []
    if name in different:
        _, recorded = different[name]
        if same:
            return [f"{name} is not different any more: take it out of {transcripts.DIFFERENCES.name}"]
        return diff(name, recorded, lines, transcripts.DIFFERENCES.name)
    return diff(name, reference, lines, transcripts.REFERENCE.name)


def diff(name, expected, lines, source):
    if lines == expected:
        return []
    changed = difflib.unified_diff(expected, lines, source, "this broker", lineterm="", n=20)
    return [f"--- {name}", *list(changed)]


def judge():
    """What is compared here is made up."""
    ours, theirs = ["a1 < ours"], ["a1 < theirs"]
    cases = [
        # played, reference, different, not yet, what is said of it
        (theirs, theirs, {}, {}, None),
        (ours, theirs, {}, {}, "+a1 < ours"),
        (theirs, theirs, {}, {"s": "reason"}, "holds now"),
        (ours, theirs, {}, {"s": "reason"}, None),
        (theirs, theirs, {"s": ("reason", ours)}, {}, "not different any more"),
        (ours, theirs, {"s": ("reason", ours)}, {}, None),
        (["a1 < neither"], theirs, {"s": ("reason", ours)}, {}, "+a1 < neither"),
    ]
    for *case, expected in cases:
        said_of_it = "\n".join(compare("s", *case))
        assert bool(said_of_it) == bool(expected) and (expected or "") in said_of_it, (case, said_of_it)
    print(f"judge: {len(cases)} cases")


def check_files():
    """Every situation has a section, every section a situation, and nothing is in two lists."""
    reference, different, not_yet = transcripts.read(transcripts.REFERENCE), transcripts.differences(), transcripts.not_yet()
    names = set(situations.all())
    assert set(reference) == names, f"in the reference or among the situations only: {set(reference) ^ names}"
    assert set(different) | set(not_yet) <= names, f"no situations: {(set(different) | set(not_yet)) - names}"
    assert not set(different) & set(not_yet), f"in both lists: {set(different) & set(not_yet)}"
    assert all(reason for reason, _ in different.values()) and all(not_yet.values()), "each needs its reason"
    return reference, different, not_yet


def area(server):
    wanted = situations.of(sys.argv[1])
    reference, different, not_yet = check_files()
    situations.prepare(sys.argv[1], operator(server))
    complaints = []
    for name, situation in wanted.items():
        # A machine that is too slow for what is waited usually shows something else. What is wrong stays so with more patience.
        for patience in PATIENCE:
            found = compare(name, player.play(situation, server.port, patience), reference[name], different, not_yet)
            if not found:
                break
            print(f"{name}: something else with {patience} times the patience", flush=True)
        complaints += found
    print("\n".join(complaints), flush=True)
    assert not complaints, f"{sys.argv[1]}: not as it is written down; see above"
    missing, other = (sum(name in listed for name in wanted) for listed in (not_yet, different))
    print(f"{len(wanted)} situations, {other} different on purpose, {missing} that do not hold yet")


def prepare_all(server):
    for name in situations.AREAS:
        situations.prepare(name, operator(server))


def show(server):
    prepare_all(server)
    reference = transcripts.read(transcripts.REFERENCE)
    for name, situation in situations.all().items():
        if not fnmatch.fnmatch(name, sys.argv[2]):
            continue
        lines = player.play(situation, server.port)
        print(f"\n[{name}]", *lines, sep="\n")
        if lines != reference.get(name):
            print(*diff(name, reference.get(name, []), lines, transcripts.REFERENCE.name), sep="\n", flush=True)


def differ(server):
    prepare_all(server)
    sections = {}
    for name, (reason, _) in transcripts.differences().items():
        sections[name] = [f"because: {reason}", *player.play(situations.all()[name], server.port)]
    heading = [
        "What is different from RabbitMQ 3.10.8 on purpose: why, and what Haypile does. `test_settled.py differ` writes the lines",
        "below the reasons anew; a section is added with its name and its reason.",
    ]
    transcripts.write(transcripts.DIFFERENCES, heading, sections)


def page():
    """The part of the page that is made from the files: it is printed where it is not what the page has."""
    reference, different, not_yet = check_files()
    lines = ["| area | situations | as RabbitMQ | different on purpose | not yet |", "|---|---|---|---|---|"]
    for name in situations.AREAS:
        wanted = situations.of(name)
        other, missing = (sum(one in listed for one in wanted) for listed in (different, not_yet))
        same = len(wanted) - other - missing
        lines.append(f"| {name.replace('_', ' ')} | {len(wanted)} | {same} | {other or ''} | {missing or ''} |")
    lines += ["", "| a client … | RabbitMQ 3.10.8 | Haypile | because |", "|---|---|---|---|"]
    for name, (reason, ours) in different.items():
        theirs = reference[name]
        words = name.partition("/")[2].replace("_", " ")
        lines.append(f"| {words} | {said(theirs, ours)} | {said(ours, theirs)} | {reason} |")
    lines += [f"\nNot yet: {name.partition('/')[2].replace('_', ' ')} ({reason})." for name, reason in not_yet.items()]
    path = harness.HERE.parents[1] / "docs" / "compatibility.md"
    begin, end = "<!-- settled -->\n", "<!-- the end of what is settled -->"
    told = path.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    wanted = "\n" + "\n".join(lines) + "\n\n"
    assert told == wanted, f"{path} should have, between the two marks:\n{wanted}"
    print(f"page: tells of {len(reference)} situations")


def said(lines, others):
    """What one side answers where the other says something else, for a table."""
    answers = []
    for line, other in itertools.zip_longest(lines, others):
        if line and line != other and " < " in line:
            answer = line.partition(" < ")[2]
            answers.append(re.sub(r"reply_code=(\d+) reply_text=(['\"])(.*)\2", r"\1 \3", answer))
    return "<br>".join(f"`{answer}`" for answer in answers)


def record(server):
    if harness.owns_server():
        raise SystemExit("INTEROP_BROKER says which broker is the reference")
    prepare_all(server)
    sections = {name: player.play(situation, server.port) for name, situation in situations.all().items()}
    heading = [
        "What RabbitMQ 3.10.8 does in each situation. Recorded, never edited: see the README.",
        "`a1 >` is what the client says on the first channel of its first connection, `<` what it is answered.",
    ]
    transcripts.write(transcripts.REFERENCE, heading, sections)


COMMANDS = {"show": show, "differ": differ, "record": record}

WITHOUT_A_SERVER = {"judge": judge, "page": page}

if len(sys.argv) < 2 or sys.argv[1] not in {*WITHOUT_A_SERVER, *COMMANDS, *situations.AREAS}:
    usage = " | ".join(["AREA", "show PATTERN", *WITHOUT_A_SERVER, "differ", "record"])
    raise SystemExit(f"usage: {os.path.basename(sys.argv[0])} {usage}; the areas: {', '.join(situations.AREAS)}")
if sys.argv[1] in WITHOUT_A_SERVER:
    raise SystemExit(WITHOUT_A_SERVER[sys.argv[1]]())
harness.run(COMMANDS.get(sys.argv[1], area), RECORD_SECONDS if sys.argv[1] == "record" else SECONDS)
