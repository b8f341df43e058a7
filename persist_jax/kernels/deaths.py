"""The deaths of 0-dimensional persistence, differentiable through the n - 1 edges of the tree."""

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import ArrayLike, Float, Int, Int32

from persist_jax.kernels.arguments import (
    as_distances,
    as_mask,
    as_points,
    check_algorithm,
    number_of_points,
)
from persist_jax.kernels.geometry import Distance, Geometry
from persist_jax.kernels.matrix_free import matrix_free_edges
from persist_jax.kernels.spanning_tree import (
    Algorithm,
    edges_of_matrix,
    edges_of_rows,
    in_order,
    products_at,
    star,
)
from persist_jax.kernels.tree import Tree

PointsAlgorithm = Literal["auto", "prim", "boruvka", "matrix_free"]

# In bytes. Forming the matrix of distances is faster if it fits in memory. Prim holds one array of
# this size, Boruvka two.
LARGEST_MATRIX = 2**31


def zeroth_deaths(
    distances: ArrayLike,
    *,
    algorithm: Algorithm = "auto",
    mask: ArrayLike | None = None,
) -> Float[Array, " edges"]:
    r"""The finite deaths of 0-dimensional Vietoris-Rips persistence.

    They are the distances along the edges of the minimum spanning tree. The derivative holds the
    tree fixed,

    $$ \dot d_k = (\dot D_{ij} + \dot D_{ji}) / 2 \quad\text{at the k-th edge } (i, j), $$

    so the gradient with respect to a symmetric matrix is symmetric. With respect to a condensed
    vector it is 1 at every edge. At ties, the tree is the unique one of `minimum_spanning_tree`. An
    infinite death has gradient 0. A NaN off the diagonal makes every death NaN.

    Args:
        distances: `(n, n)`, symmetric; the diagonal is not read. Or the condensed vector of the
            distances (0, 1), (0, 2) ... (n - 2, n - 1), as `scipy.spatial.distance.pdist` returns
            it.
        algorithm: "prim", "boruvka", or "auto" for the faster one. All give the same deaths.
        mask: `(n,)`, true for the points that count. Distances to other points may hold anything.
            The deaths of the points that count come first, then `inf` with gradient 0 for each of
            the other points.

    Returns:
        The n - 1 deaths, ascending, in the unit of the distances.

    Raises:
        ValueError: if `distances` is neither a non-empty square matrix nor a condensed vector of
            length n (n - 1) / 2, `algorithm` is unknown, `mask` is not boolean of shape (n,), or
            the first row and column of a matrix in host memory clearly differ.

    Example:
        >>> zeroth_deaths(jnp.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 0.0]]))
        Array([1., 2.], dtype=float32)
        >>> zeroth_deaths(jnp.array([2.0, 1.0, 3.0]), mask=jnp.array([True, False, True]))
        Array([ 1., inf], dtype=float32)

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    check_algorithm(algorithm, get_args(Algorithm))
    distances = as_distances(distances, condensed=True, check_symmetry=mask is None)
    n = len(distances) if distances.ndim == 2 else number_of_points(len(distances))
    return _zeroth_deaths(distances, as_mask(mask, n), algorithm)


@functools.partial(jax.jit, static_argnames="algorithm")
def _zeroth_deaths(distances, mask, algorithm):
    matrix = distances
    if distances.ndim == 1:
        matrix = matrix_of_condensed(lax.stop_gradient(distances))
    if mask is not None:
        matrix = jnp.where(mask[:, None] & mask[None], matrix, jnp.inf)
    edges, comparable = edges_of_matrix(matrix, algorithm)
    lower, higher = edges.T
    if distances.ndim == 1:
        deaths = distances[_place(lower, higher, matrix.shape[0])]
    else:
        deaths = distances[lower, higher] / 2 + distances[higher, lower] / 2
    if mask is not None:
        deaths = jnp.where(mask[lower] & mask[higher], deaths, jnp.inf)
    deaths = jnp.where(jnp.isinf(deaths), lax.stop_gradient(deaths), deaths)
    return jnp.where(comparable, jnp.sort(deaths), jnp.nan)


_MOST_CONDENSED = 46_340  # with more points, n * n exceeds int32


def matrix_of_condensed(condensed: Float[Array, " m"]) -> Float[Array, "n n"]:
    """Return the symmetric matrix, with a zero diagonal, of a condensed vector.

    Every row is one slice of the vector. On a CPU, slicing is many times faster than gathering or
    scattering single entries.
    """
    n = number_of_points(condensed.shape[0])
    if n > _MOST_CONDENSED:
        raise ValueError(
            f"distances: a condensed vector of {n} points, at most {_MOST_CONDENSED}; give the "
            "matrix, or the points to cloud_deaths"
        )
    index = jnp.arange(n, dtype=jnp.int32)
    # Entry (i, 0) would lie at `_place(i, 0)`, which is -1 for the first row.
    padded = jnp.pad(condensed, (1, 0))
    rows = jax.vmap(lambda first: lax.dynamic_slice(padded, (first,), (n,)))(
        _place(index, jnp.zeros_like(index), n) + 1
    )
    upper = jnp.where(index[:, None] < index[None], rows, 0)
    return upper + upper.T


def _place(lower: Int[Array, "*m"], higher: Int[Array, "*m"], n: int) -> Int[Array, "*m"]:
    """The index of the distance between points `lower < higher` in the condensed vector."""
    return n * lower - lower * (lower + 3) // 2 + higher - 1


def correlation_deaths(
    points: ArrayLike,
    *,
    algorithm: PointsAlgorithm = "auto",
    axis_name: str | None = None,
    mask: ArrayLike | None = None,
    ordered: bool = True,
) -> Float[Array, " edges"]:
    r"""The deaths of neurons under `1 - |corr|`, differentiable with respect to the points.

    Equal to `zeroth_deaths(correlation_distance(points))` up to rounding. The tree is found without
    differentiation, and each death is recomputed from the two neurons of its edge. The derivative
    therefore costs O(n b) and no gradient with respect to the matrix is formed. Edges with
    |corr| = 1 and edges of constant neurons have gradient 0. A NaN or infinite activation makes
    every death NaN.

    If the devices of a mapped axis share a batch, each device gathers the points and computes the
    same term. Apply `lax.pmean` to the loss before differentiating it, and to the gradients
    afterwards. The result is the gradient of the whole batch, under `jax.pmap` and under
    `jax.shard_map`, with or without its checks. Points on an explicit mesh need no `lax.pmean`.
    `docs/sharding.md` shows both.

    Args:
        points: `(n, b)`, one row per neuron, its activations over a batch of `b` examples; half
            precision is computed in float32.
        algorithm: "prim"; "boruvka"; "matrix_free", which needs O(n b) memory; or "auto": the
            matrix-free search if the matrix of distances would exceed 2 GiB, otherwise the faster
            of Prim and Boruvka.
        axis_name: name of a mapped axis whose devices all hold the same points, as
            `sample_neurons` gathers them from a shared batch. In the matrix-free search, each
            device then searches for the neighbours of its share of the neurons, and all devices
            return the same deaths. The other algorithms ignore the axis.
        mask: `(n,)`, true for rows that are neurons. Other rows pad the array to a fixed shape and
            may hold anything, NaN included. The k neurons' `k - 1` deaths come first, then `n - k`
            times `inf` with gradient 0: exclude these from a term.
        ordered: whether to sort the deaths. A term that does not depend on their order saves the
            sort with `False`. With a mask they are always sorted.

    Returns:
        The n - 1 deaths in [0, 1], ascending if `ordered`, float32 or float64.

    Raises:
        ValueError: if `points` does not have two non-empty axes, `algorithm` is unknown, or `mask`
            is not boolean of shape (n,).

    Example:
        >>> points = jnp.array([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 3.0, 3.0], [0.0, 1.0, 0.0, 1.0]])
        >>> correlation_deaths(points)
        Array([0., 1.], dtype=float32)
        >>> correlation_deaths(points, mask=jnp.array([True, False, True]))
        Array([ 1., inf], dtype=float32)

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    return cloud_deaths(
        points, algorithm=algorithm, axis_name=axis_name, mask=mask, ordered=ordered
    )


