"""The mean of all correlations and its derivative, from blocks of the correlation matrix."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from persist_jax.kernels import gpu
from persist_jax.kernels.distances import one_minus_absolute
from persist_jax.kernels.sharding import in_its_mesh, on_mesh_of, varying_as

# Rows of the matrix that exist at a time. A block stays in the cache of a CPU, where a whole
# matrix, once it is larger than that, costs as much in fresh memory as in arithmetic: measured at
# n = 512 to 4096.
_BLOCK = 256
_ONE_BLOCK = 1024


@jax.custom_jvp
def mean_absolute_product(unit: Float[Array, "n b"]) -> Float[Array, ""]:
    r"""Mean of `|u_i . u_j|` over all pairs for which it is not 0; 0 where there is none.

    The derivative holds the signs fixed, $\dot m = \frac{2}{|P|} \sum_{ij} s_{ij} u_j \dot u_i$,
    so value and gradient together cost two products of the matrix with `b` columns. Memory is
    O(n b): the matrix itself is never whole above n = 1024.

    Args:
        unit: standardised points; rows that are not finite take no part.
    """
    total, count, _ = _over_blocks(unit, with_slopes=False)
    return total / count


@mean_absolute_product.defjvp
def _derivative(primals, tangents):
    total, count, slopes = _over_blocks(*primals, with_slopes=True)
    return total / count, 2 / count * jnp.sum(slopes * tangents[0])


def _over_blocks(unit: Float[Array, "n b"], *, with_slopes: bool):
    """Sum and number of the pairs (i, j), i != j, that count, and `sum_j s_ij u_j` for every i."""
    sums = functools.partial(_scan, with_slopes=with_slopes)
    # An explicit mesh may share the lanes of a `vmap`, which a launch of ours takes together.
    if gpu.has_kernels_for(unit) and not jax.typeof(unit).sharding.mesh.explicit_axes:
        own = functools.partial(_on_gpu, with_slopes=with_slopes)
        sums = functools.partial(lax.platform_dependent, cuda=own, default=sums)
    return in_its_mesh(sums)(jnp.where(jnp.isfinite(unit), unit, 0))


def _on_gpu(unit: Float[Array, "n b"], *, with_slopes: bool):
    total, count, slopes = (array[0] for array in gpu.absolute_sums(unit[None]))
    return total, jnp.maximum(count, 1), slopes if with_slopes else None


def _scan(unit: Float[Array, "n b"], *, with_slopes: bool):
    n, b = unit.shape
    block = n if n <= _ONE_BLOCK else _BLOCK
    blocks = -(-n // block)
    rows = jnp.pad(unit, ((0, blocks * block - n), (0, 0))).reshape(blocks, block, b)
    own = jnp.arange(blocks * block).reshape(blocks, block)

    def add(sums, inputs):
        rows, own = inputs
        product = jnp.matmul(rows, unit.T, precision=lax.Precision.HIGHEST)
        product = jnp.where(own[:, None] == jnp.arange(n)[None], 0, product)
        size = jnp.minimum(jnp.abs(product), 1)
        # Sums down the columns vectorise.
        total, count = sums
        sums = total + size.sum(0), count + (size > 0).astype(size.dtype).sum(0)
        if not with_slopes:
            return sums, None
        signs = jnp.where(one_minus_absolute(product) > 0, jnp.sign(product), 0)
        return sums, jnp.matmul(signs, unit, precision=lax.Precision.HIGHEST)

    zeros = varying_as(on_mesh_of(jnp.zeros(n, unit.dtype), unit), unit)
    (total, count), slopes = lax.scan(add, (zeros, zeros), (rows, own))
    if with_slopes:
        slopes = slopes.reshape(blocks * block, b)[:n]
    return total.sum(), jnp.maximum(count.sum(), 1), slopes
