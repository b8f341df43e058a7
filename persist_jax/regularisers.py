"""The terms that a training may add to the cross-entropy, and their registry."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from persist_jax.kernels import mean_absolute_product, standardise
from persist_jax.living import living_deaths
from persist_jax.registry import Registry
from persist_jax.validation import Rate, Share

REDUCTIONS = ("sum", "mean")


def t1(
    deaths: Float[Array, "m"], *, reduce: str = "sum", where: Bool[Array, "m"] | None = None
) -> Float[Array, ""]:
    r"""The negated total persistence, $T_1 = -\sum_i d_i$, or its mean $-\frac1m \sum_i d_i$.

    Minimising it pushes every death up: the most correlated neurons become less correlated. The
    sum is the paper's and grows with the number of neurons; the mean does not, and its weight is
    `m` times the sum's for the same loss.

    Args:
        deaths: the `m = n - 1` deaths of `n` neurons, in any order.
        reduce: "sum" or "mean".
        where: which deaths count; all by default. The others may be infinite.

    Returns:
        A scalar, 0 without deaths.

    Raises:
        ValueError: if `reduce` is unknown, with the known ones.

    Example:
        >>> float(t1(jnp.array([0.25, 0.5])))
        -0.75
        >>> deaths = jnp.array([0.25, 0.5, jnp.inf])
        >>> float(t1(deaths, reduce="mean", where=jnp.isfinite(deaths)))
        -0.375

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce: {reduce!r} is not one of {', '.join(REDUCTIONS)}")
    if reduce == "sum":
        return -jnp.sum(deaths, where=where)
    return -_mean(deaths, where)


def t2(
    deaths: Float[Array, "m"], alpha: ArrayLike = 0.5, *, where: Bool[Array, "m"] | None = None
) -> Float[Array, ""]:
    r"""Spread against level of the deaths.

    $$ T_2 = \alpha\,\mathrm{std}(d) - (1 - \alpha)\,\mathrm{mean}(d) $$

    with the population standard deviation. Where all deaths are equal the standard deviation has
    no derivative; its gradient is taken as 0.

    Args:
        deaths: the `m = n - 1` deaths of `n` neurons, in any order.
        alpha: share of the standard deviation, in [0, 1].
        where: which deaths count; all by default. The others may be infinite.

    Returns:
        A scalar, 0 without deaths.

    Raises:
        ValueError: if `alpha` is outside [0, 1]; a traced one is not looked at.

    Example:
        >>> float(t2(jnp.array([0.25, 0.75])))
        -0.125

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    if not isinstance(alpha, jax.core.Tracer) and not 0 <= alpha <= 1:
        raise ValueError(f"alpha: {alpha} is not in [0, 1]")
    if deaths.size == 0:
        return jnp.zeros((), deaths.dtype)
    mean = _mean(deaths, where)
    if where is not None:
        # An infinite death, squared, would make the gradient of the others NaN.
        deaths = jnp.where(where, deaths, mean)
    variance = _mean(jnp.square(deaths - mean), where)
    spread = jnp.where(variance > 0, variance, 1)
    deviation = jnp.where(variance > 0, jnp.sqrt(spread), variance)
    return alpha * deviation - (1 - alpha) * mean


def _mean(values: Float[Array, "m"], where: Bool[Array, "m"] | None) -> Float[Array, ""]:
    """The mean of those that count, 0 where none does."""
    if where is None:
        return jnp.mean(values) if values.size else jnp.zeros((), values.dtype)
    return jnp.sum(values, where=where) / jnp.maximum(jnp.sum(where), 1).astype(values.dtype)


def mean_correlation(points: Float[Array, "n b"]) -> Float[Array, ""]:
    r"""Mean absolute correlation over all pairs of neurons that are correlated at all.

    $$ \frac{1}{|P|}\sum_{(i,j) \in P} |\mathrm{corr}(x_i, x_j)|,\qquad
       P = \lbrace (i, j) : i \ne j,\ \mathrm{corr}(x_i, x_j) \ne 0\text{ and finite}\rbrace $$

    A constant neuron has correlation 0 with every other, so it does not count; nor does one with
    an activation that is not finite. Pairs with $|\mathrm{corr}| = 1$ have zero gradient. Value and
    gradient cost two products of n x n x b and O(n b) memory.

    Args:
        points: `n` neurons as vectors of `b` activations.

    Returns:
        A scalar in [0, 1], 0 where no pair counts.

    Example:
        >>> points = jnp.array([[0.0, 1.0, 2.0], [3.0, 2.0, 1.0], [5.0, 5.0, 5.0]])
        >>> round(float(mean_correlation(points)), 5)
        1.0

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    return mean_absolute_product(standardise(points))


