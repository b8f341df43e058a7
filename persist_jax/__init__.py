"""Regularise a network by its most correlated neurons, through 0-dimensional persistence."""

from persist_jax import models, pgdl, regularisers
from persist_jax.activations import activations_of
from persist_jax.kernels import (
    correlation_deaths,
    correlation_distance,
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
    "activations_of",
    "correlation_deaths",
    "correlation_distance",
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
