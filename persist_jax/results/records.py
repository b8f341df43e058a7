"""What a run leaves on disk: `result.json` and `history.npz`, each whole or not there at all."""

import io
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax.regularisers import REGULARISERS

RESULT_FILE = "result.json"
HISTORY_FILE = "history.npz"
STATUSES = ("completed", "diverged")
MOMENTS = ("initial", "trained")
PARTS = ("train", "validation", "test")
HISTORY_AXES = {
    "train_loss": 1,
    "train_term": 1,
    "validation_loss": 1,
    "validation_accuracy": 1,
    "seconds": 1,
    "deaths": 2,
    "deaths_iteration": 1,
}

FIELDS = {
    "network": (str, "a name"),
    "regulariser": (str, "a name"),
    "weight": (float, "a finite number"),
    "seed": (int, "a whole number"),
    "status": (str, "a name"),
    "reason": (str | None, "text or null"),
    "epochs": (int, "a whole number"),
    "best_epoch": (int, "a whole number"),
    "best_iteration": (int, "a whole number"),
    "validation_loss": (float | None, "a number or null"),
    "accuracy": (dict, "an object"),
    "seconds": (float, "a finite number"),
}

Accuracy = dict[str, dict[str, float | None]]


@dataclass(frozen=True, order=True)
class Run:
    """One point of the grid.

    Args:
        network: the network's name, which is also a folder's name.
        regulariser: one of `none, t1, t2, min_corr, l1, l2`.
        weight: the regularisation weight, 0 for `none`.
        seed: the seed.

    Raises:
        ValueError: for an unknown regulariser, a weight that is not finite and at least 0, a
            negative seed, or a name that is not one folder.

    Example:
        >>> Run("mlp0", "t1", 1e-3, 0).folder("runs/mnist").as_posix()
        'runs/mnist/runs/mlp0/t1/0.001/seed0'
    """

    network: str
    regulariser: str
    weight: float
    seed: int

    def __post_init__(self) -> None:
        if self.network in ("", ".", "..") or set(self.network) & set("/\\\0"):
            raise ValueError(f"network: {self.network!r} cannot name a folder")
        if self.regulariser not in REGULARISERS:
            choices = ", ".join(REGULARISERS)
            raise ValueError(f"regulariser: {self.regulariser!r} is not one of {choices}")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight: {self.weight!r} is not a finite number of at least 0")
        if self.seed < 0:
            raise ValueError(f"seed: {self.seed!r} is not at least 0")

    @property
    def label(self) -> str:
        """The run in words, `network regulariser weight seed`."""
        return f"{self.network} {self.regulariser} {self.weight:g} seed{self.seed}"

    def folder(self, workdir: str | os.PathLike[str]) -> Path:
        """The folder of this run in a sweep's folder."""
        grid = Path(workdir) / "runs" / self.network / self.regulariser
        return grid / f"{self.weight:g}" / f"seed{self.seed}"


@dataclass(frozen=True)
class Record:
    """What a run that has ended says about itself.

    Args:
        run: which run of the grid.
        status: "completed" or "diverged".
        reason: why it diverged, None when it completed.
        epochs: epochs trained.
        best_epoch: the epoch with the lowest validation loss.
        best_iteration: the iterations trained when that epoch ended.
        validation_loss: the lowest validation loss, None where there was no finite one.
        accuracy: `{"initial" | "trained": {"train" | "validation" | "test": fraction}}`; None for
            a value that a diverged run does not have.
        seconds: the wall time of the run.
        folder: where it was read from, None for a record that was not read.

    Raises:
        ValueError: naming the field that does not hold.
    """

    run: Run
    status: str
    reason: str | None
    epochs: int
    best_epoch: int
    best_iteration: int
    validation_loss: float | None
    accuracy: Accuracy
    seconds: float
    folder: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status: {self.status!r} is not one of {', '.join(STATUSES)}")
        for name in ("epochs", "best_epoch", "best_iteration", "seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)!r} is not finite and at least 0")
        if self.validation_loss is not None and not math.isfinite(self.validation_loss):
            raise ValueError(f"validation_loss: {self.validation_loss!r} is not finite")
        _check_accuracy(self.accuracy, may_miss=self.status == "diverged")

    @property
    def continued(self) -> bool:
        """Whether this run went on from a finished one, without the regulariser."""
        return self.folder is not None and self.folder.name == "continued"


def write_result(folder: str | os.PathLike[str], record: Record | Mapping[str, Any]) -> Path:
    """Writes `result.json`, whole or not at all.

    Args:
        folder: the run's folder, made when it is not there.
        record: the record, or a mapping with the fields of `result.json`. A loss or accuracy of a
            diverged run that is not finite is written as null.

    Returns:
        The path of the file.

    Raises:
        ValueError: one line that names the field that does not hold.
    """
    fields = _flat(record) if isinstance(record, Record) else record
    text = json.dumps(_flat(_from_json(fields)), indent=1, allow_nan=False) + "\n"
    return replace_file(Path(folder) / RESULT_FILE, text.encode())


