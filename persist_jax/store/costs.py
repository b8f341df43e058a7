"""How long groups took, and for what: `costs.jsonl` in a sweep's folder, an object per line."""

import json
from contextlib import suppress
from pathlib import Path

from persist_jax._plumbing.validation import Fields
from persist_jax.parameters import Count, NotNegative

COSTS_FILE = "costs.jsonl"
_LARGEST = 2**24  # bytes of the file that are read


class Cost(Fields):
    """What a process spent on a group, from its claim to its last result or its interruption.

    Attributes:
        group: the group in words; null for a whole command, whose numbers are sums over its groups
            and whose seconds are its own.
        seconds: by the clock.
        training: seconds in which epochs were computed.
        waiting: seconds in which training waited for programs.
        compiling: seconds of compilers, in all threads of the process; of later groups too.
        compiled: programs that were compiled, the many small ones too.
        cached: programs that were found in the cache folder instead.
    """

    group: str | None
    seconds: NotNegative
    training: NotNegative
    waiting: NotNegative
    compiling: NotNegative
    compiled: Count
    cached: Count


def note_cost(workdir: Path, cost: Cost) -> None:
    """Add a line; it is only ever looked at, so one that cannot be written is left out."""
    with suppress(OSError), open(workdir / COSTS_FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps(cost.plain()) + "\n")


def read_costs(workdir: Path) -> list[Cost]:
    """The lines in order, without those that cannot be read."""
    found = []
    with suppress(OSError), open(workdir / COSTS_FILE, encoding="utf-8", errors="replace") as file:
        for line in file.read(_LARGEST).splitlines():
            with suppress(ValueError):
                found.append(Cost.read(json.loads(line)))
    return found
