"""A run's history, `history.npz`: measurements of every iteration and epoch."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax._plumbing.plain_files import read_arrays
from persist_jax.store.files import replace_file

HISTORY_FILE = "history.npz"
# The arrays and their number of axes; the first axis counts iterations, epochs or snapshots.
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

# Prefix of the names of arrays that hold a scalar of `persist_jax.measures` per epoch.
MEASURES = "measures/"

Rows = dict[str, np.ndarray]


def join_rows(rows: Sequence[Rows]) -> Rows:
    """Join the rows of consecutive epochs into one history; NaN where an epoch was not measured."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.concatenate([_column(row, name) for row in rows]) for name in names}


def _column(row: Rows, name: str) -> np.ndarray:
    if name.startswith(MEASURES) and name not in row:
        return np.full(len(row["validation_loss"]), np.nan, np.float32)
    return row[name]


def write_history(folder: str | os.PathLike[str], arrays: Mapping[str, Any]) -> Path:
    """Write `history.npz` atomically.

    Args:
        folder: the run's folder, created if missing.
        arrays: `validation_loss`, and any of these. Per iteration: `train_loss` (including the
            term) and `train_term` (times the weight). Per epoch: `validation_accuracy`,
            `constant_neurons` among the sampled neurons, `seconds` and any `measures/<name>`. Per
            snapshot: `deaths` (snapshots, n - 1) and `deaths_iteration` (snapshots,).

    Returns:
        The path of the file.

    Raises:
        ValueError: an array is wrong; one line that names it.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    _check(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return replace_file(Path(folder) / HISTORY_FILE, buffer.getvalue())


def read_history(folder: str | os.PathLike[str]) -> Rows:
    """Read the `history.npz` of one run.

    Returns:
        The arrays by name; empty if the run has no history.

    Raises:
        ValueError: the file is wrong or damaged; one line that names it.
    """
    path = Path(folder) / HISTORY_FILE
    if not path.exists():
        return {}
    arrays = read_arrays(path)
    try:
        _check(arrays)
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    return arrays


def _check(arrays: Mapping[str, np.ndarray]) -> None:
    if "validation_loss" not in arrays:
        raise ValueError(f"validation_loss: missing among {', '.join(arrays) or 'no arrays'}")
    for name, array in arrays.items():
        if name not in AXES and not name.startswith(MEASURES):
            raise ValueError(f"{name}: not one of {', '.join(AXES)}, {MEASURES}...")
        axes = AXES.get(name, 1)
        if array.dtype.kind not in "fiu" or array.ndim != axes:
            raise ValueError(f"{name}: {array.dtype}{array.shape} is not {axes}-d and real")
    if ("deaths" in arrays) != ("deaths_iteration" in arrays):
        raise ValueError("deaths: must be given together with deaths_iteration")
    if "deaths" in arrays and len(arrays["deaths"]) != len(arrays["deaths_iteration"]):
        shapes = arrays["deaths"].shape, arrays["deaths_iteration"].shape
        raise ValueError(f"deaths: {shapes[0]} and deaths_iteration: {shapes[1]} do not match")
