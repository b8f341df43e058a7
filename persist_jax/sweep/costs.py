"""Where the time of a sweep goes: training, waiting for programs, and everything else."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from persist_jax.store.notes import note_cost
from persist_jax.training.cohort import Row
from persist_jax.training.compilation import seconds_waited

COSTS_HERE: list[dict[str, float]] = []  # of the groups that this process has trained


class Meter:
    """Takes the time of a group, and notes it in the sweep's folder when its training ends."""

    def __init__(self, workdir: Path, group: str):
        self._workdir, self._group, self._training = workdir, group, 0.0

    def __enter__(self) -> "Meter":
        self._began, self._waited = time.perf_counter(), seconds_waited()
        return self

    def epoch(self, rows: Mapping[int, Row]) -> None:
        """Count an epoch, whose time its lanes share."""
        self._training += sum(float(row.history["seconds"].sum()) for row in rows.values())

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            cost = {"seconds": time.perf_counter() - self._began, "training": self._training}
            cost |= {"waiting": seconds_waited() - self._waited}
            note_cost(self._workdir, {"group": self._group} | cost)
            COSTS_HERE.append(cost)


def in_words(costs: Sequence[Mapping[str, float]], seconds: float) -> str:
    """What a command took, and its groups.

    Example:
        >>> cost = {"seconds": 9.0, "training": 5.0, "waiting": 3.0}
        >>> in_words([cost, cost], 20.0)
        'Seconds: 20.0 in all, 18.0 for 2 groups: 10.0 training, 6.0 waiting for programs, 2.0 else'
    """
    names = ("seconds", "training", "waiting")
    groups, training, waiting = (sum(cost.get(name, 0.0) for cost in costs) for name in names)
    return (
        f"Seconds: {seconds:.1f} in all, {groups:.1f} for {len(costs)} groups: {training:.1f} "
        f"training, {waiting:.1f} waiting for programs, "
        f"{max(0.0, groups - training - waiting):.1f} else"
    )
