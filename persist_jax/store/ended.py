"""What is left of runs and groups that have ended: what somebody reads, and nothing else."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from persist_jax.store.checkpoints import Checkpoints
from persist_jax.store.files import discard_unfinished
from persist_jax.store.group_file import (
    all_group_paths,
    continued_epoch,
    delete_group,
    read_newest,
)
from persist_jax.store.history import discard_parts
from persist_jax.store.lease import GroupTaken, lease
from persist_jax.store.record import has_result, read_result
from persist_jax.store.run import CONTINUED


def close_group(path: Path, folders: Sequence[Path]) -> None:
    """Every run of a group has its result: there is nothing to go on with.

    Args:
        path: the group's file.
        folders: of its runs.
    """
    for folder in folders:
        Checkpoints(folder).prune(read_result(folder).best_epoch)
        discard_parts(folder)
        discard_unfinished(folder)
    delete_group(path)


def close_groups(workdir: Path) -> None:
    """Close the groups that there is nothing to go on with.

    All runs have ended, after which the process was killed; or nothing has been trained, so that
    the grid of today decides on the groups.

    Those that another process is about are left to it.

    Raises:
        ValueError: one line that names a file that cannot be read.
    """
    for path in all_group_paths(workdir):
        with suppress(GroupTaken), lease(path):
            _close(path, workdir)


def _close(path: Path, workdir: Path) -> None:
    if not path.exists():
        return
    state, _ = read_newest(path)
    continued_at = continued_epoch(path)
    folders = [member.run.folder(workdir) for member in state.runs]
    if continued_at is not None:
        folders = [folder / CONTINUED for folder in folders]
    ended = [has_result(folder) for folder in folders]
    if all(ended):
        close_group(path, folders)
    elif state.epoch == (continued_at or 0) and not any(ended):
        delete_group(path)
