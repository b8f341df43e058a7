"""Read the runs of a folder as a pandas table."""

import os
from pathlib import Path

import pandas as pd

from persist_jax.store.record import Record, read_results

_PARTS = ("train", "validation", "test")


def read_table(workdir: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the finished runs of a folder as a table; see `persist_jax.load_runs`."""
    if not Path(workdir).is_dir():
        raise ValueError(f"workdir: {workdir} is not a folder")
    return pd.DataFrame([_row(record) for record in read_results(workdir)])


def _row(record: Record) -> dict[str, object]:
    names = ("network", "regulariser", "weight", "seed", "status", "continued", "epochs")
    names += ("best_epoch", "best_iteration", "validation_loss", "seconds", "points")
    row = {name: getattr(record, name) for name in names}
    row |= {part: getattr(record.accuracy.trained, part) for part in _PARTS}
    row |= {f"initial_{part}": getattr(record.accuracy.initial, part) for part in _PARTS}
    found = record.redundancy.trained if record.redundancy else None
    for name in ("constant", "clusters", "clustered", "mean_correlation"):
        row[name] = getattr(found, name, None)
    if record.evaluation is not None:
        for moment in ("best", "last"):
            numbers = getattr(record.evaluation, moment)
            row |= {f"{moment}_{name}": value for name, value in numbers.items()}
        row["epochs_to_loss"] = record.evaluation.loss and record.evaluation.loss.epochs
    return row | {"folder": str(record.folder)}
