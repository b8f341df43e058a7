"""A run's history while it grows: rows since the last checkpoint in memory, the rest on disk."""

from pathlib import Path

import numpy as np

from persist_jax.results.records import write_history
from persist_jax.training.epoch import EpochMetrics, Schedule

_PART = "history-{:06d}.npz"


class History:
    """Rows of one run. Every checkpoint moves them into a part file named after its epoch.

    Args:
      folder: the run's folder.
      epoch: the epoch at which training goes on; parts written after it are of no run and go.
    """

    def __init__(self, folder: Path, epoch: int):
        self._parts_folder = folder / "checkpoint"
        self._folder = folder
        self._rows: list[dict[str, np.ndarray]] = []
        for part in self._parts():
            if part.name > _PART.format(epoch):
                part.unlink()

    def append(
        self, metrics: EpochMetrics, epoch: int, seconds: float, schedule: Schedule, ended_at: int
    ) -> None:
        """Add the epoch of that number (0-based); iterations after ``ended_at`` do not count."""
        first = epoch * schedule.steps
        steps = schedule.steps if ended_at < 0 else ended_at - first + 1
        taken = [i for i in schedule.snapshot_iterations(epoch) if i < first + steps]
        whole = steps == schedule.steps
        self._rows.append(
            {
                "train_loss": metrics.loss[:steps],
                "train_term": metrics.term[:steps],
                "validation_loss": np.atleast_1d(metrics.validation_loss)[: int(whole)],
                "validation_accuracy": np.atleast_1d(metrics.validation_accuracy)[: int(whole)],
                "seconds": np.atleast_1d(np.float32(seconds)),
                "deaths": metrics.deaths[: len(taken)],
                "deaths_iteration": np.asarray(taken, np.int32),
            }
        )

    def flush(self, epoch: int) -> None:
        """Move the rows of memory to disk."""
        if self._rows:
            self._parts_folder.mkdir(parents=True, exist_ok=True)
            np.savez(self._parts_folder / _PART.format(epoch), **_join(self._rows))
            self._rows = []

    def finish(self) -> dict[str, np.ndarray]:
        """Write ``history.npz`` from all rows and return it."""
        parts = []
        for path in self._parts():
            with np.load(path) as part:
                parts.append(dict(part))
        arrays = _join(parts + self._rows)
        write_history(self._folder, arrays)
        return arrays

    def discard_parts(self) -> None:
        """Delete the part files, once the run's result is on disk."""
        for part in self._parts():
            part.unlink()

    def _parts(self) -> list[Path]:
        return sorted(self._parts_folder.glob("history-*.npz"))


def _join(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
