"""Locks shared by all processes on all machines that see a folder."""

import datetime
import errno
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from persist_jax.store.files import discard_unfinished, read_json, replace_json

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_PATIENCE = 600.0  # seconds to wait for a process that forms groups or writes the report


class Locked(OSError):
    """Another process holds the lock."""


class LockLost(OSError):
    """This process held a lock that is gone or belongs to another process."""


class Lock:
    """A lock that this process holds; see `locked`.

    The system releases the lock of a process that dies. A network file system also releases the
    lock of a process that was stopped for long, without a notice: `check` before every write.
    """

    def __init__(self, path: Path):
        self._path = path
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._mark = {"host": socket.gethostname(), "pid": os.getpid(), "since": now}
        self._mark["token"] = uuid.uuid4().hex
        discard_unfinished(path.parent, re.escape(_holder(path).name))
        replace_json(_holder(path), self._mark)

    def check(self) -> None:
        """Raise `LockLost` unless this process still holds the lock."""
        try:
            if self._path.exists() and read_json(_holder(self._path)) == self._mark:
                return
        except ValueError:
            pass
        raise LockLost(f"{self._path}: this process lost the lock while it was stopped or cut off")

    def release(self) -> None:
        """Delete the mark of this process."""
        try:
            self.check()
        except LockLost:
            return
        _holder(self._path).unlink(missing_ok=True)


@contextmanager
def locked(path: Path, timeout: float = 0.0) -> Iterator[Lock]:
    """Hold the lock of a file, which is created if missing.

    Raises:
        Locked: another process still holds the lock after `timeout` seconds; the line says which
            process, and since when.
        OSError: the folder cannot be written, or its file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        with open(path, "ab"):  # with the umask's permissions: other users may share the folder
            pass
        lock.acquire(timeout=timeout)
    except (Timeout, FileNotFoundError):  # not found: the process that finished deleted the folder
        raise Locked(f"{path}: held by {_who(path)}") from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise OSError(
            f"{path}: this file system has no locks ({error}); choose a --workdir on one that has "
            "(NFS without nolock, Lustre mounted with flock)"
        ) from None
    try:
        held = Lock(path)
        yield held
        held.release()
    finally:
        lock.release()


def locked_folder(workdir: Path) -> AbstractContextManager[Lock]:
    """Hold a sweep's lock, to settle the configuration, form groups or write the report."""
    return locked(workdir / "lock", _PATIENCE)


def lock_files(path: Path) -> tuple[Path, Path]:
    """Return the files of a lock: the locked file, and the file that names the holder."""
    return path, _holder(path)


def _who(path: Path) -> str:
    try:
        mark = read_json(_holder(path))
        return (
            f"process {mark['pid']} on {mark['host']} since {mark['since']}; if that process is "
            "gone, delete the file"
        )
    except (ValueError, LookupError, TypeError):
        return "another process"


def _holder(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")
