"""Pure array functions: distances, minimum spanning trees, deaths, mean correlation."""

from persist_jax.kernels.correlations import mean_correlation
from persist_jax.kernels.deaths import (
    cloud_deaths,
    cloud_tree,
    correlation_deaths,
    correlation_tree,
    zeroth_deaths,
)
from persist_jax.kernels.distances import (
    correlation_distance,
    cosine_distance,
    euclidean_distance,
    normalise,
    pearson_distance,
    standardise,
)
from persist_jax.kernels.geometry import Distance, Geometry
from persist_jax.kernels.spanning_tree import minimum_spanning_tree
from persist_jax.kernels.tree import Tree

__all__ = [
    "Distance",
    "Geometry",
    "Tree",
    "cloud_deaths",
    "cloud_tree",
    "correlation_deaths",
    "correlation_distance",
    "correlation_tree",
    "cosine_distance",
    "euclidean_distance",
    "mean_correlation",
    "minimum_spanning_tree",
    "normalise",
    "pearson_distance",
    "standardise",
    "zeroth_deaths",
]
