"""The spanning tree of neurons under `1 - |corr|`, by the way that suits their number."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int32

from persist_jax.kernels import gpu
from persist_jax.kernels.batching import by_platform
from persist_jax.kernels.boruvka import boruvka_edges
from persist_jax.kernels.compilation import as_one_kernel
from persist_jax.kernels.distances import one_minus_absolute, standardise, symmetric_product
from persist_jax.kernels.prim import MOST_POINTS, prim_parents

ALGORITHMS = ("auto", "prim", "boruvka", "matrix_free")

# In bytes. Dense is the faster one where it fits: one array of this size, two for Boruvka.
_LARGEST_MATRIX = 2**31


def edges_and_correlations(
    points: Float[Array, "n b"], algorithm: str, axis_name: str | None
) -> tuple[Int32[Array, "n-1 2"], Float[Array, "n-1"]]:
    """The edges, in no particular order, and the correlation of the two neurons of each.

    The edges are found outside differentiation; the correlations are differentiable. Where a
    correlation is NaN the edges mean nothing.

    Args:
        points: one row per neuron.
        algorithm: one of `ALGORITHMS`.
        axis_name: mapped axis whose devices share the matrix-free search.

    Raises:
        ValueError: for an unknown algorithm, with the known ones.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm {algorithm!r} is not one of {', '.join(ALGORITHMS)}")
    unit = standardise(points)
    n = unit.shape[0]
    if n == 1:
        return jnp.zeros((0, 2), jnp.int32), jnp.zeros((0,), unit.dtype)
    fixed = lax.stop_gradient(unit)
    too_large = n * n * unit.dtype.itemsize > _LARGEST_MATRIX
    if algorithm == "matrix_free" or (algorithm == "auto" and too_large):
        from persist_jax.kernels.matrix_free import matrix_free_edges

        edges = matrix_free_edges(fixed, axis_name=axis_name)
        return edges, _between(unit, edges)
    if algorithm == "boruvka" or n > MOST_POINTS:
        edges = by_platform(_by_boruvka, _by_boruvka, gpu.edges_of_units)(fixed)
        return edges, _between(unit, edges)
    if algorithm == "prim":
        edges = by_platform(_by_prim_on_cpu, _by_prim)(fixed)
        return edges, _to_parents(unit, edges)
    edges = by_platform(_by_prim_on_cpu, _by_boruvka, gpu.edges_of_units)(fixed)
    return edges, lax.platform_dependent(unit, edges, cpu=_to_parents, default=_between)


def _between(unit: Float[Array, "n b"], edges: Int32[Array, "n-1 2"]) -> Float[Array, "n-1"]:
    return (unit[edges[:, 0]] * unit[edges[:, 1]]).sum(1)


def _to_parents(unit: Float[Array, "n b"], edges: Int32[Array, "n-1 2"]) -> Float[Array, "n-1"]:
    """The same of the edges of a rooted tree, the k-th of which starts at vertex k.

    Half of the rows lie where they are needed, and so does half of the gradient.
    """
    return (unit[:-1] * unit[edges[:, 1]]).sum(1)


def _by_prim(unit):
    return _prim(_product(unit))


def _by_prim_on_cpu(unit):
    return as_one_kernel(_prim)(_product(unit))


def _by_boruvka(unit):
    # It needs two neurons to be as far from each other as the other way round.
    return boruvka_edges(one_minus_absolute(symmetric_product(unit)))[0]


def _product(unit: Float[Array, "n b"]) -> Float[Array, "n n"]:
    """Correlations, and no pass over them but Prim's: a distance is taken as its row is read.

    Prim makes a tree of any matrix, so it does not matter that products need not be symmetric to
    the last bit.
    """
    return jnp.matmul(unit, unit.T, precision=lax.Precision.HIGHEST)


def _prim(correlations: Float[Array, "n n"]) -> Int32[Array, "n-1 2"]:
    parents, _ = prim_parents(correlations, keys=_keys)
    return jnp.stack([jnp.arange(parents.shape[0], dtype=jnp.int32), parents], 1)


def _keys(correlations: Float[Array, "*shape"], nan: int) -> Array:
    """Integers that compare as `1 - |corr|`: the bits of numbers that are not negative."""
    distances = one_minus_absolute(correlations)
    return lax.bitcast_convert_type(
        distances, jnp.int32 if distances.dtype.itemsize == 4 else jnp.int64
    )
