"""Write epoch lines and event files of a group in training; a failed write does not stop it."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax.store.epoch_lines import EpochLines
from persist_jax.store.history import MEASURES
from persist_jax.store.notes import note_cost
from persist_jax.training.cohort import Row
from persist_jax.training.compilation import seconds_waited

NUMBERS = (
    "train_loss",
    "train_term",
    "validation_loss",
    "validation_accuracy",
    "constant_neurons",
    "seconds",
)
COSTS_HERE: list[dict[str, float]] = []  # costs of the groups that this process trained


class Watcher:
    """Writes epoch lines and, if wanted, event files of a group's runs, and the group's costs.

    The first write that fails is reported on standard error.

    Args:
        workdir: the sweep's folder.
        group: the group's label.
        folders: by run in training, its folder.
        epoch: number of epochs trained before.
        tensorboard: whether to write event files.
    """

    def __init__(
        self,
        workdir: Path,
        group: str,
        folders: Mapping[int, Path],
        epoch: int,
        *,
        tensorboard: bool = False,
    ):
        self._workdir, self._group = workdir, group
        self._began, self._waited, self._training = time.perf_counter(), seconds_waited(), 0.0
        self._silent = False
        self._writers: dict[int, list[Any]] = {run: [] for run in folders}
        for run, folder in folders.items():
            self._open(run, EpochLines, folder, epoch)
            if tensorboard:
                from persist_jax.store.event_files import EventFile

                self._open(run, EventFile, workdir, folder, epoch)

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        for writers in self._writers.values():
            for writer in writers:
                self._try(writer.close)
        if kind is None:
            cost = {"seconds": time.perf_counter() - self._began, "training": self._training}
            cost |= {"waiting": seconds_waited() - self._waited}
            note_cost(self._workdir, {"group": self._group} | cost)
            COSTS_HERE.append(cost)

    def append(self, epoch: int, rows: Mapping[int, Row]) -> None:
        """Write the rows of an epoch, counted from 1, for each run that was trained."""
        for run, row in rows.items():
            self._training += float(row.history["seconds"].sum())  # its lanes share the time
            for writer in self._writers[run]:
                self._try(writer.append, summary(epoch, row.history))

    def _open(self, run: int, kind: Callable[..., Any], *arguments: Any) -> None:
        self._try(lambda: self._writers[run].append(kind(*arguments)))

    def _try(self, write: Callable[..., None], *arguments: Any) -> None:
        try:
            write(*arguments)
        except OSError as error:
            if not self._silent:
                print(f"{error}: cannot write the epochs; training continues", file=sys.stderr)
            self._silent = True


def in_words(costs: Sequence[Mapping[str, float]], seconds: float) -> str:
    """Return one line on the seconds of a command and of its groups.

    Example:
        >>> cost = {"seconds": 9.0, "training": 5.0, "waiting": 3.0}
        >>> in_words([cost, cost], 20.0)
        'Seconds: 20.0 in all, 18.0 for 2 groups: 10.0 training, 6.0 awaiting compilation, 2.0 else'
    """
    names = ("seconds", "training", "waiting")
    groups, training, waiting = (sum(cost.get(name, 0.0) for cost in costs) for name in names)
    return (
        f"Seconds: {seconds:.1f} in all, {groups:.1f} for {len(costs)} groups: {training:.1f} "
        f"training, {waiting:.1f} awaiting compilation, "
        f"{max(0.0, groups - training - waiting):.1f} else"
    )


def summary(epoch: int, history: Mapping[str, np.ndarray]) -> dict[str, float | int | None]:
    """Summarise an epoch as numbers by name.

    Args:
        epoch: the epoch's number, from 1.
        history: the epoch's part of a run's history.

    Returns:
        `epoch`, the means of `train_loss` and `train_term`, and `validation_loss`,
        `validation_accuracy`, `constant_neurons`, `seconds` and any `measures/<name>`; None for
        values that are missing or not finite.

    Example:
        >>> row = summary(3, {"train_loss": np.array([2.0, 1.0]), "validation_loss": np.ones(0)})
        >>> row["epoch"], row["train_loss"], row["validation_loss"]
        (3, 1.5, None)
    """
    names = (*NUMBERS, *sorted(name for name in history if name.startswith(MEASURES)))
    arrays = {name: history.get(name, np.empty(0)) for name in names}
    means = {name: _mean(array) for name, array in arrays.items() if array.size}
    finite = {name: value for name, value in means.items() if math.isfinite(value)}
    return {"epoch": epoch} | {name: finite.get(name) for name in names}


def _mean(array: np.ndarray) -> float | int:
    if array.dtype.kind == "i":
        return int(array.mean())
    return float(f"{array.mean():.7g}")  # to the digits of float32
