"""A run's history: parts while it trains, `history.npz` once it has ended."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax._plumbing.plain_files import read_arrays
from persist_jax.store.files import replace_file
from persist_jax.store.run import CHECKPOINT_FOLDER

HISTORY_FILE = "history.npz"
# The arrays and their number of axes; the first one counts iterations, epochs or snapshots.
AXES = {
    "train_loss": 1,
    "train_term": 1,
    "validation_loss": 1,
    "validation_accuracy": 1,
    "constant_neurons": 1,
    "seconds": 1,
    "deaths": 2,
    "deaths_iteration": 1,
}
_PART = "history-{:06d}.npz"

Rows = dict[str, np.ndarray]


class GrowingHistory:
    """Rows of one run in training. Every checkpoint moves them into a part named after its epoch.

    Args:
        folder: the run's folder.
        epoch: the epoch at which training goes on; parts written after it are of no run and go.
    """

    def __init__(self, folder: str | os.PathLike[str], epoch: int):
        self._folder = Path(folder)
        self._rows: list[Rows] = []
        for part in _parts(folder):
            if part.name > _PART.format(epoch):
                part.unlink()

    @classmethod
    def check(cls, folder: str | os.PathLike[str], epoch: int, began: int) -> None:
        """Refuse to go on where a part up to an epoch is damaged or missing; changes nothing.

        Args:
            folder: the run's folder.
            epoch: epochs that the run has behind it.
            began: epochs that it had behind it before its history began.

        Raises:
            ValueError: one line that names the part or the folder.
        """
        parts = [part for part in _parts(folder) if part.name <= _PART.format(epoch)]
        rows = sum(len(_read(part)["validation_loss"]) for part in parts)
        if rows != epoch - began:
            where = Path(folder) / CHECKPOINT_FOLDER
            raise ValueError(
                f"{where}: a part of the history is missing, {len(parts)} parts have {rows} "
                f"epochs of {epoch - began}"
            )

    def append(self, rows: Rows) -> None:
        """Add the rows of an epoch, every array of which goes on where the last one ended."""
        self._rows.append(rows)

    def flush(self, epoch: int) -> None:
        """Move the rows of memory to disk."""
        if self._rows:
            part = self._folder / CHECKPOINT_FOLDER / _PART.format(epoch)
            replace_file(part, _archive(_join(self._rows)))
            self._rows = []

    def finish(self) -> Rows:
        """Write `history.npz` from all rows and return it."""
        arrays = _join([_read(path) for path in _parts(self._folder)] + self._rows)
        write_history(self._folder, arrays)
        return arrays


def discard_parts(folder: str | os.PathLike[str]) -> None:
    """Delete the parts of a run's history, once its result is on disk."""
    for part in _parts(folder):
        part.unlink()


def write_history(folder: str | os.PathLike[str], arrays: Mapping[str, Any]) -> Path:
    """Write `history.npz`, whole or not at all.

    Args:
        folder: the run's folder, made when it is not there.
        arrays: `validation_loss` and any of `train_loss` (with its term) and `train_term` (times
            the weight) per iteration, `validation_accuracy`, `constant_neurons` among the sampled
            ones and `seconds` per epoch, `deaths` (snapshots, n - 1) and `deaths_iteration`
            (snapshots,).

    Returns:
        The path of the file.

    Raises:
        ValueError: one line that names the array that does not hold.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    _check(arrays)
    return replace_file(Path(folder) / HISTORY_FILE, _archive(arrays))


def read_history(folder: str | os.PathLike[str]) -> Rows:
    """Read the `history.npz` of one run.

    Returns:
        The arrays by name; empty when the run left no history.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    path = Path(folder) / HISTORY_FILE
    return _read(path) if path.exists() else {}


def _parts(folder: str | os.PathLike[str]) -> list[Path]:
    return sorted((Path(folder) / CHECKPOINT_FOLDER).glob("history-*.npz"))


def _read(path: Path) -> Rows:
    arrays = read_arrays(path)
    try:
        _check(arrays)
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    return arrays


def _archive(arrays: Rows) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _join(rows: list[Rows]) -> Rows:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _check(arrays: Mapping[str, np.ndarray]) -> None:
    if "validation_loss" not in arrays:
        raise ValueError(f"validation_loss: missing among {', '.join(arrays) or 'no arrays'}")
    for name, array in arrays.items():
        if name not in AXES:
            raise ValueError(f"{name}: not one of {', '.join(AXES)}")
        if array.dtype.kind not in "fiu" or array.ndim != AXES[name]:
            raise ValueError(f"{name}: {array.dtype}{array.shape} is not {AXES[name]}-d and real")
    if ("deaths" in arrays) != ("deaths_iteration" in arrays):
        raise ValueError("deaths: comes with deaths_iteration or not at all")
    if "deaths" in arrays and len(arrays["deaths"]) != len(arrays["deaths_iteration"]):
        shapes = arrays["deaths"].shape, arrays["deaths_iteration"].shape
        raise ValueError(f"deaths: {shapes[0]} and deaths_iteration: {shapes[1]} do not match")
