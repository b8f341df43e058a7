"""The condensed form of a matrix of distances, as `scipy.spatial.distance.pdist` returns it."""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int


def number_of_points(length: int) -> int:
    """The n whose n (n - 1) / 2 distances a vector of that length holds."""
    n = (1 + math.isqrt(1 + 8 * length)) // 2
    if n * (n - 1) // 2 != length:
        raise ValueError(
            f"distances: a condensed vector has n (n - 1) / 2 entries, got {length}; "
            f"{n} points have {n * (n - 1) // 2}, {n + 1} have {n * (n + 1) // 2}"
        )
    return n


def place(lower: Int[Array, "*m"], higher: Int[Array, "*m"], n: int) -> Int[Array, "*m"]:
    """Where the distance of two of n points, `lower < higher`, is in the vector."""
    return n * lower - lower * (lower + 3) // 2 + higher - 1


def whole_matrix(condensed: Float[Array, " m"]) -> Float[Array, "n n"]:
    """The matrix, symmetric with a zero diagonal.

    Every row is one slice of the vector: on a CPU that is many times faster than to gather or
    scatter entries one by one.
    """
    n = number_of_points(condensed.shape[0])
    index = jnp.arange(n, dtype=jnp.int32)
    # Entry (i, 0) would lie at `place(i, 0)`, which is -1 for the first row.
    padded = jnp.pad(condensed, (1, 0))
    rows = jax.vmap(lambda first: lax.dynamic_slice(padded, (first,), (n,)))(
        place(index, jnp.zeros_like(index), n) + 1
    )
    upper = jnp.where(index[:, None] < index[None], rows, 0)
    return upper + upper.T
