"""Distances between the points of a cloud, as functions of a matrix product of the points."""

from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int32

from persist_jax.kernels.devices import with_lanes
from persist_jax.kernels.distances import (
    at_least_single,
    normalise,
    one_minus,
    one_minus_absolute,
    power_near,
    root,
    standardise,
    symmetric_product,
)

Distance = Literal["correlation", "cosine", "pearson", "euclidean"]

# Computed as a product, a half squared distance below this fraction of the two rows' half squared
# norms loses more than three digits to rounding. It is computed from the difference instead.
_CLOSE = 2.0**-10


@dataclass(frozen=True)
class Geometry:
    r"""A distance between points: each point gives a row, two rows a gap, the gap a distance.

    | distance | rows | gap of two rows | distance of a gap g |
    |---|---|---|---|
    | correlation | $u$: centred, of norm 1 | $1 - \lvert u \cdot v\rvert$ | $g$ |
    | cosine | $u$: of norm 1 | $1 - \lvert u \cdot v\rvert$ | $g$ |
    | either, signed | the same | $1 - u \cdot v$ | $g$ |
    | pearson | $u$: centred, of norm 1 | $1 - \lvert u \cdot v\rvert$ | $\sqrt{g (2 - g)}$ |
    | euclidean | $(x, x^2 / 2, 1)$ of a centred cloud | $\lVert x - y\rVert^2 / 2$ | the norm |

    A gap is a function of the inner product of a row and a facing row: for "euclidean" the row of
    `_facing`, otherwise the other point's row itself. The distance increases with the gap, so the
    tree depends only on the order of the gaps.
    """

    distance: Distance = "correlation"
    signed: bool = False

    def __post_init__(self):
        if self.distance not in get_args(Distance):
            known = ", ".join(get_args(Distance))
            raise ValueError(f"distance: {self.distance!r} is not one of {known}")
        if self.signed and self.distance not in ("correlation", "cosine"):
            raise ValueError(
                f"signed: True, but the {self.distance} distance has no sign; "
                "correlation and cosine have one"
            )

    @property
    def absolute(self) -> bool:
        """Whether a gap is `1 - |u . v|`, at most 1."""
        return not self.signed and self.distance != "euclidean"

    def rows(self, points: Float[Array, "n b"]) -> Float[Array, "n k"]:
        """The row of each point; differentiable except for "euclidean"."""
        if self.distance == "euclidean":
            return _lifted(lax.stop_gradient(points))
        return normalise(points) if self.distance == "cosine" else standardise(points)

    def product(self, left: Float[Array, "r k"], right: Float[Array, "c k"]) -> Array:
        """The products of every left row with every right row's facing row, for `gaps`."""
        right = _facing(right) if self.distance == "euclidean" else right
        return jnp.matmul(left, right.T, precision=lax.Precision.HIGHEST)

    def gaps(self, product: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        if self.distance == "euclidean":
            return jnp.maximum(-product, 0)
        return one_minus(product) if self.signed else one_minus_absolute(product)

    def lower_bounds(self, left: Float[Array, "r k"], right: Float[Array, "c k"]) -> Array:
        """Lower bounds on the gaps that `gaps_to_blocks` computes between the same rows."""
        gaps = self.gaps(self.product(left, right))
        if self.distance != "euclidean":
            return gaps
        # A sum of k terms is off by at most k eps times the sum of their absolute values, which is
        # at most twice the two half squared norms. These norms are sums of the same length.
        rounding = 2 * left.shape[1] * jnp.finfo(gaps.dtype).eps
        slack = rounding * (left[:, -2, None] + right[None, :, -2])
        return jnp.maximum(gaps - slack, 0)

    def gaps_to_blocks(
        self, rows: Float[Array, "r k"], blocks: Float[Array, "r s k"] | Float[Array, "s k"]
    ) -> Float[Array, "r s"]:
        """The gaps from each row to the `s` rows of its own block, or of one block for all."""
        if self.distance == "euclidean":
            blocks = blocks if blocks.ndim == 3 else blocks[None]
            differences = rows[:, None, :-2] - blocks[..., :-2]
            return jnp.square(differences).sum(2) / 2
        if blocks.ndim == 2:
            return self.gaps(self.product(rows, blocks))
        product = jnp.einsum("rsk,rk->rs", blocks, rows, precision=lax.Precision.HIGHEST)
        return self.gaps(product)

    def matrix(self, rows: Float[Array, "n k"]) -> Float[Array, "n n"]:
        """The gaps between all rows, symmetric to the last bit; the diagonal is meaningless."""
        if self.distance != "euclidean":
            return self.gaps(symmetric_product(rows))

        def of_one(rows):
            return _with_differences(rows, self.gaps(symmetric_product(rows, _facing(rows))))

        # The loop's length depends on the data. Batched, every lane would run as long as the worst.
        return with_lanes(of_one, lax.map)(rows)

    def deaths(
        self,
        points: Float[Array, "n b"],
        edges: Int32[Array, "m 2"],
        products: Float[Array, " m"] | None,
    ) -> Float[Array, " m"]:
        """The distance along each edge, differentiable; NaN where a point is not finite.

        Args:
            points: the cloud; used by "euclidean".
            edges: pairs of points.
            products: the product of the two rows of each edge; used by every other distance.
        """
        if self.distance == "euclidean":
            return _norms(points, edges)
        gaps = self.gaps(products)
        # 1 - c^2 = (1 - |c|)(1 + |c|) does not cancel where |c| is close to 1.
        return root(gaps * (2 - gaps)) if self.distance == "pearson" else gaps


CORRELATION = Geometry()


def _lifted(points: Float[Array, "n b"]) -> Float[Array, "n b+2"]:
    """`(x, |x|^2 / 2, 1)` for each point x of the cloud, centred and scaled to a size near 1."""
    points = at_least_single(points)
    points = points / power_near(jnp.abs(points).max())
    # Centre twice: the mean's rounding error is relative to its size, maybe far above the spread.
    for _ in range(2):
        points = points - points.mean(0, keepdims=True)
    points = points / power_near(jnp.abs(points).max())
    half = jnp.square(points).sum(1, keepdims=True) / 2
    return jnp.concatenate([points, half, jnp.ones_like(half)], 1)


def _facing(rows: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """The facing rows, whose products are `x . y - |x|^2 / 2 - |y|^2 / 2 = -|x - y|^2 / 2`."""
    return jnp.concatenate([rows[:, :-2], -rows[:, -1:], -rows[:, -2:-1]], 1)


def _with_differences(
    rows: Float[Array, "n k"], gaps: Float[Array, "n n"]
) -> Float[Array, "n n"]:
    """Recompute the gaps of every row that has a close neighbour, from differences.

    Equal rows then have gap 0, and the nearest of several close rows is found.
    """
    n, half, points = len(rows), rows[:, -2], rows[:, :-2]
    close = (gaps < _CLOSE * (half[:, None] + half[None])) & ~jnp.eye(n, dtype=bool)
    inexact = close.any(1)
    (which,) = jnp.nonzero(inexact, size=n, fill_value=0)

    def form(k, gaps):
        i = which[k]
        exact = jnp.square(points - points[i][None]).sum(1) / 2
        return gaps.at[i].set(exact).at[:, i].set(exact)

    return lax.fori_loop(0, inexact.sum(dtype=jnp.int32), form, gaps)


def _norms(points: Float[Array, "n b"], edges: Int32[Array, "m 2"]) -> Float[Array, " m"]:
    points = at_least_single(points)
    power = power_near(jnp.abs(lax.stop_gradient(points)).max())
    differences = (points[edges[:, 0]] - points[edges[:, 1]]) / power
    norms = root(jnp.square(differences).sum(1)) * power
    return jnp.where(jnp.isfinite(norms), norms, jnp.nan)
