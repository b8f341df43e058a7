"""The mean absolute correlation and its derivative, from blocks of the correlation matrix."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from persist_jax.kernels import gpu
from persist_jax.kernels.arguments import as_points
from persist_jax.kernels.devices import on_mesh_of, varying_as
from persist_jax.kernels.distances import is_constant, one_minus_absolute, standardise

# Rows of the correlation matrix per block; up to `_ONE_BLOCK` rows are one block. A block stays in
# a CPU's cache. Allocating a matrix larger than the cache costs as much as its arithmetic
# (measured at n = 512 to 4096).
_BLOCK = 256
_ONE_BLOCK = 1024


def mean_correlation(points: ArrayLike) -> Float[Array, ""]:
    r"""Mean absolute correlation over all pairs of non-constant neurons.

    $$ \frac{1}{|P|}\sum_{(i,j) \in P} |\mathrm{corr}(x_i, x_j)|,\qquad
       P = \lbrace (i, j) : i \ne j,\ x_i \text{ and } x_j \text{ not constant}\rbrace $$

    The published code instead omits every pair whose rounded correlation is 0, even if both neurons
    vary. Rounding and the order of the batch then decide how many pairs count. Here a neuron with a
    NaN or infinite activation does not count either. Pairs with $|\mathrm{corr}| = 1$ have zero
    gradient.

    The derivative holds the signs $s_{ij}$ of the correlations fixed. With $u$ the standardised
    neurons, $k$ of them not constant,
    $\dot m = \frac{2}{k (k - 1)} \sum_{ij} s_{ij} u_j \cdot \dot u_i$. Value and gradient together
    cost two matrix products of n x n x b; memory is O(n b).

    Args:
        points: `(n, b)`, one row per neuron, its activations over a batch of `b` examples.

    Returns:
        A scalar in [0, 1]; 0 if no pair counts.

    Raises:
        ValueError: if `points` does not have two non-empty axes.

    Example:
        >>> points = jnp.array([[0.0, 1.0, 2.0], [3.0, 2.0, 1.0], [5.0, 5.0, 5.0]])
        >>> round(float(mean_correlation(points)), 5)
        1.0

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    return _mean_correlation(as_points(points))


@jax.jit
def _mean_correlation(points):
    unit = standardise(points)
    unit = jnp.where(jnp.isfinite(unit), unit, 0)
    varying = (~is_constant(unit)).sum().astype(unit.dtype)
    return _sum_of_sizes(unit) / jnp.maximum(varying * (varying - 1), 1)


@jax.custom_jvp
def _sum_of_sizes(unit: Float[Array, "n b"]) -> Float[Array, ""]:
    """The sum of `|u_i . u_j|` over all i != j."""
    return _sums(unit, with_slopes=False)[0]


@_sum_of_sizes.defjvp
def _derivative(primals, tangents):
    total, slopes = _sums(*primals, with_slopes=True)
    return total, 2 * jnp.sum(slopes * tangents[0])


def _sums(unit: Float[Array, "n b"], *, with_slopes: bool):
    """The sum of all `|u_i . u_j|`, and, `with_slopes`, `sum_j s_ij u_j` for every i."""
    sums = functools.partial(_by_blocks, with_slopes=with_slopes)
    # One kernel launch covers all lanes of a `vmap`, which a mesh may have split over devices.
    if gpu.has_kernels_for(unit) and not jax.typeof(unit).sharding.mesh.explicit_axes:
        own = functools.partial(_on_gpu, with_slopes=with_slopes)
        return lax.platform_dependent(unit, cuda=own, default=sums)
    return sums(unit)


def _on_gpu(unit: Float[Array, "n b"], *, with_slopes: bool):
    total, slopes = (array[0] for array in gpu.absolute_sums(unit[None]))
    return total, slopes if with_slopes else None


def _by_blocks(unit: Float[Array, "n b"], *, with_slopes: bool):
    n, b = unit.shape
    block = n if n <= _ONE_BLOCK else _BLOCK
    blocks = -(-n // block)
    rows = jnp.pad(unit, ((0, blocks * block - n), (0, 0))).reshape(blocks, block, b)
    own = jnp.arange(blocks * block).reshape(blocks, block)

    def add(total, inputs):
        rows, own = inputs
        product = jnp.matmul(rows, unit.T, precision=lax.Precision.HIGHEST)
        product = jnp.where(own[:, None] == jnp.arange(n)[None], 0, product)
        # Sums down the columns vectorise.
        total = total + jnp.minimum(jnp.abs(product), 1).sum(0)
        if not with_slopes:
            return total, None
        signs = jnp.where(one_minus_absolute(product) > 0, jnp.sign(product), 0)
        return total, jnp.matmul(signs, unit, precision=lax.Precision.HIGHEST)

    zeros = varying_as(on_mesh_of(jnp.zeros(n, unit.dtype), unit), unit)
    total, slopes = lax.scan(add, zeros, (rows, own))
    return total.sum(), slopes.reshape(blocks * block, b)[:n] if with_slopes else None
