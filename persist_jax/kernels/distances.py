"""Distances between neurons: points (n, b) to symmetric matrices (n, n)."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import ArrayLike, Bool, Float

from persist_jax.kernels.arguments import as_points

# Rows of a block (measured at n = 1010 to 4096). More blocks would only take longer to compile.
_BLOCK = 256
_MOST_BLOCKS = 16

# Distances below this multiple of the machine epsilon become 0. Two products of the same rows may
# differ by that much, and all copies of a neuron must be equally far from it in every program.
ZERO = 8


def standardise(points: ArrayLike) -> Float[Array, "n b"]:
    r"""Centre every row and scale it to unit length, so that rows multiply to correlations.

    $$ u_i = (x_i - \bar x_i) / \lVert x_i - \bar x_i \rVert $$

    A constant row becomes zero with zero gradient; a row with a NaN or infinite entry becomes NaN.
    The scale and the mean of a row do not affect the result, up to the precision of the row's
    entries, and nothing overflows. A row whose entries are all below the smallest normal number,
    1.2e-38 in float32, counts as constant.

    Args:
        points: `(n, b)`, one row per neuron, its activations over a batch of `b` examples.

    Returns:
        Rows of mean 0 and norm 1 (0 for constant rows), float32 or float64.

    Raises:
        ValueError: if `points` does not have two non-empty axes.

    Example:
        >>> standardise(jnp.array([[3.0, 3.0, 1.0, 1.0], [7.0, 7.0, 7.0, 7.0]]))
        Array([[ 0.5,  0.5, -0.5, -0.5],
               [ 0. ,  0. ,  0. ,  0. ]], dtype=float32)
    """
    return _standardise(as_points(points))


@jax.jit
def _standardise(points):
    points = at_least_single(points)
    high = lax.stop_gradient(points).max(1, keepdims=True)
    low = lax.stop_gradient(points).min(1, keepdims=True)
    finite, constant = jnp.isfinite(high) & jnp.isfinite(low), high == low
    # Save a pass over the points: the largest entry follows from each row's maximum and minimum.
    power = power_near(jnp.maximum(high, -low))
    rows = points / power
    mean = rows.mean(1, keepdims=True)
    ends = jnp.maximum(high / power - mean, mean - low / power)
    # Without the second scaling a spread far below the mean would underflow when squared.
    power = power_near(lax.stop_gradient(jnp.where(constant, 0, ends)))
    rows = jnp.where(constant, 0, rows - mean) / power
    # The mean's rounding error is relative to its own size, which may be far above the spread.
    # Subtracting the remaining mean corrects the value; in exact arithmetic, it leaves the
    # derivative unchanged.
    rows = rows - lax.stop_gradient(rows.mean(1, keepdims=True))
    squares = jnp.square(rows).sum(1, keepdims=True)
    # A row that is constant up to its own precision may still be 0 here. Call `rsqrt` explicitly:
    # XLA replaces a division by a root with it in some programs only, and a term and `measures`
    # would then not share their products.
    unit = rows * lax.rsqrt(jnp.where(squares == 0, 1, squares))
    return jnp.where(finite, unit, jnp.nan)


def normalise(points: ArrayLike) -> Float[Array, "n b"]:
    r"""Scale every row to unit length, so that rows multiply to cosines.

    $$ u_i = x_i / \lVert x_i \rVert $$

    A row of zeros stays zero, with zero gradient; a row with a NaN or infinite entry becomes NaN.
    The scale of a row does not affect the result, as for `standardise`.

    Args:
        points: `(n, b)`, one row per point.

    Returns:
        Rows of norm 1 (0 for rows of zeros), float32 or float64.

    Raises:
        ValueError: if `points` does not have two non-empty axes.

    Example:
        >>> normalise(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
        Array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32)
    """
    return _normalise(as_points(points))


@jax.jit
def _normalise(points):
    points = at_least_single(points)
    size = jnp.abs(lax.stop_gradient(points)).max(1, keepdims=True)
    rows = points / power_near(size)
    squares = jnp.square(rows).sum(1, keepdims=True)
    # Not a second division: some programs merge two divisions into one by their product, which may
    # overflow.
    unit = rows * lax.rsqrt(jnp.where(squares == 0, 1, squares))
    return jnp.where(jnp.isfinite(size), unit, jnp.nan)


def is_constant(unit: Float[Array, "n b"]) -> Bool[Array, " n"]:
    """Which standardised or normalised rows are 0, because their points are constant or zero."""
    return (unit == 0).all(1)


def correlation_distance(points: ArrayLike, *, signed: bool = False) -> Float[Array, "n n"]:
    r"""One minus the absolute Pearson correlation of every two neurons.

    $$ d(x, y) = 1 - \lvert \operatorname{corr}(x, y) \rvert $$

    The matrix is exactly symmetric with entries in [0, 1] and an exactly zero diagonal. With
    `signed` it is $1 - \operatorname{corr}(x, y)$, with entries in [0, 2]: opposite neurons are the
    farthest apart. A constant neuron has correlation 0 and so distance 1 to every other. Entries
    with |corr| = 1 and entries of constant neurons have zero gradient. A neuron with a NaN or
    infinite activation gives a row and a column of NaN, its diagonal entry included.

    Args:
        points: `(n, b)`, one row per neuron, its activations over a batch of `b` examples; half
            precision is computed in float32.
        signed: whether opposite neurons are far apart instead of equal.

    Returns:
        The distances, float32 or float64.

    Raises:
        ValueError: if `points` does not have two non-empty axes.

    Example:
        >>> correlation_distance(jnp.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]))
        Array([[0., 1.],
               [1., 0.]], dtype=float32)

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    return _one_minus_products(standardise(points), signed)


