"""Notes in a sweep's folder for the report; a note that cannot be written is skipped.

`commands.txt` has the commands that made the folder, `costs.jsonl` the seconds of every group.
"""

import datetime
import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

COMMANDS_FILE, COSTS_FILE = "commands.txt", "costs.jsonl"
_LONGEST = 10_000  # characters written of a command
_LARGEST = 2**20  # bytes read of a file


def note_command(workdir: Path, arguments: Sequence[str]) -> None:
    """Add a command and its arguments, with the time of its start."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    _append(workdir / COMMANDS_FILE, f"{now}  {shlex.join(arguments)[:_LONGEST]}")


def read_commands(workdir: Path) -> list[str]:
    """Read the commands in order, without repetitions; empty if there are none."""
    lines = _lines(workdir / COMMANDS_FILE)
    return list(dict.fromkeys(line.partition("  ")[2] for line in lines if "  " in line))


def note_cost(workdir: Path, cost: Mapping[str, float | str]) -> None:
    """Add the costs of a group: its label, and seconds by name."""
    _append(workdir / COSTS_FILE, json.dumps(cost))


def read_costs(workdir: Path) -> list[dict[str, float]]:
    """Read the seconds of every group in order; skip unreadable lines."""
    found = []
    for line in _lines(workdir / COSTS_FILE):
        with suppress(ValueError, AttributeError, TypeError):
            fields = json.loads(line).items()
            found.append({name: float(value) for name, value in fields if name != "group"})
    return found


def _append(path: Path, line: str) -> None:
    with suppress(OSError), open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def _lines(path: Path) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST).splitlines()
    except OSError:
        return []
