"""Checks of the array arguments of the public kernels, made before anything is traced."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array


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
        return function(points, *args, **kwargs)

    return checked


def as_distances(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let `function(distances, ...)` take only a square matrix, as a floating-point array."""

    @functools.wraps(function)
    def checked(distances, *args, **kwargs):
        distances = _floating("distances", distances)
        shape = distances.shape
        if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
            raise ValueError(
                f"distances must have shape (n, n) with at least one point, got shape {shape}"
            )
        return function(distances, *args, **kwargs)

    return checked


def _floating(name: str, array: Any) -> Array:
    array = jnp.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} must hold floating-point numbers, got dtype {array.dtype}")
    return array
