"""The deaths of 0-dimensional persistence, differentiable through the n - 1 edges of the tree."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from persist_jax.kernels.arguments import as_distances, as_points
from persist_jax.kernels.correlation_tree import correlation_edges
from persist_jax.kernels.distances import one_minus_absolute, standardise
from persist_jax.kernels.spanning_tree import tree_edges


@as_distances
def zeroth_deaths(
    distances: Float[Array, "n n"], *, algorithm: str = "auto"
) -> Float[Array, "n-1"]:
    r"""The finite deaths of 0-dimensional Vietoris-Rips persistence.

    They are the edge weights of the minimum spanning tree. The derivative holds the tree fixed,

    $$ \dot d_k = (\dot D_{ij} + \dot D_{ji}) / 2 \quad\text{at the k-th edge } (i, j), $$

    so the gradient of a symmetric matrix is symmetric. At ties it is that of the unique tree of
    `minimum_spanning_tree`. An infinite death has gradient 0. One NaN off the
    diagonal makes every death NaN.

    Args:
        distances: symmetric; the diagonal is not read.
        algorithm: "prim", "boruvka", or "auto" for the faster one. All give the same deaths.

    Returns:
        The n - 1 deaths, ascending, in the unit of the distances.

    Raises:
        ValueError: if `distances` is not a non-empty square matrix, or `algorithm` is unknown.

    Example:
        >>> zeroth_deaths(jnp.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.0]]))
        Array([1., 2.], dtype=float32)

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    edges, comparable = tree_edges(distances, algorithm)
    lower, higher = edges.T
    deaths = distances[lower, higher] / 2 + distances[higher, lower] / 2
    deaths = jnp.where(jnp.isinf(deaths), lax.stop_gradient(deaths), deaths)
    return jnp.where(comparable, jnp.sort(deaths), jnp.nan)


@as_points
def correlation_deaths(
    points: Float[Array, "n b"], *, algorithm: str = "auto", axis_name: str | None = None
) -> Float[Array, "n-1"]:
    r"""The deaths of neurons under `1 - |corr|`, differentiable with respect to the points.

    The same as `zeroth_deaths(correlation_distance(points))` to rounding, but the tree is found
    outside differentiation and each death is read from the two neurons of its edge again, so
    the derivative costs O(n b) and never forms one with respect to the matrix. Edges
    with |corr| = 1 and edges of constant neurons have gradient 0; a NaN or infinite activation
    makes every death NaN.

    Args:
        points: one row per neuron, its activations over a batch of `b` examples; half precision
            is computed in float32.
        algorithm: "prim", "boruvka"; "matrix_free", which needs O(n b) memory; or "auto", which
            takes it where the matrix of distances would exceed 2 GiB, and else the faster one.
        axis_name: name of a mapped axis whose devices all hold the same points, as
            `sample_neurons` gathers them where the batch is shared. The matrix-free search then
            looks for the neighbours of its share of the neurons on each device, and all get the
            same deaths; the other algorithms have nothing to share and ignore it.

    Returns:
        The n - 1 deaths in [0, 1], ascending, float32 or float64.

    Raises:
        ValueError: if `points` has not two axes, one of them is empty, or `algorithm` is unknown.

    Example:
        >>> points = jnp.array([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 3.0, 3.0], [0.0, 1.0, 0.0, 1.0]])
        >>> correlation_deaths(points)
        Array([0., 1.], dtype=float32)

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    unit = standardise(points)
    edges = correlation_edges(lax.stop_gradient(unit), algorithm, axis_name)
    correlations = (unit[edges[:, 0]] * unit[edges[:, 1]]).sum(1)
    deaths = jnp.sort(one_minus_absolute(correlations))
    # Every neuron has an edge, so a NaN is seen among the n - 1 correlations.
    return jnp.where(jnp.isnan(correlations).any(), jnp.nan, deaths)