def cloud_deaths(
    points: ArrayLike,
    *,
    distance: Distance = "correlation",
    signed: bool = False,
    algorithm: PointsAlgorithm = "auto",
    axis_name: str | None = None,
    mask: ArrayLike | None = None,
    ordered: bool = True,
) -> Float[Array, " edges"]:
    r"""The deaths of any cloud of points, differentiable with respect to the points.

    With $c$ the correlation of two points x and y, or the cosine of their angle, $d(x, y)$ is

    - "correlation" and "cosine": $1 - \lvert c \rvert$, or $1 - c$ if `signed`;
    - "pearson": $\sqrt{1 - c^2}$, with $c$ the correlation;
    - "euclidean": $\lVert x - y \rVert$.

    For neurons, the sign of a correlation usually does not matter. For embeddings of examples it
    usually does: use `signed=True` or "euclidean". Every distance takes one matrix product of the
    points and no `n x n x b` array. For the derivative, constant points, NaN and mapped axes see
    `correlation_deaths`.

    Euclidean distances are compared after centring the cloud, in float32 to about 1e-7 of its size.
    Distances between close points are compared by the points' differences, other distances by
    products, to a relative 2e-4; "matrix_free" uses differences everywhere. The deaths are the
    norms of the differences of the points as given, so equal points have a death of exactly 0, with
    gradient 0.

    Args:
        points: `(n, b)`, one row per point; half precision is computed in float32.
        distance: the distance between two points, as above.
        signed: whether opposite points are the farthest apart instead of equal.
        algorithm: as for `correlation_deaths`.
        axis_name: name of a mapped axis whose devices all hold the same points.
        mask: `(n,)`, true for rows that are points; only for distances bounded by 1: the unsigned
            ones except "euclidean".
        ordered: whether to sort the deaths.

    Returns:
        The n - 1 deaths, ascending if `ordered`, float32 or float64.

    Raises:
        ValueError: if `points` does not have two non-empty axes, `distance` or `algorithm` is
            unknown, `signed` is set for a distance without a sign, or `mask` is not boolean of
            shape (n,) or is given for a distance that is not bounded by 1.

    Example:
        >>> points = jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
        >>> cloud_deaths(points, distance="euclidean")
        Array([0., 5.], dtype=float32)
        >>> cloud_deaths(jnp.array([[1.0, 0.0], [-2.0, 0.0]]), distance="cosine", signed=True)
        Array([2.], dtype=float32)

    Reference:
        The length of the Euclidean tree of embeddings as a term, $\frac1n \sum_i d_i$: Mordacq et
        al., T-REGS: Minimum Spanning Tree Regularization for Self-Supervised Learning,
        arXiv:2510.23484.
    """
    check_algorithm(algorithm, get_args(PointsAlgorithm))
    geometry, points = Geometry(distance, signed), as_points(points)
    if mask is not None and not geometry.absolute:
        raise ValueError(
            f"mask: given, but the {'signed ' * signed}{distance} distance has no largest value "
            "to give masked rows; leave those rows out of the points"
        )
    mask = as_mask(mask, len(points))
    return _cloud_deaths(points, mask, geometry, algorithm, axis_name, ordered)


