"""What a person can look at while a group trains; none of it keeps the group from training."""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax.store.epoch_lines import EpochLines
from persist_jax.training.cohort import Row

NUMBERS = (
    "train_loss",
    "train_term",
    "validation_loss",
    "validation_accuracy",
    "constant_neurons",
    "seconds",
)


class Watcher:
    """Lines and, if wanted, event files of the runs of a group.

    That something cannot be written is said once, on standard error.

    Args:
        workdir: the sweep's folder.
        folders: of the runs in training, by run.
        epoch: epochs that they have behind them.
        tensorboard: whether to write event files.
    """

    def __init__(
        self, workdir: Path, folders: Mapping[int, Path], epoch: int, *, tensorboard: bool = False
    ):
        self._silent = False
        self._writers: dict[int, list[Any]] = {run: [] for run in folders}
        for run, folder in folders.items():
            self._open(run, EpochLines, folder, epoch)
            if tensorboard:
                from persist_jax.store.event_files import EventFile

                self._open(run, EventFile, workdir, folder, epoch)

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *error: object) -> None:
        for writers in self._writers.values():
            for writer in writers:
                self._try(writer.close)

    def append(self, epoch: int, rows: Mapping[int, Row]) -> None:
        """Write what an epoch was for each run that was trained.

        Args:
            epoch: its number, from 1.
            rows: by run.
        """
        for run, row in rows.items():
            for writer in self._writers[run]:
                self._try(writer.append, summary(epoch, row.history))

    def _open(self, run: int, kind: Callable[..., Any], *arguments: Any) -> None:
        self._try(lambda: self._writers[run].append(kind(*arguments)))

    def _try(self, write: Callable[..., None], *arguments: Any) -> None:
        try:
            write(*arguments)
        except OSError as error:
            if not self._silent:
                print(f"{error}: the epochs cannot be watched; training goes on", file=sys.stderr)
            self._silent = True


def summary(epoch: int, history: Mapping[str, np.ndarray]) -> dict[str, float | int | None]:
    """What an epoch was, as numbers by name.

    Args:
        epoch: its number, from 1.
        history: what it adds to a run's history.

    Returns:
        `epoch`, the means of `train_loss` and `train_term`, and `validation_loss`,
        `validation_accuracy`, `constant_neurons` and `seconds`; None for what is not finite, or
        was not reached.

    Example:
        >>> row = summary(3, {"train_loss": np.array([2.0, 1.0]), "validation_loss": np.ones(0)})
        >>> row["epoch"], row["train_loss"], row["validation_loss"]
        (3, 1.5, None)
    """
    arrays = {name: history.get(name, np.empty(0)) for name in NUMBERS}
    means = {name: _mean(array) for name, array in arrays.items() if array.size}
    finite = {name: value for name, value in means.items() if math.isfinite(value)}
    return {"epoch": epoch} | {name: finite.get(name) for name in NUMBERS}


def _mean(array: np.ndarray) -> float | int:
    if array.dtype.kind == "i":
        return int(array.mean())
    return float(f"{array.mean():.7g}")  # to the digits of float32
