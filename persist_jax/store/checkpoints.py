"""A run's checkpoints: its whole state at some epochs, and its best weights."""

import shutil
from pathlib import Path

import flax.serialization
import jax
import numpy as np
import orbax.checkpoint
from jaxtyping import PyTree

from persist_jax.store.run import CHECKPOINT_FOLDER

BEST = "best"


class Checkpoints:
    """The folder `checkpoint/` of a run: `<epoch>/` per saved state and `best/`."""

    def __init__(self, run_folder: Path):
        self.folder = Path(run_folder).resolve() / CHECKPOINT_FOLDER

    def epochs(self) -> list[int]:
        """Epochs with a whole checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def has(self, name: int | str) -> bool:
        """Whether something is saved under an epoch or under `BEST`."""
        return (self.folder / str(name)).is_dir()

    def save(self, name: int | str, tree: PyTree) -> None:
        """Write a state under an epoch, or weights under `BEST`; whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpointer = orbax.checkpoint.Checkpointer(orbax.checkpoint.StandardCheckpointHandler())
        arguments = orbax.checkpoint.args.StandardSave(_plain(tree))
        checkpointer.save(self.folder / str(name), args=arguments, force=True)

    def load(self, name: int | str, like: PyTree) -> PyTree:
        """What was saved, in the structure, shapes and dtypes of `like`, on the host."""
        checkpointer = orbax.checkpoint.Checkpointer(orbax.checkpoint.StandardCheckpointHandler())
        arguments = orbax.checkpoint.args.StandardRestore(_plain(like))
        plain = checkpointer.restore(self.folder / str(name), args=arguments)
        return flax.serialization.from_state_dict(like, jax.tree.map(np.asarray, plain))

    def prune(self, best_epoch: int, *, newest: bool) -> None:
        """Keep the last state before the best weights and, if asked, the newest; drop the rest."""
        epochs = self.epochs()
        kept = {epoch for epoch in epochs[-1:] if newest}
        kept |= {epoch for epoch in [e for e in epochs if e < best_epoch][-1:]}
        for epoch in set(epochs) - kept:
            shutil.rmtree(self.folder / str(epoch))


def _plain(tree: PyTree) -> PyTree:
    """Nested dicts of arrays: a checkpoint does not depend on our classes."""
    return jax.tree.map(np.asarray, flax.serialization.to_state_dict(tree))
