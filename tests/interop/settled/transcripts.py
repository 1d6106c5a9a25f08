"""The files in which it is written down what brokers did.

A file is a list of sections: `[area/situation]` and the lines of its transcript. In `differences.txt` a section begins with the
reason, in lines that begin with `because:`. `not_yet.txt` has one situation on each line, and the reason after it. Lines that begin
with `#` are for people.
"""

from pathlib import Path

FILES = Path(__file__).resolve().parent
REFERENCE = FILES / "rabbitmq-3.10.8.txt"
DIFFERENCES = FILES / "differences.txt"
NOT_YET = FILES / "not_yet.txt"


def read(path):
    """The sections of a file: lines by name."""
    sections, lines = {}, None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]"):
            lines = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return sections


def write(path, heading, sections):
    text = "".join(f"# {line}\n" for line in heading)
    for name, lines in sections.items():
        text += f"\n[{name}]\n" + "".join(line + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def differences():
    """What is different on purpose: the reason and the lines, by name."""
    found = {}
    for name, lines in read(DIFFERENCES).items():
        reasons = [line.removeprefix("because: ") for line in lines if line.startswith("because: ")]
        found[name] = " ".join(reasons), [line for line in lines if not line.startswith("because: ")]
    return found


def not_yet():
    """What does not hold yet: the reason, by name."""
    found = {}
    for line in NOT_YET.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, reason = line.partition(" ")
            found[name] = reason.strip()
    return found
