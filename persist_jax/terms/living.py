"""Deaths of the living neurons alone, for terms that do not fall when neurons die."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from persist_jax.kernels import correlation_deaths, standardise
from persist_jax.kernels.distances import is_constant


def constant_neurons(points: Float[Array, "n b"]) -> Bool[Array, " n"]:
    """Which neurons have one value on the whole batch, and so correlation 0 with every other.

    Args:
        points: one row per neuron, its activations over a batch of `b` examples.

    Returns:
        A boolean per neuron; false for a neuron with a NaN or infinite activation.

    Raises:
        ValueError: if `points` does not have two non-empty axes.

    Example:
        >>> constant_neurons(jnp.array([[0.0, 2.0], [5.0, 5.0]])).tolist()
        [False, True]
    """
    return is_constant(standardise(points))


def living_neurons(
    points: Float[Array, "n b"], active: float = 0.2, counted: Bool[Array, " b"] | None = None
) -> Bool[Array, " n"]:
    r"""Which neurons are active on enough of the batch.

    A neuron is active on an example if its activation differs from its own least activation; for
    ReLU, if it is not 0. A neuron lives if it is active on at least the share `active` of the
    examples; a constant neuron never lives. A neuron with a NaN or infinite activation counts as
    living, so that a term shows the NaN.

    Args:
        points: one row per neuron, its activations over a batch of `b` examples.
        active: the least share of the batch, in [0, 1]. At 0 all but the constant neurons live;
            at 1 none lives.
        counted: which examples count, all by default. On the others, no activation may be below
            the neuron's least one, as is true of the means that `sample_neurons` fills in.

    Returns:
        A boolean per neuron, without gradient.

    Raises:
        ValueError: if `active` is outside [0, 1].

    Example:
        >>> points = jnp.array([[0.0, 0.0, 0.0, 2.0], [0.0, 1.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
        >>> living_neurons(points, 0.5).tolist()
        [False, True, False]
    """
    if not 0 <= active <= 1:
        raise ValueError(f"active: {active} is not in [0, 1]")
    points = jax.lax.stop_gradient(points)
    on = points != points.min(1, keepdims=True)
    # The binary product may come to just above a whole number: 0.07 * 100 is 7.000000000000001.
    if counted is None:
        least = max(math.ceil(round(active * points.shape[1], 9)), 1)
    else:
        on &= counted[None]
        least = jnp.maximum(jnp.ceil(jnp.round(active * counted.sum(), 3)), 1)
    count = on.sum(1)
    return (count >= least) | ~jnp.isfinite(points).all(1)


def living_deaths(
    points: Float[Array, "n b"], active: float = 0.2, counted: Bool[Array, " b"] | None = None
) -> tuple[Float[Array, "n-1"], Bool[Array, " n-1"]]:
    r"""The deaths of the `k` living neurons among `n`, ascending, then `inf`.

    All other neurons are masked out of the cloud.

    Args:
        points: one row per neuron, its activations over a batch of `b` examples.
        active: the least share of the batch on which a living neuron is active; see
            `living_neurons`.
        counted: which examples count; see `living_neurons`.

    Returns:
        The `n - 1` deaths, and a mask of the first `k - 1`, to pass as `where` to `t1` and `t2`.

    Raises:
        ValueError: if `active` is outside [0, 1], or `points` does not have two axes.

    Example:
        >>> points = jnp.array([[0.0, 0.0, 1.0, 1.0], [9.0, 0, 0, 0], [0.0, 0.0, 2.0, 2.0]])
        >>> deaths, where = living_deaths(points, 0.5)
        >>> deaths.tolist(), where.tolist()
        ([0.0, inf], [True, False])
    """
    living = living_neurons(points, active, counted)
    deaths = correlation_deaths(points, mask=living)
    return deaths, jnp.arange(deaths.shape[0]) < living.sum() - 1
