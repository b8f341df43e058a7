"""The total order of edges, by (weight, lower index, higher index), that makes the tree unique."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int32


def ordered_keys(weights: Float[Array, "*shape"]) -> Array:
    """Integers that compare as the weights do: -inf first, both zeros equal, then inf, NaN last.

    Integer minima are exact, have no special values, and leave room above them for a mark. No
    weight has the largest integer as its key.
    """
    if weights.dtype.itemsize < 4:
        weights = weights.astype(jnp.float32)
    integer = jnp.int32 if weights.dtype.itemsize == 4 else jnp.int64
    bits = lax.bitcast_convert_type(weights, integer)
    largest = jnp.iinfo(integer).max
    keys = jnp.where(bits < 0, (bits ^ largest) + 1, bits)
    return jnp.where(jnp.isnan(weights), largest - 1, keys)


def in_order(
    weights: Float[Array, " m"], edges: Int32[Array, "m 2"]
) -> tuple[Float[Array, " m"], Int32[Array, "m 2"]]:
    """The weights and edges with the smallest first."""
    _, lower, higher, weights = lax.sort(
        (ordered_keys(weights), edges[:, 0], edges[:, 1], weights), num_keys=3, is_stable=False
    )
    return weights, jnp.stack([lower, higher], 1)
