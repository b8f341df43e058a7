"""Checks of the array arguments of the public kernels, made before anything is traced."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from persist_jax.kernels.devices import replicated

# Of the largest entry: far above the rounding of any product, far below what is no matrix of
# distances at all.
_ASYMMETRY = 1e-3


def as_points(points: Any) -> Float[Array, "n b"]:
    """The points as a floating-point array (n, b); anything else is refused."""
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
    """The distances as a square floating-point matrix; anything else is refused.

    A matrix in the memory of the host is refused if its first row is not its first column: so are
    square points, and at once. To compare all entries would take as long as the tree.

    Args:
        distances: as they were given.
        condensed: whether a vector of the n (n - 1) / 2 distances may stand for the matrix.
        check_symmetry: whether the first row has to be the first column.
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
    """The n whose n (n - 1) / 2 distances a condensed vector of that length holds."""
    n = (1 + math.isqrt(1 + 8 * length)) // 2
    if n * (n - 1) // 2 != length:
        raise ValueError(
            f"distances: a condensed vector has n (n - 1) / 2 entries, got {length}; "
            f"{n} points have {n * (n - 1) // 2}, {n + 1} have {n * (n + 1) // 2}"
        )
    return n


def as_mask(mask: Any, n: int) -> Bool[Array, " n"] | None:
    """The mask of n points as an array, if there is one."""
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
    """Refuse an unknown algorithm, with the known ones."""
    if algorithm not in choices:
        raise ValueError(f"algorithm {algorithm!r} is not one of {', '.join(choices)}")


def _floating(name: str, array: Any) -> Array:
    array = jnp.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} must hold floating-point numbers, got dtype {array.dtype}")
    if array.dtype.itemsize == 1:
        # Numbers of 8 bits have no infinity.
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
            f"{column[worst]:g} back; of points (n, b) take correlation_distance(points) first"
        )


def _in_host_memory(array: Array) -> bool:
    if isinstance(array, jax.core.Tracer):
        return False
    devices = array.sharding.device_set
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"
