"""Where the time of a sweep goes: training, waiting for programs, and everything else."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax

from persist_jax.store.costs import Cost, note_cost
from persist_jax.training.cohort import Row
from persist_jax.training.compilation import seconds_waited

_NUMBERS = ("seconds", "training", "waiting", "compiling", "compiled", "cached")


class _Compilers:
    """What this process has compiled, in all its threads, as JAX tells of it."""

    def __init__(self):
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        jax.monitoring.register_event_duration_secs_listener(self._takes)
        jax.monitoring.register_event_listener(self._happens)

    def since_last(self) -> dict[str, float | int]:
        """`compiling`, `compiled` and `cached` since this was asked for the last time."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        cached = counts["cached"]
        compiled = max(0, counts["programs"] - cached)
        return {"compiling": float(counts["seconds"]), "compiled": compiled, "cached": cached}

    def _takes(self, event: str, seconds: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            with self._lock:
                self._counts.update({"programs": 1, "seconds": seconds})

    def _happens(self, event: str, **_: object) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            with self._lock:
                self._counts.update({"cached": 1})


_COMPILERS = _Compilers()
COSTS_HERE: list[Cost] = []  # of the groups that this process has trained


class Meter:
    """Takes the time of a group, and notes it in the sweep's folder at the end.

    Args:
        workdir: the sweep's folder.
        group: the group in words.
    """

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
            times = {"seconds": time.perf_counter() - self._began, "training": self._training}
            times |= {"waiting": seconds_waited() - self._waited}
            cost = Cost(group=self._group, **times, **_COMPILERS.since_last())
            note_cost(self._workdir, cost)
            COSTS_HERE.append(cost)


def total(costs: Iterable[Cost]) -> Cost:
    """The sums over groups."""
    costs = list(costs)
    sums = {name: sum(getattr(cost, name) for cost in costs) for name in _NUMBERS}
    return Cost(group=None, **sums)


def in_words(costs: Sequence[Cost], seconds: float) -> list[str]:
    """What a command spent, in two lines for a person.

    Args:
        costs: of its groups.
        seconds: of the whole command.

    Example:
        >>> cost = Cost(group="mlp_0 t1", seconds=9.0, training=5.0, waiting=3.0, compiling=6.0,
        ...             compiled=4, cached=1)
        >>> for line in in_words([cost, cost], 20.0):
        ...     print(line)
        Seconds: 20.0 in all, 18.0 for 2 groups: 10.0 training, 6.0 waiting for programs, 2.0 else
        Programs: 8 compiled in 12.0 s, side by side; 2 found in the cache folder
    """
    of = total(costs)
    rest = max(0.0, of.seconds - of.training - of.waiting)
    return [
        f"Seconds: {seconds:.1f} in all, {of.seconds:.1f} for {len(costs)} groups: "
        f"{of.training:.1f} training, {of.waiting:.1f} waiting for programs, {rest:.1f} else",
        f"Programs: {of.compiled} compiled in {of.compiling:.1f} s, side by side; "
        f"{of.cached} found in the cache folder",
    ]
