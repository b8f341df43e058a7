"""Regularise a network by its most correlated neurons, through 0-dimensional persistence.

* In a loss: `make_term` makes a function from activations to a number, of which `t1`, `t2` and
  `mean_correlation` are the usual ones; `activations_of` reads what a Flax module sowed.
* What a network has more than once: `redundancy`.
* From activations to deaths by hand: `sample_neurons`, `correlation_deaths`; from a matrix:
  `correlation_distance`, `minimum_spanning_tree`, `zeroth_deaths`.
* Whether a tree, of ours or of another library, is minimal: `check_tree`.
* Whole trainings: `persist_jax.models`, `persist_jax.data`, `persist_jax.training`.
"""

from persist_jax import models, pgdl, regularisers
from persist_jax.activations import activations_of
from persist_jax.check import TreeCheck, check_tree
from persist_jax.kernels import (
    Tree,
    correlation_deaths,
    correlation_distance,
    correlation_tree,
    euclidean_distance,
    minimum_spanning_tree,
    pearson_distance,
    zeroth_deaths,
)
from persist_jax.living import living_deaths, living_neurons
from persist_jax.loading import load_run
from persist_jax.redundancy import redundancy
from persist_jax.regularisers import l1, l2, mean_correlation, t1, t2
from persist_jax.sampling import Labels, sample_neurons
from persist_jax.term import make_term

__version__ = "0.2.0"

__all__ = [
    "Labels",
    "Tree",
    "TreeCheck",
    "activations_of",
    "check_tree",
    "correlation_deaths",
    "correlation_distance",
    "correlation_tree",
    "euclidean_distance",
    "l1",
    "l2",
    "living_deaths",
    "living_neurons",
    "load_run",
    "make_term",
    "mean_correlation",
    "minimum_spanning_tree",
    "models",
    "pearson_distance",
    "pgdl",
    "redundancy",
    "regularisers",
    "sample_neurons",
    "t1",
    "t2",
    "zeroth_deaths",
]
