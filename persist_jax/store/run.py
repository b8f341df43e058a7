"""A run: one point of the grid, and its folder."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

CONTINUED = "continued"  # in a run's folder: the run continued without its regulariser
CHECKPOINT_FOLDER = "checkpoint"
TENSORBOARD_FOLDER = "tensorboard"


@dataclass(frozen=True, order=True)
class Run:
    """One point of the grid.

    Attributes:
        network: the network's name, which also names a folder.
        regulariser: the regulariser's name, which also names a folder.
        weight: the regularisation weight, 0 for `none`.
        seed: the seed.

    Raises:
        ValueError: the weight is not finite, the seed is negative, or a name cannot name a folder.

    Example:
        >>> Run("mlp0", "t1", 1e-3, 0).folder("runs/mnist").as_posix()
        'runs/mnist/runs/mlp0/t1/0.001/seed0'
    """

    network: str
    regulariser: str
    weight: float
    seed: int

    def __post_init__(self) -> None:
        for field in ("network", "regulariser"):
            if not is_folder_name(getattr(self, field)):
                raise ValueError(f"{field}: {getattr(self, field)!r} cannot name a folder")
        if not math.isfinite(self.weight):
            raise ValueError(f"weight: {self.weight!r} is not a finite number")
        if self.seed < 0:
            raise ValueError(f"seed: {self.seed!r} is not at least 0")

    @property
    def label(self) -> str:
        """The run's name in messages: `network regulariser weight seed`."""
        return f"{self.network} {self.regulariser} {self.weight:g} seed{self.seed}"

    def folder(self, workdir: str | os.PathLike[str]) -> Path:
        """Return the folder of this run in a sweep's folder."""
        grid = runs_folder(workdir) / self.network / self.regulariser
        return grid / f"{self.weight:g}" / f"seed{self.seed}"


def runs_folder(workdir: str | os.PathLike[str]) -> Path:
    """Return the folder of all runs of a sweep."""
    return Path(workdir) / "runs"


def is_folder_name(name: str) -> bool:
    """Return whether a text can name one folder: printable, on one line, not too long."""
    return (
        name not in ("", ".", "..")
        and name.isprintable()
        and name == name.strip()
        and not set(name) & set("/\\")
        and len(name) <= 100
        and len(name.encode()) <= 255  # the limit of most file systems
    )
