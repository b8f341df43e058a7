"""Check a tree against its points; report the first violation of minimality."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Int
from scipy import sparse

from persist_jax.check.forms import as_points, edges_and_deaths, wrong_edges
from persist_jax.check.paths import Cloud, dendrogram_of, first_shortcut, lengths_of

# By default, all pairs are compared up to this many points, and this many random rows above.
_ALL_PAIRS = 20_000
_SAMPLED_ROWS = 64
# By the dtype of the deaths; `check_tree` gives the reasons.
_TOLERANCES = {"float32": 2e-6, "float64": 1e-12}


@dataclasses.dataclass(frozen=True)
class TreeCheck:
    """The result of `check_tree`; its truth value is `exact`.

    Attributes:
        exact: whether no violation was found among the compared pairs.
        violation: the first violation in one line, or None.
        pairs: number of pairs whose distance was compared with the path between them. It is 0 if
            the edges are no spanning tree of the points or a death is wrong.
        rows: number of points that were compared with all others.
        n: number of points.
        largest_excess: the largest edge on the path between two points minus their distance,
            maximised over the compared pairs that no edge joins; -inf without such a pair. A
            negative value is a margin: no such pair could replace an edge, even if every distance
            were off by half of it.

    Example:
        >>> print(TreeCheck(True, None, pairs=499_500, rows=1000, n=1000, largest_excess=-0.01))
        no violation among 499 500 pairs (all)
    """

    exact: bool
    violation: str | None
    pairs: int
    rows: int
    n: int
    largest_excess: float

    def __bool__(self) -> bool:
        return self.exact

    def __str__(self) -> str:
        which = "all" if self.rows == self.n else f"{self.rows} of {_spaced(self.n)} points"
        among = f"among {_spaced(self.pairs)} pair{'s' * (self.pairs != 1)} ({which})"
        if self.exact:
            return f"no violation {among}"
        return f"violation: {self.violation}" + (f"; looked {among}" if self.pairs else "")


def check_tree(
    points: ArrayLike,
    tree: Any,
    *,
    distance: Literal["correlation", "cosine"] = "correlation",
    signed: bool = False,
    rows: ArrayLike | Sequence[int | np.integer] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> TreeCheck:
    r"""Check that a tree is a minimum spanning tree of neurons under `1 - |corr|`.

    A spanning tree is minimal if and only if no pair of points is closer than the largest edge on
    the path between them (the cycle property):

    $$ d(x_i, x_j) \ge \max_{e \in \mathrm{path}(i, j)} d(e) \quad \text{for all } i, j $$

    The check tests, in this order: the edges are `n - 1` pairs of points and close no cycle; every
    death is the distance of its two points; no pair is closer than its path allows. All distances
    are computed from the points in float64 by numpy. No code is shared with the functions that find
    trees.

    A wrong tree gives a result, never an error. If distances tie, several trees are minimal, and
    all of them pass. The check takes `2 n b` operations per row. Besides the points, which are read
    in blocks, it takes some 300 MB and 300 bytes per point. With sampled rows, it finds only
    violations that touch one of these rows. It runs on the host, not inside `jit`.

    Args:
        points: (n, b), one row per neuron; of any dtype, also a `numpy.memmap`. A constant row is
            at distance 1 from every other.
        tree: a `Tree`, or an object with `edges` (n - 1, 2) and `deaths` (n - 1,); the pair of
            them; an array (n - 1, 3) of `(i, j, death)`, as hdbscan returns; or a sparse matrix of
            deaths, as `scipy.sparse.csgraph.minimum_spanning_tree` returns (which drops deaths of
            0).
        distance: one minus the absolute "correlation" of two rows, or their "cosine".
        signed: whether the distance is one minus the correlation or cosine itself.
        rows: the points to compare with all others: their indices, or a number of random points. By
            default all points, or 64 random points if there are more than 20 000.
        tolerance: the largest error that passes. By default 2e-6 for deaths in float32, because
            the product of two unit vectors has a rounding error of some 1e-7 and distances below
            1e-6 become 0. (Rows whose mean is 10 000 times their spread lose more in float32.)
            1e-12 for deaths in float64; use 2e-6 if these come from a matrix in float32.
        seed: seed for choosing random rows.

    Returns:
        A `TreeCheck`, true if no violation was found. Print it to see the violation.

    Raises:
        ValueError: one line that names the argument: points not of shape (n, b) or not finite, a
            tree in no known form, an unknown distance, rows that do not exist, or a negative
            tolerance.

    Example:
        >>> points = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 2.0]])
        >>> edges, deaths = np.array([[0, 2], [0, 1]]), 1 - np.sqrt([9 / 11, 1 / 3])
        >>> print(check_tree(points, (edges, deaths)))
        no violation among 3 pairs (all)
        >>> worse = np.array([[0, 2], [1, 2]]), 1 - np.sqrt([9 / 11, 3 / 11])
        >>> print(check_tree(points, worse))  # doctest: +NORMALIZE_WHITESPACE
        violation: points 0 and 1 are at 0.42264973, but the path between them in the tree has an
        edge of 0.47776703, longer by 0.055 (tolerance 1e-12); looked among 3 pairs (all)

    Reference:
        The cycle property: Tarjan, Data Structures and Network Algorithms (1983), chapter 6.
    """
    if distance not in ("correlation", "cosine"):
        raise ValueError(f"distance: {distance!r} is not one of correlation, cosine")
    points = as_points(points)
    cloud, n = Cloud(points, distance == "correlation", signed), len(points)
    chosen = _chosen_rows(rows, n, seed)
    edges, deaths = edges_and_deaths(tree)
    tolerance = _tolerance(tolerance, deaths)

    def answer(violation, pairs=0, looked=0, excess=-np.inf):
        return TreeCheck(violation is None, violation, pairs, looked, n, float(excess))

    wrong = wrong_edges(edges, deaths, n, sparse.issparse(tree))
    if wrong:
        return answer(wrong)
    edges = edges.astype(np.int64)
    lengths = lengths_of(cloud, edges)
    ordered = np.argsort(lengths, kind="stable")
    dendrogram = dendrogram_of(edges[ordered], lengths[ordered], n)
    if isinstance(dendrogram, int):
        i, j = edges[ordered[dendrogram]]
        return answer(f"the edge between points {i} and {j} closes a cycle")
    wrong = _wrong_death(edges, deaths, lengths, tolerance)
    if wrong:
        return answer(wrong)
    found, excess = first_shortcut(cloud, chosen, dendrogram, edges, tolerance)
    pairs = len(chosen) * (n - 1) - len(chosen) * (len(chosen) - 1) // 2
    return answer(found, pairs, len(chosen), excess)


def _chosen_rows(rows: Any, n: int, seed: int) -> Int[np.ndarray, " r"]:
    """The indices of the rows to compare, ascending and unique."""
    if rows is None:
        rows = n if n <= _ALL_PAIRS else min(_SAMPLED_ROWS, n)
    rows = np.asarray(rows)
    if not np.issubdtype(rows.dtype, np.integer) or rows.ndim > 1:
        raise ValueError(
            f"rows must be a number or a vector of indices, got {rows.dtype} of shape {rows.shape}"
        )
    if rows.ndim == 0:
        if not 1 <= rows <= n:
            raise ValueError(f"rows: {rows} is not between 1 and the {n} points")
        return np.sort(np.random.default_rng(seed).choice(n, int(rows), replace=False))
    outside = rows[(rows < 0) | (rows >= n)]
    if len(outside) or not len(rows):
        which = f"{outside[0]} is no index of {n} points" if len(outside) else "there are none"
        raise ValueError(f"rows: {which}")
    return np.unique(rows)


def _tolerance(tolerance: float | None, deaths: np.ndarray) -> float:
    if tolerance is None:
        name = "float64" if deaths.dtype.kind in "iu" else deaths.dtype.name
        if name not in _TOLERANCES:
            known = " and ".join(_TOLERANCES)
            raise ValueError(f"tolerance has a default for {known}; give one for deaths in {name}")
        return _TOLERANCES[name]
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance: {tolerance} is not a finite number of at least 0")
    return tolerance


def _wrong_death(edges, deaths, lengths, tolerance: float) -> str | None:
    # A death that is NaN is wrong too.
    wrong = ~(np.abs(deaths.astype(np.float64) - lengths) <= tolerance)
    if not wrong.any():
        return None
    k = int(np.argmax(wrong))
    (i, j), death, length = edges[k], float(deaths[k]), lengths[k]
    return (
        f"the death of edge {k} is {death:.8g}, but its points {i} and {j} are at {length:.8g}, "
        f"{abs(death - length):.2g} from it (tolerance {tolerance:g})"
    )


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")
