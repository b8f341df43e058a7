"""Regularise a network by its most correlated neurons, through 0-dimensional persistence.

* In a loss: `make_term` makes a function from activations to a number, usually `t1`, `t2` or
  `mean_correlation`; `activations_of` reads the activations that a Flax module sowed.
* In a training loop: `measures` gives scalars for a logger.
* Redundant neurons: `redundancy` finds them, `prune` removes them.
* From activations to deaths, step by step: `sample_neurons`, `correlation_deaths`; from a matrix:
  `correlation_distance`, `minimum_spanning_tree`, `zeroth_deaths`.
* `check_tree` checks that a tree, from this or another library, is minimal.
* Whole trainings: `persist_jax.models`, `persist_jax.data`, `persist_jax.training`; the networks of
  the PGDL competition: `persist_jax.pgdl`.
"""

import importlib
from typing import TYPE_CHECKING

from persist_jax.kernels import (
    Tree,
    cloud_deaths,
    cloud_tree,
    correlation_deaths,
    correlation_distance,
    correlation_tree,
    cosine_distance,
    euclidean_distance,
    mean_correlation,
    minimum_spanning_tree,
    pearson_distance,
    zeroth_deaths,
)
from persist_jax.loading import load_run, load_runs
from persist_jax.redundancy import Pruned, Redundancy, prune, redundancy
from persist_jax.terms import (
    Labels,
    Neuron,
    Term,
    activations_of,
    l1,
    l2,
    living_deaths,
    living_neurons,
    make_term,
    measures,
    regularisers,
    sample_neurons,
    t1,
    t2,
)

if TYPE_CHECKING:
    from persist_jax import data, models, pgdl, training
    from persist_jax.check import TreeCheck, check_tree
    from persist_jax.sweep.loaded import LoadedRun

__version__ = "0.2.0"

__all__ = [
    "Labels",
    "LoadedRun",
    "Neuron",
    "Pruned",
    "Redundancy",
    "Term",
    "Tree",
    "TreeCheck",
    "activations_of",
    "check_tree",
    "cloud_deaths",
    "cloud_tree",
    "correlation_deaths",
    "correlation_distance",
    "correlation_tree",
    "cosine_distance",
    "data",
    "euclidean_distance",
    "l1",
    "l2",
    "living_deaths",
    "living_neurons",
    "load_run",
    "load_runs",
    "make_term",
    "mean_correlation",
    "measures",
    "minimum_spanning_tree",
    "models",
    "pearson_distance",
    "pgdl",
    "prune",
    "redundancy",
    "regularisers",
    "sample_neurons",
    "t1",
    "t2",
    "training",
    "zeroth_deaths",
]


# Imported on first use: they import packages that kernels and terms do not need.
_ROOMS = ("data", "models", "pgdl", "training")
_HOMES = {"TreeCheck": "check", "check_tree": "check", "LoadedRun": "sweep.loaded"}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        # `pgdl` registers its kinds of data set and network.
        importlib.import_module(f"{__name__}.pgdl")
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        found = vars(importlib.import_module(f"{__name__}.{_HOMES[name]}"))[name]
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
