"""The total order of edges, by (weight, lower index, higher index), that makes the tree unique."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int32


def ordered_keys(weights: Float[Array, "*shape"], nan: int) -> Array:
    """Integers that compare as the weights do, with both zeros equal and `nan` in place of NaN.

    Integer minima have no special values and vectorise. The keys of -inf and inf leave more than
    two integers free at either end of the range, for `nan` and for marks.
    """
    if weights.dtype.itemsize < 4:
        weights = weights.astype(jnp.float32)
    integer = jnp.int32 if weights.dtype.itemsize == 4 else jnp.int64
    bits = lax.bitcast_convert_type(weights, integer)
    keys = jnp.where(bits < 0, (bits ^ jnp.iinfo(integer).max) + 1, bits)
    return jnp.where(jnp.isnan(weights), nan, keys)


def in_order(
    weights: Float[Array, " m"], edges: Int32[Array, "m 2"]
) -> tuple[Float[Array, " m"], Int32[Array, "m 2"]]:
    """The weights and edges with the smallest first."""
    keys = ordered_keys(weights, nan=jnp.iinfo(jnp.int32).max)
    _, lower, higher, weights = lax.sort(
        (keys, edges[:, 0], edges[:, 1], weights), num_keys=3, is_stable=False
    )
    return weights, jnp.stack([lower, higher], 1)
