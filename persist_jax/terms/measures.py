"""Scalar measures of a network's representation, for logging from a jitted step."""

import functools
import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import entr
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from persist_jax.kernels import correlation_deaths, mean_correlation, standardise
from persist_jax.kernels.deaths import LARGEST_MATRIX
from persist_jax.kernels.devices import replicated
from persist_jax.kernels.distances import is_constant
from persist_jax.terms.activations import Layer
from persist_jax.terms.sampling import (
    Neurons,
    check_sampling,
    points_of,
    said_whole,
    sample_layers,
)

_QUANTILES = {
    "deaths_min": 0.0,
    "deaths_q25": 0.25,
    "deaths_median": 0.5,
    "deaths_q75": 0.75,
    "deaths_max": 1.0,
}
_OF_CLOUD = (
    "constant", "mean_correlation", *_QUANTILES, "clusters", "redundant", "effective_rank"
)  # fmt: skip
# Eigenvalues of a Gram matrix below this multiple of eps times the largest are rounding error.
_ROUNDING = 4


def measures(
    activations: PyTree,
    *,
    threshold: float = 0.9,
    dormant: float = 0.025,
    fraction: float = 1.0,
    whole: Layer | EllipsisType | None = ...,
    layers: Layer | Sequence[Layer] | None = None,
    neurons: Neurons = "positions",
    axis_name: str | None = None,
    mask: ArrayLike | None = None,
    per_layer: bool = True,
) -> dict[str, Float[Array, ""]]:
    r"""Scalars to watch during training: constant, dormant and redundant neurons, effective rank.

    Each is measured on the cloud of all layers together, and on each layer as a cloud of its own:

    * `constant`: the share of neurons with one value on the whole batch.
    * `dormant`: the share of neurons $i$ of $m$ in a layer for which
      $\mathrm{mean}_k |a_{ik}| \le \tau\, \frac1m \sum_j \mathrm{mean}_k |a_{jk}|$. Every neuron of
      a layer counts, including the least active ones that `fraction` leaves out. All neurons of an
      all-zero layer are dormant. The paper excludes the output layer; `layers` can do so here.
    * `mean_correlation`: the mean |corr| over pairs of non-constant neurons.
    * `deaths_min`, `deaths_q25`, `deaths_median`, `deaths_q75`, `deaths_max`: quantiles of the
      deaths, interpolated linearly; small if many neurons are strongly correlated.
    * `clusters`: the connected components of the graph that joins two neurons with |corr| of at
      least `threshold`: $n$ minus the number of deaths of at most $1 - \text{threshold}$. A neuron
      that is joined to no other is a component, and so is each constant neuron.
    * `redundant`: the share of neurons that could be removed: the constant ones, and all but one of
      every component. `n * redundant` is the `redundant` of `persist_jax.redundancy`, and
      `clusters = n * (1 + constant - redundant)`.
    * `effective_rank`: $\exp(-\sum_i p_i \log p_i)$ with $p_i = \sigma_i / \sum_j \sigma_j$ and
      $\sigma$ the singular values of the cloud, its rows centred but not scaled. A constant neuron
      adds nothing, and a layer with larger activations counts more. 0 if every neuron is constant.
      Singular values below 0.07 % of the largest are rounding error in float32 and count as 0.

    No gradient flows. In one program, all measures of a cloud and a term of the same cloud, with
    its gradient, share one tree and one matrix product. Measures that the program does not use are
    not computed. On a CPU the effective rank, which takes the eigenvalues of a matrix with
    $\min(n, b)$ rows, may cost as much as all other measures.

    A cloud of one neuron has no deaths, and their quantiles are NaN. If `fraction` keeps no neuron
    of a layer, all of the layer's measures but `dormant` are NaN. If an activation is not finite,
    the deaths, `clusters`, `redundant`, `dormant` and `effective_rank` of its layer and of all
    layers together are NaN; its neuron does not count as constant, and `mean_correlation` leaves it
    out.

    Args:
        activations: one array `(b, ...)` per layer; see `sample_neurons`.
        threshold: the least |corr| that joins two neurons, up to rounding, in (0, 1].
        dormant: $\tau$, not negative. The paper uses 0.025 for DQN and 0.1 elsewhere.
        fraction: the share of every layer to keep; see `sample_neurons`.
        whole: the layer to keep whole; see `make_term`.
        layers: names or positions of the layers to measure; all by default.
        neurons: the meaning of a neuron, "positions", "channels" or "tokens"; see `sample_neurons`.
        axis_name: name of a mapped axis over which the batch is split. The measures are those of
            the whole batch, the same on every device.
        mask: which examples or tokens count; see `sample_neurons`.
        per_layer: whether to measure each layer too, at the cost of one tree per layer.

    Returns:
        Scalars by name, float32 or float64: `name` for all layers together, `layer/<layer>/<name>`
        for one layer.

    Raises:
        ValueError: one line that names the argument.

    Example:
        >>> hidden = jnp.array([[0.0, 1.0, 0.0, 5.0], [1.0, 0.0, 2.0, 5.0], [3.0, 1.0, 6.0, 5.0]])
        >>> found = jax.jit(measures)({"hidden": hidden, "logits": hidden[:, :1] ** 2})
        >>> [float(found[name]) for name in ("constant", "clusters", "layer/hidden/constant")]
        [0.20000000298023224, 3.0, 0.25]

    Reference:
        Dormant neurons: Sokar et al., The dormant neuron phenomenon in deep reinforcement learning,
        arXiv:2302.12902. Effective rank: Roy and Vetterli, The effective rank: a measure of
        effective dimensionality, EUSIPCO 2007.
    """
    _check(threshold, dormant)
    check_sampling(fraction, neurons)
    whole = said_whole(whole, fraction)
    every = sample_layers(activations, 1.0, None, neurons, axis_name, layers)
    kept = sample_layers(activations, fraction, whole, neurons, axis_name, layers, mask)
    sizes = tuple(layer.values.shape[1] for layer in kept.values())
    return _measures(
        points_of(list(kept.values()), axis_name),
        [layer.values for layer in every.values()],
        None if mask is None else replicated(jnp.asarray(mask)).reshape(-1),
        tuple(kept) if per_layer else None,
        sizes,
        # The same threshold as in `redundancy`, to the bit.
        float(1 - threshold + 8 * np.finfo(np.float32).eps),
        dormant,
        axis_name,
    )


