"""Pure training: step, epoch, lanes on devices, and runs from start to end; no disk."""

from persist_jax.training.evaluation import Evaluate
from persist_jax.training.optimisers import OPTIMISERS, SCHEDULES
from persist_jax.training.options import Options
from persist_jax.training.train import Trained, assemble, train

__all__ = ["OPTIMISERS", "SCHEDULES", "Evaluate", "Options", "Trained", "assemble", "train"]
