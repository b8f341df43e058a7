"""The cycle property in float64: is a pair of points closer than the path between them allows?"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

# No array is larger than this, except the points and arrays with a few numbers per point.
_BLOCK_BYTES = 2**27


class Cloud(NamedTuple):
    """Points and their distance, a function of the product of two rows of norm 1."""

    points: np.ndarray
    centred: bool  # Products of centred rows are correlations, others cosines.
    signed: bool

    def distance(self, product: np.ndarray) -> np.ndarray:
        return (1 - (product if self.signed else np.abs(product))).clip(0)


class Dendrogram(NamedTuple):
    """Single linkage, with the leaves in an order that makes every cluster an interval.

    The largest edge on the path between two points is the largest gap between their leaves.
    """

    order: Int[np.ndarray, " n"]  # The point at each leaf.
    gaps: Float[np.ndarray, " n-1"]  # The height at which a leaf and the next one are joined.


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Split `count` rows of `width` numbers so that neither a block nor a product is too large."""
    size = max(1, min(1024, _BLOCK_BYTES // (8 * width)))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _unit(cloud: Cloud, index: slice | np.ndarray) -> Float[np.ndarray, "k b"]:
    """The chosen rows in float64, scaled to norm 1; rows without a direction become 0."""
    rows = np.array(cloud.points[index], np.float64)
    finite = np.isfinite(rows).all(1)
    if not finite.all():
        row = np.arange(len(cloud.points))[index][np.argmin(finite)]
        raise ValueError(f"points: row {row} has a value that is not finite")
    # Dividing by a power of two is exact, and then no square overflows or vanishes.
    _, exponent = np.frexp(np.abs(rows).max(1, keepdims=True))
    rows /= np.ldexp(1.0, exponent - 1)
    if cloud.centred:
        # Far from 0, the rounding error of the first mean may exceed the spread. A constant row
        # keeps a few last bits, the same in every entry: their mean is exact, and the row becomes
        # 0.
        rows -= rows.mean(1, keepdims=True)
        rows -= rows.mean(1, keepdims=True)
    norm = np.sqrt(np.einsum("kb,kb->k", rows, rows))
    return rows / np.where(norm == 0, 1, norm)[:, None]


def lengths_of(cloud: Cloud, edges: Int[np.ndarray, "m 2"]) -> Float[np.ndarray, " m"]:
    lengths = np.empty(len(edges))
    for part in _blocks(len(edges), cloud.points.shape[1]):
        first, second = (_unit(cloud, ends) for ends in edges[part].T)
        lengths[part] = cloud.distance(np.einsum("kb,kb->k", first, second))
    return lengths


def dendrogram_of(
    edges: Int[np.ndarray, "m 2"], lengths: Float[np.ndarray, " m"], n: int
) -> Dendrogram | int:
    """The dendrogram of ascending edges, or the position of the first edge that closes a cycle.

    A cluster is a linked list of its points, starting at its root. Joining two appends one list.
    """
    parent, last, following, gap = list(range(n)), list(range(n)), [-1] * n, [0] * n
    for k, (i, j) in enumerate(edges.tolist()):
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        while parent[j] != j:
            parent[j] = j = parent[parent[j]]
        if i == j:
            return k
        parent[j] = i
        following[last[i]], gap[last[i]], last[i] = j, k, last[j]
    order = np.empty(n, np.int64)
    # n - 1 edges without a cycle leave one cluster, and so one root.
    point = next(point for point in range(n) if parent[point] == point)
    for leaf in range(n):
        order[leaf] = point
        point = following[point]
    return Dendrogram(order, lengths[np.array(gap)[order[:-1]]])


def first_shortcut(
    cloud: Cloud,
    rows: Int[np.ndarray, " r"],
    dendrogram: Dendrogram,
    edges: Int[np.ndarray, "m 2"],
    tolerance: float,
) -> tuple[str | None, float]:
    """Describe the first pair, by row, that is too close; also return the largest excess."""
    n, b = cloud.points.shape
    found, largest = [], -np.inf
    for part in _blocks(len(rows), max(n, b)):
        block = rows[part]
        unit = _unit(cloud, block)
        paths = _largest_on_paths(block, dendrogram)
        _leave_out(paths, block, edges)
        # If every row is compared, earlier blocks have covered the pairs with rows before this one.
        start = int(block[0]) if len(rows) == n else 0
        for columns in _blocks(n - start, b):
            columns = slice(start + columns.start, start + columns.stop)
            distances = cloud.distance(unit @ _unit(cloud, columns).T)
            excess = paths[:, columns] - distances
            most = float(excess.max())
            largest = max(largest, most)
            if most > tolerance and not (found and found[0] < block[0]):
                r, c = np.unravel_index(np.argmax(excess > tolerance), excess.shape)
                pair = int(block[r]), int(columns.start + c)
                found = min(found or [n], [*pair, distances[r, c], excess[r, c]])
    if not found:
        return None, largest
    *pair, distance, excess = found
    i, j = sorted(pair)
    return (
        f"points {i} and {j} are at {distance:.8g}, but the path between them in the tree has an "
        f"edge of {distance + excess:.8g}, longer by {excess:.2g} (tolerance {tolerance:g})"
    ), largest


def _largest_on_paths(
    rows: Int[np.ndarray, " r"], dendrogram: Dendrogram
) -> Float[np.ndarray, "r n"]:
    """The largest edge between each row and every point."""
    order, gaps = dendrogram
    leaf = np.empty_like(order)
    leaf[order] = np.arange(len(order))
    paths = np.empty((len(rows), len(order)))
    for path, at in zip(paths, leaf[rows], strict=True):
        highest = np.zeros(len(order))
        highest[at + 1 :] = np.maximum.accumulate(gaps[at:])
        highest[:at] = np.maximum.accumulate(gaps[:at][::-1])[::-1]
        np.take(highest, leaf, out=path)
    return paths


def _leave_out(
    paths: Float[np.ndarray, "r n"], rows: Int[np.ndarray, " r"], edges: Int[np.ndarray, "m 2"]
) -> None:
    """Exclude each row's pair with itself and the tree's own edges from the comparison."""
    place = np.full(paths.shape[1], -1)
    place[rows] = np.arange(len(rows))
    paths[place[rows], rows] = -np.inf
    for here, there in (edges.T, edges.T[::-1]):
        known = place[here] >= 0
        paths[place[here[known]], there[known]] = -np.inf