def cosine_distance(points: ArrayLike, *, signed: bool = False) -> Float[Array, "n n"]:
    r"""One minus the absolute cosine of the angle between every two rows.

    $$ d(x, y) = 1 - \frac{\lvert x \cdot y \rvert}{\lVert x \rVert \lVert y \rVert} $$

    Like `correlation_distance`, but without centring; a row of zeros is treated like a constant
    neuron. scipy's "cosine" is the signed distance.

    Args:
        points: `(n, b)`, one row per neuron, feature or example.
        signed: whether opposite rows are far apart instead of equal.

    Returns:
        The distances, in [0, 1] or signed in [0, 2], float32 or float64.

    Raises:
        ValueError: if `points` does not have two non-empty axes.

    Example:
        >>> cosine_distance(jnp.array([[1.0, 0.0], [-3.0, 0.0]]), signed=True)
        Array([[0., 2.],
               [2., 0.]], dtype=float32)
    """
    return _one_minus_products(normalise(points), signed)


@functools.partial(jax.jit, static_argnames="signed")
def _one_minus_products(unit, signed):
    gap = one_minus if signed else one_minus_absolute
    return _with_zero_diagonal(gap(symmetric_product(unit)))


def pearson_distance(points: ArrayLike) -> Float[Array, "n n"]:
    r"""The sine of the angle between every two centred neurons.

    $$ d(x, y) = \sqrt{1 - \operatorname{corr}(x, y)^2} $$

    Conventions and edge cases as for `correlation_distance`.

    Args:
        points: `(n, b)`, one row per neuron, its activations over a batch of `b` examples.

    Returns:
        The distances in [0, 1], float32 or float64.

    Raises:
        ValueError: if `points` does not have two non-empty axes.

    Example:
        >>> pearson_distance(jnp.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]))
        Array([[0., 1.],
               [1., 0.]], dtype=float32)
    """
    return _pearson_distance(as_points(points))


@jax.jit
def _pearson_distance(points):
    gap = one_minus_absolute(symmetric_product(standardise(points)))
    # 1 - c^2 = (1 - |c|)(1 + |c|) does not cancel where |c| is close to 1.
    return _with_zero_diagonal(root(gap * (2 - gap)))


