"""Pure training: step, epoch, lanes on devices, and runs from start to end; no disk."""

from persist_jax.training.options import Options
from persist_jax.training.train import Trained, assemble, train

__all__ = ["Options", "Trained", "assemble", "train"]
