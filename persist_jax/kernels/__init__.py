"""Pure array functions: distances, minimum spanning trees, deaths, mean correlation."""

from persist_jax.kernels.correlations import mean_correlation
from persist_jax.kernels.deaths import correlation_deaths, correlation_tree, zeroth_deaths
from persist_jax.kernels.distances import (
    correlation_distance,
    euclidean_distance,
    pearson_distance,
    standardise,
)
from persist_jax.kernels.spanning_tree import minimum_spanning_tree
from persist_jax.kernels.tree import Tree

__all__ = [
    "Tree",
    "correlation_deaths",
    "correlation_distance",
    "correlation_tree",
    "euclidean_distance",
    "mean_correlation",
    "minimum_spanning_tree",
    "pearson_distance",
    "standardise",
    "zeroth_deaths",
]
