"""Checks of the array arguments of the public kernels, made before anything is traced."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from persist_jax.kernels.condensed import number_of_points
from persist_jax.kernels.sharding import replicated

# Of the largest entry: far above the rounding of any product, far below what is no matrix of
# distances at all.
_ASYMMETRY = 1e-3


def as_points(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let `function(points, ...)` take only points of shape (n, b), as a floating-point array."""

    @functools.wraps(function)
    def checked(points, *args, **kwargs):
        points = _floating("points", points)
        if points.ndim != 2 or 0 in points.shape:
            raise ValueError(
                "points must have shape (n, b) with at least one neuron and one example, "
                f"got shape {points.shape}"
            )
        return function(points, *args, **_with_mask(kwargs, points.shape[0]))

    return checked


def as_distances(*, condensed: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let `function(distances, ...)` take only a square matrix, as a floating-point array.

    Args:
        condensed: whether a vector of the n (n - 1) / 2 distances may stand for the matrix.

    A matrix in the memory of the host is refused if its first row is not its first column: so are
    square points, and at once. To compare all entries would take as long as the tree.
    """

    def decorate(function):
        @functools.wraps(function)
        def checked(distances, *args, **kwargs):
            distances = _floating("distances", distances)
            n = _number_of_points(distances.shape, condensed)
            if distances.ndim == 2 and kwargs.get("mask") is None:
                _refuse_asymmetry(distances)
            return function(distances, *args, **_with_mask(kwargs, n))

        return checked

    return decorate


def _number_of_points(shape: tuple[int, ...], condensed: bool) -> int:
    if condensed and len(shape) == 1:
        return number_of_points(shape[0])
    if len(shape) == 2 and shape[0] == shape[1] > 0:
        return shape[0]
    choices = "(n, n) with at least one point" + (" or (n (n - 1) / 2,)" if condensed else "")
    raise ValueError(f"distances must have shape {choices}, got shape {shape}")


def _floating(name: str, array: Any) -> Array:
    array = jnp.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} must hold floating-point numbers, got dtype {array.dtype}")
    return replicated(array)


def _with_mask(arguments: dict[str, Any], n: int) -> dict[str, Any]:
    """The keyword arguments with a `mask` among them, if there is one, as an array (n,)."""
    if arguments.get("mask") is None:
        return arguments
    mask = replicated(jnp.asarray(arguments["mask"]))
    if mask.shape != (n,) or mask.dtype != bool:
        raise ValueError(
            f"mask must be boolean of shape ({n},), one entry for every point, "
            f"got {mask.dtype} of shape {mask.shape}"
        )
    return {**arguments, "mask": mask}


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
