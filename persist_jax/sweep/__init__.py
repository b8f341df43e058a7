"""A grid of runs in a folder: from a configuration to results."""

from persist_jax.sweep.experiment import load_experiment
from persist_jax.sweep.grid import Group, grid, groups
from persist_jax.sweep.group import train_group
from persist_jax.sweep.reading import read_configuration
from persist_jax.sweep.run import run_sweep

__all__ = [
    "Group",
    "grid",
    "groups",
    "load_experiment",
    "read_configuration",
    "run_sweep",
    "train_group",
]