def l1(params: PyTree) -> Float[Array, ""]:
    r"""Sum of the absolute values of all trainable weights, $\sum |w|$.

    Args:
        params: every trainable weight: kernels, biases, batch-norm scale and offset, PReLU slopes.

    Returns:
        A scalar. Its gradient at a weight of exactly 0 is 0.

    Example:
        >>> float(l1({"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array(0.5)}))
        3.5
    """
    # The derivative of jnp.abs at 0 is 1, which would push dead weights.
    signs = jax.tree.map(lambda leaf: jax.lax.stop_gradient(jnp.sign(leaf)), params)
    return sum(jax.tree.leaves(jax.tree.map(lambda w, sign: jnp.sum(w * sign), params, signs)))


def l2(params: PyTree) -> Float[Array, ""]:
    r"""Sum of the squares of all trainable weights, $\sum w^2$.

    Args:
        params: every trainable weight: kernels, biases, batch-norm scale and offset, PReLU slopes.

    Returns:
        A scalar.

    Example:
        >>> float(l2({"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array(0.5)}))
        5.25
    """
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))


Taken = Literal["nothing", "deaths", "points", "params"]


@dataclass(frozen=True)
class Takes:
    """What a registered term is a function of.

    Attributes:
        takes: "deaths" of the sampled neurons under `1 - |corr|`, ascending; their "points"
            `(n, b)`; the trainable "params" of the network; or "nothing", of a term that is left
            out.
        ordered: whether the deaths must be ascending. A term that does not depend on their order
            is faster without.
    """

    takes: str = "deaths"
    ordered: bool = True

    def __post_init__(self):
        if self.takes not in get_args(Taken):
            raise ValueError(f"takes: {self.takes!r} is not one of {', '.join(get_args(Taken))}")


class Regulariser(NamedTuple):
    """A term of the loss with its parameters filled in."""

    takes: Taken
    term: Callable[[Any], Array]
    ordered: bool = True


REGULARISERS: Registry[Takes] = Registry("regulariser", Takes)
register = REGULARISERS.register


@register("none", takes="nothing")
def _none(nothing):
    return jnp.zeros(())


Reduction = Literal[REDUCTIONS]


@register("t1", ordered=False)
def _t1(deaths, *, reduce: Reduction = "sum"):
    return t1(deaths, reduce=reduce)


@register("t2", ordered=False)
def _t2(deaths, *, alpha: Share = 0.5):
    return t2(deaths, alpha)


@register("min_corr", takes="points")
def _min_corr(points):
    return mean_correlation(points)


@register("l1", takes="params")
def _l1(params):
    return l1(params)


@register("l2", takes="params")
def _l2(params):
    return l2(params)


@register("t1_living", takes="points")
def _t1_living(points, *, active: Rate = 0.2, reduce: Reduction = "mean"):
    deaths, where = living_deaths(points, active)
    return t1(deaths, reduce=reduce, where=where)


@register("t2_living", takes="points")
def _t2_living(points, *, active: Rate = 0.2, alpha: Share = 0.5):
    deaths, where = living_deaths(points, active)
    return t2(deaths, alpha, where=where)


def regulariser(name: str, parameters: Mapping[str, Any] | None = None) -> Regulariser | None:
    """The regulariser of that name, `None` for `"none"`.

    Args:
        name: a registered name.
        parameters: its own parameters by name; defaults for those left out.

    Returns:
        What the term takes, and the term as a function of that alone.

    Raises:
        ValueError: if the name is unknown, with the known ones, or a parameter is wrong.

    Example:
        >>> regulariser("t2", {"alpha": 0.3}).takes
        'deaths'
    """
    entry = REGULARISERS[name]
    bound = entry.parameters(parameters or {}, f"terms.{name}")
    if entry.properties.takes == "nothing":
        return None
    term = functools.partial(entry.function, **bound)
    return Regulariser(entry.properties.takes, term, entry.properties.ordered)