@functools.partial(jax.jit, static_argnames=("geometry", "algorithm", "axis_name", "ordered"))
def _cloud_deaths(points, mask, geometry, algorithm, axis_name, ordered):
    if mask is not None:
        # A row of zeros is at distance 1 from every other, and no death exceeds 1: these sort last.
        points = jnp.where(mask[:, None], points, 0)
    _, deaths = _edges_and_deaths(points, geometry, algorithm, axis_name)
    # Every point has an edge, so a NaN is seen among the n - 1 deaths.
    comparable = ~jnp.isnan(deaths).any()
    if ordered or mask is not None:
        deaths = jnp.sort(deaths)
    deaths = jnp.where(comparable, deaths, jnp.nan)
    if mask is None:
        return deaths
    place = jnp.arange(1, len(mask), dtype=jnp.int32)
    return jnp.where(place < mask.sum(dtype=jnp.int32), deaths, jnp.inf)


def correlation_tree(
    points: ArrayLike, *, algorithm: PointsAlgorithm = "auto", axis_name: str | None = None
) -> Tree:
    r"""The minimum spanning tree of neurons under `1 - |corr|`, with its deaths.

    The deaths equal those of `correlation_deaths` and are differentiable in the same way; the edges
    name the two neurons of each. If a neuron has a NaN or infinite activation, every death is NaN
    and the edges form the star at neuron 0.

    Args:
        points: `(n, b)`, one row per neuron, as for `correlation_deaths`.
        algorithm: as for `correlation_deaths`.
        axis_name: name of a mapped axis whose devices all hold the same points.

    Returns:
        A `Tree` of `edges` (n - 1, 2) `(i, j)` with `i < j`, and their `deaths` (n - 1,), both
        ascending by (death, i, j).

    Raises:
        ValueError: if `points` does not have two non-empty axes, or `algorithm` is unknown.

    Example:
        >>> points = jnp.array([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 3.0, 3.0], [0.0, 1.0, 0.0, 1.0]])
        >>> correlation_tree(points).edges.tolist()
        [[0, 1], [0, 2]]

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    return cloud_tree(points, algorithm=algorithm, axis_name=axis_name)


def cloud_tree(
    points: ArrayLike,
    *,
    distance: Distance = "correlation",
    signed: bool = False,
    algorithm: PointsAlgorithm = "auto",
    axis_name: str | None = None,
) -> Tree:
    """The minimum spanning tree of any cloud of points, with the deaths of `cloud_deaths`.

    Args:
        points: `(n, b)`, one row per point.
        distance: the distance between two points; see `cloud_deaths`.
        signed: whether opposite points are the farthest apart instead of equal.
        algorithm: as for `correlation_deaths`.
        axis_name: name of a mapped axis whose devices all hold the same points.

    Returns:
        A `Tree`, ascending by (death, i, j).

    Raises:
        ValueError: as for `cloud_deaths`.

    Example:
        >>> points = jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
        >>> cloud_tree(points, distance="euclidean").edges.tolist()
        [[1, 2], [0, 1]]
    """
    check_algorithm(algorithm, get_args(PointsAlgorithm))
    return _cloud_tree(as_points(points), Geometry(distance, signed), algorithm, axis_name)


@functools.partial(jax.jit, static_argnames=("geometry", "algorithm", "axis_name"))
def _cloud_tree(points, geometry, algorithm, axis_name):
    edges, deaths = _edges_and_deaths(points, geometry, algorithm, axis_name)
    comparable = ~jnp.isnan(deaths).any()
    deaths = jnp.where(comparable, deaths, jnp.nan)
    edges = jnp.stack([edges.min(1), edges.max(1)], 1)
    deaths, edges = in_order(deaths, jnp.where(comparable, edges, star(points.shape[0])))
    return Tree(edges, deaths)


def _edges_and_deaths(
    points: Float[Array, "n b"], geometry: Geometry, algorithm: str, axis_name: str | None
) -> tuple[Int32[Array, "n-1 2"], Float[Array, "n-1"]]:
    """The edges of the tree, in no particular order, and the death at each.

    If a point is not finite, a death is NaN and the edges are meaningless.
    """
    rows = geometry.rows(points)
    n = rows.shape[0]
    if n == 1:
        return jnp.zeros((0, 2), jnp.int32), jnp.zeros((0,), rows.dtype)
    too_large = n * n * rows.dtype.itemsize > LARGEST_MATRIX
    if algorithm == "matrix_free" or (algorithm == "auto" and too_large):
        edges = matrix_free_edges(lax.stop_gradient(rows), axis_name=axis_name, geometry=geometry)
        products = products_at(rows, edges)
    else:
        edges, products = edges_of_rows(rows, algorithm, geometry)
    return edges, geometry.deaths(points, edges, products)
