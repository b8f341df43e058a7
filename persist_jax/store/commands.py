"""The commands that a sweep's folder was made by: `commands.txt`, a line each."""

import datetime
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

COMMANDS_FILE = "commands.txt"
_LONGEST = 10_000  # characters of a line
_LARGEST = 2**20  # bytes of the file that are read


def note_command(workdir: Path, arguments: Sequence[str]) -> None:
    """Add a command, with the time of its start; one that cannot be written is left out.

    Args:
        workdir: the sweep's folder, which is there.
        arguments: the command and its arguments.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with suppress(OSError), open(workdir / COMMANDS_FILE, "a", encoding="utf-8") as file:
        file.write(f"{now}  {shlex.join(arguments)[:_LONGEST]}\n")


def read_commands(workdir: Path) -> list[str]:
    """The commands in order, one that was given again only once; empty where nothing is noted."""
    try:
        with open(workdir / COMMANDS_FILE, encoding="utf-8", errors="replace") as file:
            lines = file.read(_LARGEST).splitlines()
    except OSError:
        return []
    return list(dict.fromkeys(line.partition("  ")[2] for line in lines if "  " in line))