def _check(threshold: float, dormant: float) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: {threshold} is not in (0, 1]")
    if not 0 <= dormant < math.inf:
        raise ValueError(f"dormant: {dormant} is not a finite number of at least 0")


@functools.partial(jax.jit, static_argnums=range(3, 8))
def _measures(
    points: Float[Array, "n b"],
    layers: list[Float[Array, "share _"]],
    counted: Bool[Array, " share"] | None,
    names: tuple[Any, ...] | None,
    sizes: tuple[int, ...],
    close: float,
    dormant: float,
    axis_name: str | None,
) -> dict[str, Float[Array, ""]]:
    points, layers = lax.stop_gradient((points, layers))
    asleep = [_dormant(layer, counted, dormant, axis_name) for layer in layers]
    widths = [layer.shape[1] for layer in layers]
    found = {"dormant": sum(asleep) / sum(widths)} | _of_cloud(points, close, axis_name)
    ends = np.cumsum([0, *sizes])
    for k, name in enumerate(names or ()):
        own = {"dormant": asleep[k] / widths[k]}
        own |= _of_cloud(points[ends[k] : ends[k + 1]], close, axis_name)
        found |= {f"layer/{name}/{measure}": value for measure, value in own.items()}
    if axis_name is None:
        return found
    # Every device has computed the same values; `pmax` tells `shard_map` so.
    same = lax.pmax(jnp.stack(list(found.values())), axis_name)
    return dict(zip(found, same, strict=True))


def _dormant(
    layer: Float[Array, "share m"],
    counted: Bool[Array, " share"] | None,
    share: float,
    axis_name: str | None,
) -> Float[Array, ""]:
    """How many neurons of a layer are dormant."""
    sizes = jnp.abs(layer.astype(jnp.promote_types(layer.dtype, jnp.float32)))
    if counted is not None:
        sizes = jnp.where(counted[:, None], sizes, 0)
    # The mean over the counted examples, up to a factor that all neurons share.
    activity = sizes.mean(0)
    if axis_name is not None:
        activity = lax.pmean(activity, axis_name)
    mean = activity.mean()
    count = (activity <= share * mean).sum().astype(mean.dtype)
    return jnp.where(jnp.isfinite(mean), count, jnp.nan)


