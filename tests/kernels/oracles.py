"""Independent answers: Kruskal by hand, scipy's single linkage, float64 differences."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = ("mlp_dead", "mlp_full", "mlp_half", "conv_bn", "conv_dropout", "conv_prelu_gap")


def kruskal(distances):
    """Edges ascending by (weight, lower, higher), each kept that joins two trees."""
    distances = np.asarray(distances)
    n = len(distances)
    lower, higher = np.triu_indices(n, 1)
    order = np.lexsort((higher, lower, distances[lower, higher]))
    tree = np.arange(n)
    edges = []
    for i, j in zip(lower[order], higher[order], strict=True):
        if tree[i] != tree[j]:
            tree[tree == tree[j]] = tree[i]
            edges.append((i, j))
    return np.array(edges, np.int32).reshape(-1, 2)


def single_linkage(distances):
    """The merge heights of scipy's single linkage, which are the deaths."""
    if len(distances) == 1:
        return np.zeros(0)
    condensed = squareform(np.asarray(distances, np.float64), checks=False)
    # scipy takes finite weights only.
    heights = linkage(np.minimum(condensed, 1e300), "single")[:, 2]
    return np.where(heights == 1e300, np.inf, heights)


def symmetric(rng, n, kind="random"):
    upper = rng.random((n, n))
    if kind == "tied":
        upper = np.round(4 * upper) / 4
    elif kind == "negative":
        upper = np.round(8 * upper) - 4
    elif kind == "infinite":
        upper = np.where(upper < 0.7, np.inf, np.round(8 * upper))
    elif kind == "constant":
        upper = np.ones((n, n))
    matrix = np.triu(upper, 1)
    return (matrix + matrix.T).astype(np.float32)


KINDS = ("random", "tied", "negative", "infinite", "constant")


def neurons(rng, n, b):
    """Points as ReLU networks give them: constant, collinear and repeated rows among them."""
    points = rng.normal(size=(n, b))
    points[0] = 0
    points[n // 3] = 2.5
    points[n // 2] = -2 * points[1] + 1
    points[n - 1] = points[2]
    return points.astype(np.float32)


def exact_distances(points):
    """`1 - |corr|` in float64 by numpy: a constant row is at distance 1 from every other."""
    with np.errstate(invalid="ignore"):
        correlations = np.nan_to_num(np.corrcoef(points.astype(np.float64)))
    distances = np.clip(1 - np.abs(correlations), 0, 1)
    np.fill_diagonal(distances, 0)
    return distances


def assert_is_tree(edges, n):
    edges = np.asarray(edges)
    assert edges.shape == (n - 1, 2) and edges.dtype == np.int32
    assert (edges[:, 0] < edges[:, 1]).all() and (edges >= 0).all() and (edges < n).all()
    root = np.arange(n)
    for i, j in edges:
        assert root[i] != root[j], "the edges close a cycle"
        root[root == root[j]] = root[i]


def as_set(edges):
    return set(map(tuple, np.asarray(edges).tolist()))


def assert_same_tree(points, edges, others):
    """The same edges, in the same order up to rounding, as of two programs.

    No edge in test_matrix_free is nearer than 3e-6 to one that could take its place, above the
    rounding of any product; but two of a tree may be as close as 4e-8, and change places.
    """
    assert as_set(edges) == as_set(others)
    distances = exact_distances(np.asarray(points, np.float32))
    found, expected = (distances[tuple(np.asarray(rows).T)] for rows in (edges, others))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def with_dependent_rows(points):
    """What `neurons` returns, its collinear and repeated rows made anew from rows 1 and 2.

    An edge leads to either of two collinear rows, as rounding decides, and so does its gradient.
    The gradient with respect to the row that both are made of is the same in either case.
    """
    n = points.shape[0]
    return points.at[n // 2].set(1 - 2 * points[1]).at[n - 1].set(points[2])


def central_difference(function, x, direction, step=1e-6):
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


def check_derivatives(function, x, *, rtol=1e-6, atol=1e-8, step=1e-5, seed=0):
    """First and second derivatives of a jittable function, forward and reverse, by differences.

    In float64, along one direction, of one combination of the results; one program serves all.
    """
    rng = np.random.default_rng(seed)
    direction = jnp.asarray(rng.normal(size=x.shape))
    factors = jnp.asarray(rng.normal(size=jax.eval_shape(function, x).shape))

    def of(x):
        return (factors * function(x)).sum()

    def along(x):
        return jax.jvp(of, (x,), (direction,))[1]

    @jax.jit
    def derivatives(x):
        forward_over_reverse = jax.jvp(jax.value_and_grad(of), (x,), (direction,))
        return *forward_over_reverse, jax.value_and_grad(along)(x)

    (_, slope), *found = derivatives(x)
    ahead, back = (derivatives(x + sign * step * direction)[0] for sign in (1, -1))
    first, second = ((one - other) / (2 * step) for one, other in zip(ahead, back, strict=True))
    close = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol)
    close((slope * direction).sum(), first)
    for along, change_of_slope in found:
        close(along, first)
        close(change_of_slope, second)
