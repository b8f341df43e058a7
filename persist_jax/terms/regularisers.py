"""The terms that training may add to the cross-entropy, and their registry."""

from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from persist_jax._plumbing.registry import Registry
from persist_jax.kernels import mean_correlation
from persist_jax.parameters import Rate, Share
from persist_jax.terms.living import living_deaths

Reduction = Literal["sum", "mean"]


def t1(
    deaths: Float[Array, "m"],
    *,
    reduce: Reduction = "sum",
    where: Bool[Array, "m"] | None = None,
) -> Float[Array, ""]:
    r"""The negated total persistence, $T_1 = -\sum_i d_i$, or its mean $-\frac1m \sum_i d_i$.

    Minimising it raises every death, so the most correlated neurons become less correlated. The
    paper uses the sum, which grows with the number of neurons; the mean does not. For the same
    loss, the weight of the mean is `m` times that of the sum.

    Args:
        deaths: the `m = n - 1` deaths of `n` neurons, in any order.
        reduce: "sum" or "mean".
        where: which deaths count; all by default. Deaths that do not count may be infinite.

    Returns:
        A scalar, 0 without deaths.

    Raises:
        ValueError: if `reduce` is unknown.

    Example:
        >>> float(t1(jnp.array([0.25, 0.5])))
        -0.75
        >>> deaths = jnp.array([0.25, 0.5, jnp.inf])
        >>> float(t1(deaths, reduce="mean", where=jnp.isfinite(deaths)))
        -0.375

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    if reduce not in get_args(Reduction):
        raise ValueError(f"reduce: {reduce!r} is not one of {', '.join(get_args(Reduction))}")
    if reduce == "sum":
        return -jnp.sum(deaths, where=where)
    return -_mean(deaths, where)


def t2(
    deaths: Float[Array, "m"], alpha: ArrayLike = 0.5, *, where: Bool[Array, "m"] | None = None
) -> Float[Array, ""]:
    r"""The standard deviation of the deaths minus their mean, weighted by `alpha`.

    $$ T_2 = \alpha\,\mathrm{std}(d) - (1 - \alpha)\,\mathrm{mean}(d) $$

    with the population standard deviation. Its gradient is set to 0 if all deaths are equal, where
    it has no derivative.

    Args:
        deaths: the `m = n - 1` deaths of `n` neurons, in any order.
        alpha: weight of the standard deviation, in [0, 1].
        where: which deaths count; all by default. Deaths that do not count may be infinite.

    Returns:
        A scalar, 0 without deaths.

    Raises:
        ValueError: if `alpha` is outside [0, 1]; a traced `alpha` is not checked.

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
        # The square of an infinite death would make all gradients NaN.
        deaths = jnp.where(where, deaths, mean)
    variance = _mean(jnp.square(deaths - mean), where)
    spread = jnp.where(variance > 0, variance, 1)
    deviation = jnp.where(variance > 0, jnp.sqrt(spread), variance)
    return alpha * deviation - (1 - alpha) * mean


def _mean(values: Float[Array, "m"], where: Bool[Array, "m"] | None) -> Float[Array, ""]:
    """The mean of the values that count; 0 if none counts."""
    if where is None:
        return jnp.mean(values) if values.size else jnp.zeros((), values.dtype)
    return jnp.sum(values, where=where) / jnp.maximum(jnp.sum(where), 1).astype(values.dtype)


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
    # The derivative of jnp.abs at 0 is 1, which would move weights of exactly 0.
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


def t1_living(
    points: Float[Array, "n b"],
    *,
    active: Rate = 0.2,
    reduce: Reduction = "mean",
    counted: Bool[Array, " b"] | None = None,
) -> Float[Array, ""]:
    """`t1` of the deaths of the living neurons; see `living_deaths`."""
    deaths, where = living_deaths(points, active, counted)
    return t1(deaths, reduce=reduce, where=where)


def t2_living(
    points: Float[Array, "n b"],
    *,
    active: Rate = 0.2,
    alpha: Share = 0.5,
    counted: Bool[Array, " b"] | None = None,
) -> Float[Array, ""]:
    """`t2` of the deaths of the living neurons; see `living_deaths`."""
    deaths, where = living_deaths(points, active, counted)
    return t2(deaths, alpha, where=where)


Subject = Literal["nothing", "deaths", "points", "params", "dropout"]


@dataclass(frozen=True)
class Kind:
    """The argument of a registered term.

    Attributes:
        of: the "deaths" of the sampled neurons under `1 - |corr|`; their "points" `(n, b)`; the
            trainable "params" of the network; or "nothing", if no term is added. "dropout" is not a
            term, but is compared with terms: its weight is the probability of dropping a value
            after each hidden layer in training.
        ordered: whether the term needs ascending deaths; unordered deaths are faster.
        counts: whether a term of points also takes `counted`, which examples count under a mask. To
            other terms of points, an example that does not count is one on which every neuron has
            its mean.
    """

    of: Subject = "deaths"
    ordered: bool = True
    counts: bool = False

    @property
    def adds(self) -> bool:
        """Whether there is a term to add to the loss."""
        return self.of not in ("nothing", "dropout")

    def refused(self, weight: float) -> str | None:
        """Return why a weight is invalid, or None if it is valid.

        A negative weight maximises the term. That makes sense for a term of neurons; parameters
        would grow without bound.
        """
        if self.of == "dropout" and not 0 < weight < 1:
            return "must be between 0 and 1"
        return "must not be below 0" if self.of == "params" and weight < 0 else None

    def __post_init__(self):
        if self.of not in get_args(Subject):
            raise ValueError(f"of: {self.of!r} is not one of {', '.join(get_args(Subject))}")


REGULARISERS: Registry[Kind] = Registry("regulariser", Kind)
register = REGULARISERS.register


@register("none", of="nothing")
def _none() -> Float[Array, ""]:
    return jnp.zeros(())


register("t1", ordered=False, parameters={"reduce": Reduction})(t1)
register("t2", ordered=False, parameters={"alpha": Share})(t2)
register("min_corr", of="points")(mean_correlation)
register("l1", of="params")(l1)
register("l2", of="params")(l2)
for _living, _own in ((t1_living, {"reduce": Reduction}), (t2_living, {"alpha": Share})):
    _parameters = {"active": Rate} | _own
    register(_living.__name__, of="points", counts=True, parameters=_parameters)(_living)


@register("dropout", of="dropout")
def _dropout() -> Float[Array, ""]:
    return jnp.zeros(())
