"""Independent answers: Kruskal by hand, scipy's single linkage, float64 differences."""

from pathlib import Path

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


def with_dependent_rows(points):
    """What `neurons` returns, its collinear and repeated rows made anew from rows 1 and 2.

    An edge leads to either of two collinear rows, as rounding decides, and so does its gradient.
    The gradient with respect to the row that both are made of is the same in either case.
    """
    n = points.shape[0]
    return points.at[n // 2].set(1 - 2 * points[1]).at[n - 1].set(points[2])


def central_difference(function, x, direction, step=1e-6):
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)
