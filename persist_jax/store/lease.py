"""Which process trains a group: the one that holds the lock beside the group's file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from persist_jax.store.group_file import lease_path


class GroupTaken(OSError):
    """Another process trains the group."""


@contextmanager
def lease(path: Path) -> Iterator[None]:
    """Be the only process that trains a group, on whatever machine that sees the folder.

    The system takes the lock from a process that dies. On a folder that several machines share,
    the file system has to know locks of whole files (NFS does, Lustre if mounted with `flock`).

    Args:
        path: the group's file, which need not be there.

    Raises:
        GroupTaken: one line, where another process holds it.
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lease_path(path), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise GroupTaken(f"{path}: another process trains this group; left to it") from None
    try:
        yield
    finally:
        lock.release()
