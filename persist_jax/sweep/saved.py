"""What an interrupted group goes on from, checked before anything of it is trained or deleted."""

import os
from dataclasses import dataclass
from pathlib import Path

from persist_jax.store.checkpoints import Checkpoints
from persist_jax.store.group_file import GroupFile, read_newest
from persist_jax.store.history import GrowingHistory
from persist_jax.store.record import has_result
from persist_jax.sweep.grid import Group


@dataclass(frozen=True)
class Saved:
    """The newest state of a group that is whole on disk.

    Attributes:
        state: the group's file.
        training: runs that were in training then, by index. Some may have a result since: they
            train again beside the others, so that the same programs are taken.
        notice: what a newer state lacks, in one line; empty if this is the newest.
    """

    state: GroupFile
    training: tuple[int, ...]
    notice: str


def read_saved(group: Group, workdir: str | os.PathLike[str]) -> Saved | None:
    """What a group goes on from; `None` if it has not begun.

    Raises:
        ValueError: one line that names what is damaged and what to do.
    """
    workdir = Path(workdir)
    path = group.path(workdir)
    if not path.exists():
        return None
    state, problems = read_newest(path, lambda state: _check(state, group, workdir))
    notice = f"{problems[0]}; going on from epoch {state.epoch}" if problems else ""
    training = [
        run
        for run in sorted(run for run in state.slots if run is not None)
        if _was_in_training(run, state, group, workdir)
    ]
    left = not all(has_result(group.folder(run, workdir)) for run in group.runs)
    return Saved(state, tuple(training) if left else (), notice)


def _check(state: GroupFile, group: Group, workdir: Path) -> None:
    """Every run without a result can go on from this state."""
    file = group.path(workdir)
    if tuple(member.run for member in state.runs) != group.runs:
        raise ValueError(f"{file}: runs: not those of {group.label}")
    began = group.continued_at or 0
    if state.epoch < began:
        raise ValueError(f"{file}: epoch: {state.epoch} is before {began}, where it began")
    for index, run in enumerate(group.runs):
        folder = group.folder(run, workdir)
        if has_result(folder):
            continue
        if index not in state.slots:
            raise ValueError(f"{file}: slots: {run.label} has no result and no lane")
        if state.epoch > began:
            Checkpoints(folder).check(state.epoch)
            GrowingHistory.check(folder, state.epoch, began)


def _was_in_training(index: int, state: GroupFile, group: Group, workdir: Path) -> bool:
    """A run that had ended by then has no checkpoint of that epoch."""
    if state.epoch == (group.continued_at or 0):
        return True
    try:
        Checkpoints(group.folder(group.runs[index], workdir)).check(state.epoch)
    except ValueError:
        return False
    return True
