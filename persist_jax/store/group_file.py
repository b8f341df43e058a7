"""What a group of runs needs to go on: written with every checkpoint, gone when it has ended."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import model_validator

from persist_jax._plumbing.validation import Fields
from persist_jax.parameters import Count
from persist_jax.store.files import discard_unfinished, read_json, replace_file, replace_json
from persist_jax.store.origin import Origin
from persist_jax.store.record import Accuracy
from persist_jax.store.run import CONTINUED, Run, runs_folder


class Member(Fields):
    """A run of a group."""

    network: str
    regulariser: str
    weight: float
    seed: int

    @property
    def run(self) -> Run:
        """The point of the grid."""
        return Run(self.network, self.regulariser, self.weight, self.seed)


class GroupFile(Fields):
    """The state of a group of runs that train as lanes of one program.

    With the checkpoints of its runs it decides which programs a resumed group takes.

    Attributes:
        epoch: epochs trained; the runs have checkpoints of it.
        runs: all runs that the group began with, those that have ended too.
        slots: which run (an index into `runs`) each lane trains; null for a lane that fills up.
        initial: accuracy of each run before training.
        origins: where and with what it was trained, in order.
    """

    epoch: Count
    runs: tuple[Member, ...]
    slots: tuple[Count | None, ...]
    initial: tuple[Accuracy, ...]
    origins: tuple[Origin, ...] = ()

    @model_validator(mode="after")
    def _holds(self) -> "GroupFile":
        for member in self.runs:
            _ = member.run
        filled = [slot for slot in self.slots if slot is not None]
        if not filled or len(set(filled)) < len(filled) or max(filled) >= len(self.runs):
            raise ValueError(f"slots: {list(self.slots)} are not lanes of {len(self.runs)} runs")
        if len(self.initial) != len(self.runs):
            raise ValueError(f"initial: {len(self.initial)} accuracies of {len(self.runs)} runs")
        return self


def write_group(
    path: Path,
    epoch: int,
    runs: Sequence[Run],
    slots: Sequence[int | None],
    initial: Sequence[Accuracy],
    origins: Sequence[Origin] = (),
) -> None:
    """Write a group's file, whole or not at all; what it held before is kept beside it."""
    fields = {
        "epoch": epoch,
        "runs": [asdict(run) for run in runs],
        "slots": list(slots),
        "initial": [accuracy.plain() for accuracy in initial],
        "origins": [origin.plain() for origin in origins],
    }
    checked = GroupFile.read(fields).plain()
    if path.exists():
        replace_file(_before(path), path.read_bytes())
    replace_json(path, checked)


def read_group(path: str | os.PathLike[str]) -> GroupFile:
    """Read a group's file.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    fields = read_json(Path(path))
    try:
        return GroupFile.read(fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_newest(
    path: Path, check: Callable[[GroupFile], None] = lambda state: None
) -> tuple[GroupFile, list[str]]:
    """The newest state of a group that can be gone on from.

    Args:
        path: the group's file, which is there.
        check: raises `ValueError` for a state whose runs are not on disk as it says.

    Returns:
        The state, and a line for each newer one that does not hold.

    Raises:
        ValueError: one line, where none holds: what is wrong with the newest, and what to do.
    """
    problems = []
    for file in filter(Path.exists, (path, _before(path))):
        try:
            state = read_group(file)
            check(state)
            return state, problems
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(f"{problems[0]}; without {path} its runs begin anew")


def delete_group(path: Path) -> None:
    """There is nothing to go on with."""
    # Before the others: killed in between, the group is still there to be closed.
    lease_path(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    _before(path).unlink(missing_ok=True)
    discard_unfinished(path.parent, path.stem)


def lease_path(path: Path) -> Path:
    """What a process locks that trains the group of a file."""
    return path.with_name(f"{path.name}.lock")


def prefix_of(continued_at: int | None) -> str:
    """With which the names of the files of groups begin that go on from that epoch of runs."""
    return "group" if continued_at is None else f"{CONTINUED}-{continued_at}"


def continued_epoch(path: Path) -> int | None:
    """The epoch of the runs that the group of a file goes on from; `None` for one of the grid."""
    kind, epoch, *_ = path.name.split("-")
    return int(epoch) if kind == CONTINUED else None


def group_path(folder: Path, prefix: str, first: Run) -> Path:
    """Where a group keeps its file, named after a run that no other group of the folder has."""
    return folder / f"{prefix}-{first.regulariser}-{first.weight:g}-seed{first.seed}.json"


def group_paths(folder: Path, prefix: str) -> list[Path]:
    """The files of interrupted groups in a folder."""
    return sorted(folder.glob(f"{prefix}-*.json"))


def all_group_paths(workdir: Path) -> list[Path]:
    """The files of all interrupted groups of a sweep."""
    root = runs_folder(workdir)
    return sorted([*root.glob("*/*/group-*.json"), *root.glob(f"*/{CONTINUED}-*.json")])


def _before(path: Path) -> Path:
    return path.with_suffix(".before")