def _of_cloud(
    points: Float[Array, "n b"], close: float, axis_name: str | None
) -> dict[str, Float[Array, ""]]:
    """All measures but `dormant`."""
    n, dtype = points.shape[0], jnp.promote_types(points.dtype, jnp.float32)
    if n == 0:
        return dict.fromkeys(_OF_CLOUD, jnp.full((), jnp.nan, dtype))
    unit = standardise(points)
    constant = is_constant(unit)
    # Unordered, as T1 and T2 request them, so that the compiler shares their tree.
    deaths = correlation_deaths(points, axis_name=axis_name, ordered=False)
    joins = jnp.where(jnp.isnan(deaths).any(), jnp.nan, (deaths <= close).sum().astype(dtype))
    dead = constant.sum().astype(dtype)
    return {
        "constant": dead / n,
        "mean_correlation": _mean_correlation(points, unit, constant),
        **_quantiles(jnp.sort(deaths)),
        "clusters": n - joins,
        "redundant": (dead + joins) / n,
        "effective_rank": _effective_rank(points, unit),
    }


def _quantiles(deaths: Float[Array, " m"]) -> dict[str, Float[Array, ""]]:
    """The named quantiles of ascending deaths; NaN without deaths."""
    last = deaths.shape[0] - 1
    if last < 0:
        return dict.fromkeys(_QUANTILES, jnp.full((), jnp.nan, deaths.dtype))
    found = {}
    for name, share in _QUANTILES.items():
        place = share * last
        low, above = deaths[math.floor(place)], deaths[math.ceil(place)]
        found[name] = low + (above - low) * (place - math.floor(place))
    return found


def _products(unit: Float[Array, "n b"]) -> Float[Array, "n n"]:
    """All correlations, by the same product as in a CPU's tree, so that the compiler shares it."""
    return jnp.matmul(unit, unit.T, precision=lax.Precision.HIGHEST)


def _mean_correlation(
    points: Float[Array, "n b"], unit: Float[Array, "n b"], constant: Bool[Array, " n"]
) -> Float[Array, ""]:
    n = unit.shape[0]
    if n * n * unit.dtype.itemsize > LARGEST_MATRIX:
        return mean_correlation(points)

    def of_products(points, unit, constant):
        products = _products(unit)
        sizes = jnp.minimum(jnp.abs(products), 1)
        sizes = jnp.where(jnp.eye(n, dtype=bool) | jnp.isnan(products), 0, sizes)
        varying = (~constant & jnp.isfinite(unit).all(1)).sum().astype(unit.dtype)
        # Sums down the columns vectorise.
        return sizes.sum(0).sum() / jnp.maximum(varying * (varying - 1), 1)

    return lax.platform_dependent(
        points, unit, constant, cpu=of_products, default=lambda points, *_: mean_correlation(points)
    )


def _effective_rank(points: Float[Array, "n b"], unit: Float[Array, "n b"]) -> Float[Array, ""]:
    n, b = points.shape
    finite = ~jnp.isnan(unit).any()
    points, unit = (jnp.where(finite, rows, 0).astype(unit.dtype) for rows in (points, unit))
    largest = jnp.abs(points).max()
    size = jnp.std(points / jnp.where(largest == 0, 1, largest), axis=1)
    size = jnp.where(size.max() == 0, size, size / size.max())
    if n <= b:
        gram = _products(unit) * size[:, None] * size[None]
    else:
        rows = unit * size[:, None]
        gram = jnp.matmul(rows.T, rows, precision=lax.Precision.HIGHEST)
    squares = jnp.linalg.eigvalsh(gram)
    least = _ROUNDING * jnp.finfo(squares.dtype).eps * squares[-1]
    values = jnp.sqrt(jnp.where(squares > least, squares, 0))
    total = values.sum()
    rank = jnp.exp(entr(values / jnp.where(total == 0, 1, total)).sum())
    return jnp.where(finite, jnp.where(total == 0, 0, rank), jnp.nan)