def read_result(folder: str | os.PathLike[str]) -> Record:
    """Reads the `result.json` of one run.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    path = Path(folder) / RESULT_FILE
    try:
        return _from_json(json.loads(path.read_bytes()), Path(folder))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_results(workdir: str | os.PathLike[str]) -> list[Record]:
    """Reads every run of a sweep that has ended.

    Args:
        workdir: the sweep's folder, which holds `runs/`.

    Returns:
        The records, sorted by run; a continued run follows the one it continues.

    Raises:
        ValueError: one line that names the file that is broken or lies in the wrong folder.
    """
    records = []
    for path in Path(workdir).glob(f"runs/**/{RESULT_FILE}"):
        record = read_result(path.parent)
        folder = record.run.folder(workdir)
        if path.parent not in (folder, folder / "continued"):
            raise ValueError(f"{path}: the record of {record.run.label} belongs in {folder}")
        records.append(record)
    return sorted(records, key=lambda record: (record.run, record.continued))


def write_history(folder: str | os.PathLike[str], arrays: Mapping[str, Any]) -> Path:
    """Writes `history.npz`, whole or not at all.

    Args:
        folder: the run's folder, made when it is not there.
        arrays: `validation_loss` and any of `train_loss` (with its term) and `train_term` (times
            the weight) per iteration, `validation_accuracy`, `seconds` per epoch, `deaths`
            (snapshots, n - 1) and `deaths_iteration` (snapshots,).

    Returns:
        The path of the file.

    Raises:
        ValueError: one line that names the array that does not hold.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    _check_history(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return replace_file(Path(folder) / HISTORY_FILE, buffer.getvalue())


def read_history(folder: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the `history.npz` of one run.

    Returns:
        The arrays by name; empty when the run left no history.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    path = Path(folder) / HISTORY_FILE
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        _check_history(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {error}") from None
    return arrays


def replace_file(path: Path, content: bytes) -> Path:
    """Puts `content` at `path` in one step: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def _flat(record: Record) -> dict[str, Any]:
    fields = asdict(record)
    fields.pop("folder")
    return fields.pop("run") | fields


def _from_json(fields: Any, folder: Path | None = None) -> Record:
    if not isinstance(fields, Mapping):
        raise ValueError(f"a record is an object of named fields, not {type(fields).__name__}")
    missing = [name for name in FIELDS if name not in fields]
    unknown = [name for name in fields if name not in FIELDS]
    if missing or unknown:
        problem = f"{missing[0]}: missing" if missing else f"{unknown[0]}: unknown"
        raise ValueError(f"{problem}; a record has {', '.join(FIELDS)}")
    values = {name: _plain(fields[name]) for name in FIELDS}
    for name, (kind, words) in FIELDS.items():
        value = values[name]
        if isinstance(value, int) and not isinstance(value, bool) and isinstance(1.0, kind):
            values[name] = float(value)
        elif isinstance(value, bool) or not isinstance(value, kind):
            raise ValueError(f"{name}: {fields[name]!r} is not {words}")
    _check_accuracy(values["accuracy"], may_miss=values["status"] == "diverged")
    run = Run(**{name: values.pop(name) for name in Run.__dataclass_fields__})
    return Record(run=run, folder=folder, **values)


def _check_accuracy(accuracy: Any, *, may_miss: bool) -> None:
    if not isinstance(accuracy, Mapping) or set(accuracy) != set(MOMENTS):
        raise ValueError(f"accuracy: has the fields {', '.join(MOMENTS)}, not {accuracy!r}")
    for moment, parts in accuracy.items():
        if not isinstance(parts, Mapping) or set(parts) != set(PARTS):
            raise ValueError(f"accuracy.{moment}: has the fields {', '.join(PARTS)}, not {parts!r}")
        for part, value in parts.items():
            if not (_is_number(value) and 0 <= value <= 1) and not (value is None and may_miss):
                raise ValueError(f"accuracy.{moment}.{part}: {value!r} is not in [0, 1]")


def _check_history(arrays: Mapping[str, np.ndarray]) -> None:
    if "validation_loss" not in arrays:
        raise ValueError(f"validation_loss: missing among {', '.join(arrays) or 'no arrays'}")
    for name, array in arrays.items():
        if name not in HISTORY_AXES:
            raise ValueError(f"{name}: not one of {', '.join(HISTORY_AXES)}")
        if array.dtype.kind not in "fiu" or array.ndim != HISTORY_AXES[name]:
            axes = HISTORY_AXES[name]
            raise ValueError(f"{name}: {array.dtype}{array.shape} is not {axes}-d and real")
    if ("deaths" in arrays) != ("deaths_iteration" in arrays):
        raise ValueError("deaths: comes with deaths_iteration or not at all")
    if "deaths" in arrays and len(arrays["deaths"]) != len(arrays["deaths_iteration"]):
        shapes = arrays["deaths"].shape, arrays["deaths_iteration"].shape
        raise ValueError(f"deaths: {shapes[0]} and deaths_iteration: {shapes[1]} do not match")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Python's own numbers instead of NumPy's, and None for those JSON cannot hold."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
