"""The strongest correlations of all pairs, tile by tile."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int32

# A tile stays in the cache of a CPU. On an accelerator it has not been measured.
_TILE = 1024


class Strongest(NamedTuple):
    """Pairs `lower < higher` by falling size; of equal ones the lower indices come first."""

    size: Float[Array, " k"]
    lower: Int32[Array, " k"]
    higher: Int32[Array, " k"]


@functools.partial(jax.jit, static_argnames=("count", "tile", "signed"))
def strongest_pairs(
    unit: Float[Array, "n b"], count: int, tile: int = _TILE, signed: bool = False
) -> Strongest:
    r"""The `count` pairs with the largest $|u_i \cdot u_j|$ among all `n (n - 1) / 2`.

    One product of `n^2 b` operations in tiles, of which only those are sorted that hold a pair
    stronger than the weakest one kept. Memory is O(n b).

    Args:
        unit: rows of norm 1.
        count: how many pairs; those that do not exist have size -2.
        tile: rows and columns of the correlation that are formed at once.
        signed: whether the largest products count instead of the largest sizes.
    """
    n = unit.shape[0]
    tile = min(tile, n)
    tiles = -(-n // tile)
    unit = jnp.pad(unit, ((0, tiles * tile - n), (0, 0)))
    corners = jnp.asarray(np.stack(np.triu_indices(tiles)), jnp.int32) * tile
    place = jnp.arange(tile, dtype=jnp.int32)
    most = min(count, tile * tile)

    def add_tile(k, best):
        i, j = corners[:, k]
        left, right = (lax.dynamic_slice_in_dim(unit, start, tile) for start in (i, j))
        size = jnp.matmul(left, right.T, precision=lax.Precision.HIGHEST)
        size = size if signed else jnp.abs(size)
        counts = ((i + place)[:, None] < (j + place)[None]) & ((j + place)[None] < n)
        size = jnp.where(counts, size, -2)

        def merged():
            values, flat = lax.top_k(size.ravel(), most)
            new = Strongest(values, i + flat // tile, j + flat % tile)
            both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), best, new)
            return Strongest(*_first(both, count))

        return lax.cond(size.max() >= best.size[-1], merged, lambda: best)

    none = jnp.full(count, n, jnp.int32)
    start = Strongest(jnp.full(count, -2, unit.dtype), none, none)
    return lax.fori_loop(0, corners.shape[1], add_tile, start)


def _first(pairs: Strongest, count: int) -> tuple[Array, ...]:
    falling = lax.sort((-pairs.size, pairs.lower, pairs.higher), num_keys=3)
    size, lower, higher = (column[:count] for column in falling)
    return -size, lower, higher
