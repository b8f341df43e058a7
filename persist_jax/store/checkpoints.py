"""Checkpoints: folders of arrays and plain fields, written atomically, by Orbax."""

import errno
import io
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
import orbax.checkpoint
from jaxtyping import PyTree

from persist_jax._plumbing.plain_files import first_damaged, stamps
from persist_jax._plumbing.validation import Fields
from persist_jax.store.files import discard_unfinished, read_json, replace_json, unfinished
from persist_jax.store.run import CHECKPOINT_FOLDER

_STAMPS = "checksums.json"
_FIELDS = "fields.json"


class _Stamps(Fields):
    files: dict[str, tuple[int, int]]


def best_checkpoint(run_folder: str | os.PathLike[str]) -> Path:
    """Return the folder for the weights of a run's best epoch."""
    return Path(run_folder) / CHECKPOINT_FOLDER / "best"


def last_checkpoint(run_folder: str | os.PathLike[str]) -> Path:
    """Return the folder for the weights of a run's last epoch."""
    return Path(run_folder) / CHECKPOINT_FOLDER / "last"


def earlier_checkpoint(run_folder: str | os.PathLike[str], epoch: int) -> Path:
    """Return the folder for a run's state before its best epoch, from which it is continued."""
    return Path(run_folder) / CHECKPOINT_FOLDER / str(epoch)


def numbered(folder: Path) -> list[int]:
    """List the numbers of the checkpoints in a folder, ascending."""
    try:
        names = [path.name for path in folder.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))


def save(folder: Path, tree: PyTree, fields: Mapping[str, Any] | None = None) -> None:
    """Write arrays in nested containers, and plain fields, as a checkpoint folder.

    The folder appears complete or not at all, and replaces one of the same name.

    Raises:
        OSError: the disk refuses; the error names the folder.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    discard_unfinished(folder.parent, re.escape(folder.name))
    temporary = unfinished(folder)
    arguments = orbax.checkpoint.args.StandardSave(_plain(tree))
    with _one_error():
        try:
            _checkpointer().save(temporary, args=arguments)
        except Exception as error:  # TensorStore has no classes for the errors of a disk
            found = re.search(r"os_error_code='(\d+)'|Errno (\d+)", str(error))
            if found is None:
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                raise OSError(errno.EIO, reason, str(folder)) from None
            number = int(found[1] or found[2])
            raise OSError(number, os.strerror(number), str(folder)) from None
    if fields is not None:
        replace_json(temporary / _FIELDS, dict(fields))
    replace_json(temporary / _STAMPS, {"files": stamps(temporary)})
    discard(folder)
    temporary.rename(folder)


def read_fields(folder: Path) -> Any:
    """Read the plain fields of a checkpoint."""
    return read_json(folder / _FIELDS)


def load(folder: Path, like: PyTree) -> PyTree:
    """Load the arrays of a checkpoint to the host, in the structure, shapes and dtypes of `like`.

    Raises:
        ValueError: the checkpoint is missing, damaged or different; one line that names the folder
            or file.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: missing")
    try:
        written = _Stamps.read(read_json(folder / _STAMPS)).files
    except ValueError as error:
        raise ValueError(f"{folder / _STAMPS}: {error}") from None
    if (file := first_damaged(folder, written)) is not None:
        raise ValueError(f"{folder / file}: damaged or missing")
    arguments = orbax.checkpoint.args.StandardRestore(_plain(like))
    try:
        plain = _checkpointer().restore(folder.resolve(), args=arguments)
    except Exception as error:  # from TensorStore, its JSON metadata, or a wrong shape
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder}: cannot be read ({reason})") from None
    loaded = flax.serialization.from_state_dict(like, jax.tree.map(np.asarray, plain))
    return jax.tree.map(lambda leaf, own: leaf if np.size(own) else np.asarray(own), loaded, like)


def copy(folder: Path, to: Path) -> None:
    """Copy a checkpoint; the copy appears complete or not at all."""
    temporary = unfinished(to)
    shutil.copytree(folder, temporary)
    discard(to)
    temporary.rename(to)


def discard(folder: Path) -> None:
    """Rename a checkpoint, then delete it: a kill leaves no partial folder under its name."""
    if folder.is_dir():
        shutil.rmtree(folder.rename(unfinished(folder)))


def discard_numbered(folder: Path) -> None:
    """Delete every numbered checkpoint in a folder, and the leftovers of killed processes."""
    for number in numbered(folder):
        discard(folder / str(number))
    discard_unfinished(folder, "[0-9]+")


def _checkpointer() -> orbax.checkpoint.Checkpointer:
    """Return a checkpointer that waits for no other process: only the first process writes."""
    here = jax.process_index()
    alone = orbax.checkpoint.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process{here}"
    )
    handler = orbax.checkpoint.StandardCheckpointHandler(multiprocessing_options=alone)
    return orbax.checkpoint.Checkpointer(handler, multiprocessing_options=alone)


@contextmanager
def _one_error() -> Iterator[None]:
    """Suppress log and standard error if the block fails: its error says everything.

    Without this, every thread that writes a part of a checkpoint prints its own traceback.
    """
    printed, level = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(printed):
            try:
                yield
            except Exception:
                time.sleep(0.5)  # let the other threads fail too
                raise
    finally:
        logging.disable(level)
    sys.stderr.write(printed.getvalue())


def _plain(tree: PyTree) -> PyTree:
    """Convert to nested dicts of arrays: a checkpoint must not depend on our classes.

    Orbax refuses empty arrays, such as the deaths of no snapshot: one zero stands for each.
    """

    def stored(leaf: Any) -> np.ndarray:
        return np.asarray(leaf) if np.size(leaf) else np.zeros(1, np.asarray(leaf).dtype)

    return jax.tree.map(stored, flax.serialization.to_state_dict(tree))