def euclidean_distance(points: ArrayLike) -> Float[Array, "n n"]:
    r"""The Euclidean distance of every two neurons.

    $$ d(x, y) = \lVert x - y \rVert $$

    Differences are formed before squaring, so equal rows have distance exactly 0; the gradient
    there is 0. A NaN activation gives a row and a column of NaN.

    Args:
        points: `(n, b)`, one row per neuron, its activations over a batch of `b` examples.

    Returns:
        The distances, float32 or float64.

    Raises:
        ValueError: if `points` does not have two non-empty axes.

    Example:
        >>> euclidean_distance(jnp.array([[0.0, 0.0], [3.0, 4.0]]))
        Array([[0., 5.],
               [5., 0.]], dtype=float32)
    """
    return _euclidean_distance(as_points(points))


@jax.jit
def _euclidean_distance(points):
    points = at_least_single(points)

    # The differences of all pairs, n * n * b numbers, are never kept for the backward pass.
    @jax.checkpoint
    def row(point):
        return root(jnp.square(points - point[None]).sum(1))

    return lax.map(row, points)


def one_minus_absolute(correlations: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`1 - |corr|` in [0, 1]; 0 with gradient 0 where |corr| is 1 up to rounding of a product."""
    return one_minus(jnp.abs(correlations))


def one_minus(correlations: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`1 - corr` in [0, 2]; 0 with gradient 0 where corr is 1 up to rounding of a product."""
    gap = 1 - correlations
    return jnp.where(gap < ZERO * jnp.finfo(gap.dtype).eps, 0, gap)


def symmetric_product(
    rows: Float[Array, "n k"], facing: Float[Array, "n k"] | None = None
) -> Float[Array, "n n"]:
    """Return `rows @ facing.T`, symmetric to the last bit.

    `facing` is `rows` by default. Any other `facing` must give a product that is symmetric up to
    rounding.
    """
    facing = rows if facing is None else facing
    return lax.platform_dependent(rows, facing, cpu=_product_in_blocks, default=_product)


def _product(rows, facing):
    # TF32, the default for float32 on recent GPUs, would give wrong edges.
    product = jnp.matmul(rows, facing.T, precision=lax.Precision.HIGHEST)
    # A matrix product need not be symmetric to the last bit.
    return (product + product.T) / 2


def _product_in_blocks(rows, facing):
    """`_product`, from the blocks on and above the diagonal.

    This halves the arithmetic, and each block is transposed within a CPU's cache.
    """
    n = rows.shape[0]
    side = max(_BLOCK, -(-n // _MOST_BLOCKS))
    ends = [*range(0, n, side), n]
    blocks = list(itertools.pairwise(ends))
    upper = [
        jnp.matmul(rows[i:j], facing[i:].T, precision=lax.Precision.HIGHEST) for i, j in blocks
    ]
    whole = []
    for row, (i, j) in enumerate(blocks):
        mirrored = [upper[k][:, i - first : j - first].T for k, first in enumerate(ends[:row])]
        own = upper[row][:, : j - i]
        whole.append(jnp.concatenate([*mirrored, (own + own.T) / 2, upper[row][:, j - i :]], 1))
    return jnp.concatenate(whole)


def _with_zero_diagonal(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    diagonal = jnp.eye(matrix.shape[0], dtype=bool)
    return jnp.where(diagonal & ~jnp.isnan(matrix), 0, matrix)


def at_least_single(points: Float[Array, "n b"]) -> Float[Array, "n b"]:
    return points.astype(jnp.promote_types(points.dtype, jnp.float32))


def power_near(size: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """A power of two near `size`; dividing a row by it removes the row's scale."""
    limits = jnp.finfo(size.dtype)
    # Within these limits the reciprocal is a normal number. Dividing by a power of two is exact.
    size = jnp.clip(size, float(limits.tiny), float(limits.max) / 4)
    return lax.reduce_precision(size, limits.nexp, 0)


def root(squares: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The square root, with gradient 0 at 0."""
    root = jnp.sqrt(jnp.where(squares == 0, 1, squares))
    return jnp.where(squares == 0, 0, root)
