"""Convert points and trees in other libraries' forms to arrays."""

from typing import Any

import numpy as np
from jax import dtypes
from jax.typing import ArrayLike
from scipy import sparse


def as_points(points: ArrayLike) -> np.ndarray:
    points = points if isinstance(points, np.ndarray) else np.asarray(points)
    kinds = (np.floating, np.integer)
    if not any(dtypes.issubdtype(points.dtype, kind) for kind in kinds):
        raise ValueError(f"points must hold real numbers, got dtype {points.dtype}")
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(
            "points must have shape (n, b) with at least one neuron and one example, "
            f"got shape {points.shape}"
        )
    return points


def edges_and_deaths(tree: Any) -> tuple[np.ndarray, np.ndarray]:
    """The edges and deaths of a tree in any known form; their shapes are not checked."""
    if sparse.issparse(tree) and tree.ndim == 2:
        tree = tree.tocoo()
        return np.stack([tree.row, tree.col], 1), _numbers(tree.data)
    if hasattr(tree, "edges") and hasattr(tree, "deaths"):
        parts = tree.edges, tree.deaths
    elif isinstance(tree, (tuple, list)) and len(tree) == 2:
        parts = tree
    else:
        table = _numbers(tree)
        if table.ndim != 2 or table.shape[1] != 3:
            raise ValueError(
                "tree must have edges and deaths, be the pair of them, an array (n - 1, 3) or a "
                f"sparse matrix, got {type(tree).__name__} of shape {table.shape}"
            )
        parts = table[:, :2], table[:, 2]
    return _numbers(parts[0]), _numbers(parts[1])


def _numbers(part: Any) -> np.ndarray:
    try:
        array = np.asarray(part)
    except (ValueError, TypeError):
        array = np.asarray(None)
    if not any(dtypes.issubdtype(array.dtype, kind) for kind in (np.floating, np.integer)):
        raise ValueError(f"tree must be made of arrays of numbers, got {type(part).__name__}")
    return array


def wrong_edges(edges: np.ndarray, deaths: np.ndarray, n: int, is_sparse: bool) -> str | None:
    if edges.shape != (n - 1, 2) or deaths.shape != (n - 1,):
        if edges.ndim == 2 and edges.shape[1] == 2 and deaths.shape == edges.shape[:1]:
            why = " (scipy drops edges of weight 0)" if is_sparse and len(edges) < n - 1 else ""
            return f"{len(edges)} edges, but a spanning tree of {n} points has {n - 1}{why}"
        return (
            f"edges {edges.shape} and deaths {deaths.shape}, but a spanning tree of {n} points "
            f"has edges ({n - 1}, 2) and deaths ({n - 1},)"
        )
    # In a table of floats the ends may be fractions, or NaN, which equals nothing.
    outside = ~((edges >= 0) & (edges < n) & (edges == np.floor(edges))).all(1)
    if outside.any():
        k = int(np.argmax(outside))
        return f"edge {k} joins {edges[k, 0]} and {edges[k, 1]}, not two of {n} points"
    loops = edges[:, 0] == edges[:, 1]
    if loops.any():
        k = int(np.argmax(loops))
        return f"edge {k} joins point {edges[k, 0]:.0f} to itself"
    return None
