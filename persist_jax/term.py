"""From a network's activations to one number of the loss, with every choice made beforehand."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from persist_jax.activations import as_layers, choose_layers
from persist_jax.kernels import (
    correlation_deaths,
    euclidean_distance,
    pearson_distance,
    zeroth_deaths,
)
from persist_jax.regularisers import REGULARISERS, Regulariser, regulariser
from persist_jax.sampling import check_sampling, points_of, sample_layers

_MATRICES: dict[str, Callable[[Array], Array]] = {
    "pearson": pearson_distance,
    "euclidean": euclidean_distance,
}
DISTANCES = ("correlation", *_MATRICES)


@dataclass(frozen=True)
class Term:
    """A function from activations to a scalar; made by `make_term`.

    It is hashable, and equal to another one that was made with the same choices.
    """

    name: str
    fraction: float
    layers: tuple[Any, ...] | None
    layer_weights: tuple[float, ...] | None
    neurons: str
    distance: str
    axis_name: str | None
    parameters: tuple[tuple[str, Any], ...]

    def __call__(self, activations: PyTree) -> Float[Array, ""]:
        """The term of these activations; see `make_term`."""
        names = list(as_layers(activations))
        chosen, weights = choose_layers(names, self.layers), self.layer_weights
        if weights is not None and len(weights) != len(chosen):
            raise ValueError(
                f"layer_weights: {len(weights)} weights, but the layers are "
                f"{', '.join(str(names[k]) for k in chosen)}"
            )
        term = regulariser(self.name, dict(self.parameters))
        if term is None:
            return jnp.zeros(())
        sampled = sample_layers(
            activations, self.fraction, neurons=self.neurons, axis_name=self.axis_name
        )
        layers = [sampled[k] for k in chosen]
        if weights is None:
            return self._of_points(term, points_of(layers, self.axis_name))
        values = [self._of_points(term, points_of([layer], self.axis_name)) for layer in layers]
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    def _of_points(self, term: Regulariser, points: Float[Array, "n b"]) -> Float[Array, ""]:
        if term.takes == "points":
            return term.term(points)
        if self.distance == "correlation":
            deaths = correlation_deaths(
                points, axis_name=self.axis_name, ordered=term.ordered
            )
            return term.term(deaths)
        return term.term(zeroth_deaths(_MATRICES[self.distance](points)))


def make_term(
    name: str = "t1",
    *,
    fraction: float = 1.0,
    layers: Any = None,
    layer_weights: Any = None,
    neurons: str = "positions",
    distance: str = "correlation",
    axis_name: str | None = None,
    **parameters: Any,
) -> Term:
    r"""A term of the loss as a function of activations: `loss + weight * term(activations)`.

    All chosen layers are one cloud, whose deaths also see what is redundant between layers. With
    `layer_weights` every layer is a cloud of its own, $\sum_l w_l\,T(\text{layer } l)$. What is
    chosen here is checked here, not in the first step.

    Args:
        name: a registered term: "t1", "t2", "min_corr", "t1_living", "t2_living", one of your own,
            or "none", which is 0.
        fraction: the kept share of every layer but the network's last; see `sample_neurons`.
        layers: names, or positions where the activations are a list, of the layers that enter; all
            by default.
        layer_weights: by layer, which also chooses them; or in the order of the layers.
        neurons: what a neuron is, "positions" or "channels"; see `sample_neurons`.
        distance: "correlation" for $1 - |c|$, "pearson" for $\sqrt{1 - c^2}$, or "euclidean"; the
            last two form the `n x n` matrix.
        axis_name: name of a mapped axis over which the batch is shared out. The term is then that
            of the whole batch on every device, and the gradient of the loss is averaged over the
            axis, as `jax.lax.pmean` does.
        **parameters: the term's own, as `alpha` or `reduce`.

    Returns:
        `term(activations) -> scalar`, differentiable, for use under `jit`, `vmap` and `grad`. The
        activations are a sequence or a mapping of arrays `(b, ...)`, or what a Flax module sowed
        (`activations_of`).

    Raises:
        ValueError: one line that names the argument, its value and the choices.

    Example:
        >>> import jax
        >>> term = make_term("t2", alpha=0.3, layers=["h1", "h2"])
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> names = "h1", "h2", "logits"
        >>> layers = {k: jax.random.normal(key, (64, 9)) for k, key in zip(names, keys)}
        >>> term(layers).shape
        ()
        >>> make_term("t2", alpha=2.0)
        Traceback (most recent call last):
        ValueError: t2.alpha: 2.0 must be at most 1

    Reference:
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870.
    """
    entry = REGULARISERS[name]
    takes = entry.properties.takes
    if takes == "params":
        call = f"pj.{name}(params)" if name in ("l1", "l2") else f"{name}(params)"
        raise ValueError(f"{name}: a term of the weights and not of the activations; {call}")
    check_sampling(fraction, neurons)
    if distance not in DISTANCES:
        raise ValueError(f"distance: {distance!r} is not one of {', '.join(DISTANCES)}")
    if takes == "points" and distance != "correlation":
        raise ValueError(f"distance: {distance!r}, but {name} has correlations in its definition")
    chosen, weights = _weighted(layers, layer_weights)
    bound = entry.parameters(parameters, name)
    return Term(
        name, fraction, chosen, weights, neurons, distance, axis_name, tuple(bound.items())
    )


def _weighted(layers: Any, weights: Any) -> tuple[tuple[Any, ...] | None, tuple[float, ...] | None]:
    """The chosen layers and a weight for each, if there are any."""
    if isinstance(weights, Mapping):
        if layers is not None:
            raise ValueError("layer_weights: names its layers, so leave out `layers`")
        layers, weights = list(weights), list(weights.values())
    if layers is not None:
        if isinstance(layers, str) or not isinstance(layers, Sequence):
            raise ValueError(f"layers: {layers!r} is not a list of layers")
        choose_layers(list(layers), layers)
    if weights is None:
        return None if layers is None else tuple(layers), None
    if isinstance(weights, str) or not isinstance(weights, Sequence):
        raise ValueError(f"layer_weights: {weights!r} is not a list or a mapping of numbers")
    for weight in weights:
        if not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ValueError(f"layer_weights: {weight!r} is not a finite number")
    if layers is not None and len(weights) != len(layers):
        raise ValueError(f"layer_weights: {len(weights)} weights for {len(layers)} layers")
    return None if layers is None else tuple(layers), tuple(map(float, weights))
