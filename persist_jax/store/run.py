"""One point of the grid, and the folder that is its own."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

CONTINUED = "continued"  # below a run's folder: the same run, gone on without its regulariser
CHECKPOINT_FOLDER = "checkpoint"
TENSORBOARD_FOLDER = "tensorboard"


@dataclass(frozen=True, order=True)
class Run:
    """One point of the grid.

    Attributes:
        network: the network's name, which is also a folder's name.
        regulariser: the regulariser's name, which is also a folder's name.
        weight: the regularisation weight, 0 for `none`.
        seed: the seed.

    Raises:
        ValueError: for a weight that is not finite, a negative seed, or a name that is not one
            folder.

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
        """The run in words, `network regulariser weight seed`."""
        return f"{self.network} {self.regulariser} {self.weight:g} seed{self.seed}"

    def folder(self, workdir: str | os.PathLike[str]) -> Path:
        """The folder of this run in a sweep's folder."""
        grid = runs_folder(workdir) / self.network / self.regulariser
        return grid / f"{self.weight:g}" / f"seed{self.seed}"


def runs_folder(workdir: str | os.PathLike[str]) -> Path:
    """Where all runs of a sweep lie."""
    return Path(workdir) / "runs"


def is_folder_name(name: str) -> bool:
    """Whether a name is that of one folder, on one line."""
    return (
        name not in ("", ".", "..")
        and name.isprintable()
        and name == name.strip()
        and not set(name) & set("/\\")
        and len(name) <= 100
        and len(name.encode()) <= 255  # what file systems have room for
    )
