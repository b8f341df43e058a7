"""Validate the array arguments of the public kernels, before tracing."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from persist_jax.kernels.devices import replicated

# Relative to the largest entry: above rounding error, below any real asymmetry.
_ASYMMETRY = 1e-3


def as_points(points: Any) -> Float[Array, "n b"]:
    """Return the points as a floating-point array (n, b), or raise `ValueError`."""
    points = _floating("points", points)
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(
            "points must have shape (n, b) with at least one neuron and one example, "
            f"got shape {points.shape}"
        )
    return points


def as_distances(
    distances: Any, *, condensed: bool = False, check_symmetry: bool = True
) -> Float[Array, "n n"] | Float[Array, " pairs"]:
    """Return the distances as a square floating-point matrix, or raise `ValueError`.

    In host memory, the first row must equal the first column. This check catches square `points`
    passed as distances; comparing all entries would take as long as the tree.

    Args:
        distances: the caller's argument.
        condensed: whether a condensed vector of n (n - 1) / 2 distances is accepted too.
        check_symmetry: whether to compare the first row with the first column.
    """
    distances = _floating("distances", distances)
    shape = distances.shape
    if condensed and len(shape) == 1:
        number_of_points(shape[0])
        return distances
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        choices = "(n, n) with at least one point" + (" or (n (n - 1) / 2,)" if condensed else "")
        raise ValueError(f"distances must have shape {choices}, got shape {shape}")
    if check_symmetry:
        _refuse_asymmetry(distances)
    return distances


def number_of_points(length: int) -> int:
    """Return the n for which a condensed vector of n (n - 1) / 2 distances has this length."""
    n = (1 + math.isqrt(1 + 8 * length)) // 2
    if n * (n - 1) // 2 != length:
        raise ValueError(
            f"distances: a condensed vector has n (n - 1) / 2 entries, got {length}; "
            f"{n} points have {n * (n - 1) // 2}, {n + 1} have {n * (n + 1) // 2}"
        )
    return n


def as_mask(mask: Any, n: int) -> Bool[Array, " n"] | None:
    """Return the mask of n points as a boolean array, or None if there is no mask."""
    if mask is None:
        return None
    mask = replicated(jnp.asarray(mask))
    if mask.shape != (n,) or mask.dtype != bool:
        raise ValueError(
            f"mask must be boolean of shape ({n},), one entry for every point, "
            f"got {mask.dtype} of shape {mask.shape}"
        )
    return mask


def check_algorithm(algorithm: str, choices: tuple[str, ...]) -> None:
    """Raise `ValueError` if the algorithm is not one of the choices."""
    if algorithm not in choices:
        raise ValueError(f"algorithm {algorithm!r} is not one of {', '.join(choices)}")


def _floating(name: str, array: Any) -> Array:
    array = jnp.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} must hold floating-point numbers, got dtype {array.dtype}")
    if array.dtype.itemsize == 1:
        # 8-bit floats have no infinity.
        array = array.astype(jnp.float32)
    return replicated(array)


def _refuse_asymmetry(distances: Array) -> None:
    if not _in_host_memory(distances):
        return
    matrix = np.asarray(distances)
    row, column = (np.asarray(line, np.float64) for line in (matrix[0], matrix[:, 0]))
    with np.errstate(invalid="ignore"):
        gap = np.abs(row - column)
    size = np.abs(row[np.isfinite(row)]).max(initial=0)
    if (gap > _ASYMMETRY * size).any():
        worst = int(np.nanargmax(gap))
        raise ValueError(
            f"distances must be symmetric, got {row[worst]:g} from point 0 to point {worst} and "
            f"{column[worst]:g} back; for points (n, b), call correlation_distance(points) first"
        )


def _in_host_memory(array: Array) -> bool:
    if isinstance(array, jax.core.Tracer):
        return False
    devices = array.sharding.device_set
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"
