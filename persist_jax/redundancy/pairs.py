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
    """Pairs `lower < higher`, largest size first; ties go to the lower indices."""

    size: Float[Array, " k"]
    lower: Int32[Array, " k"]
    higher: Int32[Array, " k"]


@functools.partial(jax.jit, static_argnames=("count", "tile", "signed"))
def strongest_pairs(
    unit: Float[Array, "n b"], count: int, tile: int = _TILE, signed: bool = False
) -> Strongest:
    r"""The `count` pairs with the largest $|u_i \cdot u_j|$ among all `n (n - 1) / 2`.

    The product takes `n^2 b` operations, in tiles. A tile is sorted only if it holds a pair at
    least as strong as the weakest kept pair. Memory is O(n b).

    Args:
        unit: rows of norm 1.
        count: the number of pairs; missing pairs have size -2.
        tile: side of a tile of products.
        signed: whether to rank by the product instead of its absolute value.
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
