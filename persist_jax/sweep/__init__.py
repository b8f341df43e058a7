"""Train the grid of runs of a configuration, in a folder."""

from persist_jax.store.configuration import grid
from persist_jax.sweep.experiment import load_experiment
from persist_jax.sweep.reading import read_configuration
from persist_jax.sweep.run import run_sweep

__all__ = [
    "grid",
    "load_experiment",
    "read_configuration",
    "run_sweep",
]
