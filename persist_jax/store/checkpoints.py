"""A run's checkpoints: its whole state at some epochs, and its best weights."""

import errno
import io
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import flax.serialization
import jax
import numpy as np
import orbax.checkpoint
from jaxtyping import PyTree

from persist_jax._plumbing.checksums import first_damaged, stamps
from persist_jax._plumbing.validation import Fields
from persist_jax.store.files import discard_unfinished, read_json, replace_json
from persist_jax.store.run import CHECKPOINT_FOLDER

BEST = "best"
_STAMPS = "checksums.json"


class _Stamps(Fields):
    files: dict[str, tuple[int, int]]


class Checkpoints:
    """The folder `checkpoint/` of a run: `<epoch>/` per saved state and `best/`."""

    def __init__(self, run_folder: Path):
        self.folder = Path(run_folder).resolve() / CHECKPOINT_FOLDER

    def epochs(self) -> list[int]:
        """Epochs with a whole checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def save(self, name: int | str, tree: PyTree) -> None:
        """Write a state under an epoch, or weights under `BEST`; whole or not at all.

        Raises:
            OSError: it cannot be written; the error names the folder.
        """
        with _quiet_on_failure():
            self._write(name, tree)

    @classmethod
    def save_all(cls, name: int | str, trees: Mapping[Path, PyTree]) -> None:
        """`save` for several run folders, side by side: much of it is compression and waiting."""
        with _quiet_on_failure(), ThreadPoolExecutor(8, "checkpoint") as pool:
            tasks = [pool.submit(cls(run)._write, name, tree) for run, tree in trees.items()]
            for task in tasks:
                task.result()

    def _write(self, name: int | str, tree: PyTree) -> None:
        folder = self.folder / str(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpointer = _checkpointer()
        arguments = orbax.checkpoint.args.StandardSave(_plain(tree))
        try:
            checkpointer.save(folder, args=arguments, force=True)
        except Exception as error:  # TensorStore has no classes for what a disk may refuse
            found = re.search(r"os_error_code='(\d+)'|Errno (\d+)", str(error))
            number = int(found[1] or found[2]) if found else errno.EIO
            raise OSError(number, os.strerror(number), str(folder)) from None
        replace_json(folder / _STAMPS, {"files": stamps(folder)})

    def check(self, name: int | str) -> None:
        """Refuse what is not there as it was written.

        Raises:
            ValueError: one line that names the damaged file.
        """
        folder = self.folder / str(name)
        if not folder.is_dir():
            raise ValueError(f"{folder}: missing")
        if (folder / _STAMPS).exists():
            written = _read_stamps(folder / _STAMPS)
            if (file := first_damaged(folder, written)) is not None:
                raise ValueError(f"{folder / file}: damaged or missing")

    def load(self, name: int | str, like: PyTree) -> PyTree:
        """What was saved, in the structure, shapes and dtypes of `like`, on the host.

        Raises:
            ValueError: one line that names the file or folder that does not hold.
        """
        self.check(name)
        checkpointer = _checkpointer()
        arguments = orbax.checkpoint.args.StandardRestore(_plain(like))
        try:
            plain = checkpointer.restore(self.folder / str(name), args=arguments)
        except Exception as error:  # of TensorStore, of the JSON that describes it, of the shapes
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{self.folder / str(name)}: cannot be read ({reason})") from None
        return flax.serialization.from_state_dict(like, jax.tree.map(np.asarray, plain))

    def prune(self, best_epoch: int, *, since: int | None = None) -> None:
        """Drop what nobody goes back to.

        Args:
            best_epoch: epochs that the best weights have behind them; the last state before them
                is kept.
            since: states of this epoch and later ones are kept too; none if not given.
        """
        epochs = self.epochs()
        kept = {epoch for epoch in epochs if since is not None and epoch >= since}
        kept |= set([epoch for epoch in epochs if epoch < best_epoch][-1:])
        for epoch in set(epochs) - kept:
            # Under its own name there is only ever a whole one.
            (self.folder / str(epoch)).rename(self.folder / f".{epoch}")
        for pattern in (".*/", "*.orbax-checkpoint-*/"):
            for unfinished in self.folder.glob(pattern):
                shutil.rmtree(unfinished)
        discard_unfinished(self.folder)


def _checkpointer() -> orbax.checkpoint.Checkpointer:
    """Of this process: where several train a run, the others neither write nor wait."""
    here = jax.process_index()
    alone = orbax.checkpoint.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process{here}"
    )
    return orbax.checkpoint.Checkpointer(
        orbax.checkpoint.StandardCheckpointHandler(multiprocessing_options=alone),
        multiprocessing_options=alone,
    )


def _read_stamps(path: Path) -> dict[str, tuple[int, int]]:
    fields = read_json(path)
    try:
        return _Stamps.read(fields).files
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@contextmanager
def _quiet_on_failure() -> Iterator[None]:
    """What is raised inside is all that is said of it.

    Every thread that writes a part of a checkpoint prints a traceback of its own.
    """
    said, level = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(said):
            try:
                yield
            except Exception:
                time.sleep(0.5)  # until the others have failed too
                raise
    finally:
        logging.disable(level)
    sys.stderr.write(said.getvalue())


def _plain(tree: PyTree) -> PyTree:
    """Nested dicts of arrays: a checkpoint does not depend on our classes."""
    return jax.tree.map(np.asarray, flax.serialization.to_state_dict(tree))
