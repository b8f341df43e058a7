"""From a network's activations to one number of the loss, with every choice made beforehand."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Literal, get_args

import jax
from jaxtyping import Array, Float, PyTree

from persist_jax.kernels import (
    correlation_deaths,
    euclidean_distance,
    pearson_distance,
    zeroth_deaths,
)
from persist_jax.terms.activations import Layer, listed
from persist_jax.terms.regularisers import REGULARISERS, Subject
from persist_jax.terms.sampling import (
    Neurons,
    check_sampling,
    points_of,
    said_whole,
    sample_layers,
)

Distance = Literal["correlation", "pearson", "euclidean"]

_MATRICES: dict[str, Callable[[Array], Array]] = {
    "pearson": pearson_distance,
    "euclidean": euclidean_distance,
}


@dataclass(frozen=True)
class Term:
    """A function from activations to a scalar, made by `make_term`; a training has one too.

    It is hashable, and equal to another one that was made with the same choices.

    Attributes:
        name: of the registered term.
        parameters: its own, by name.
        fraction: the kept share of every layer.
        whole: the layer that is kept whole.
        layers: which enter; all where it is `None`.
        layer_weights: a factor for each of them, where each is a cloud of its own.
        neurons: what a neuron is.
        distance: between neurons.
        axis_name: of the mapped axis over which the batch is shared out.

    Example:
        >>> import jax.numpy as jnp
        >>> term = make_term("t1", fraction=0.5, whole=-1)
        >>> term.points([jnp.ones((8, 6)), jnp.ones((8, 2))]).shape
        (5, 8)
    """

    name: str
    parameters: tuple[tuple[str, Any], ...] = ()
    fraction: float = 1.0
    whole: Layer | None = -1
    layers: tuple[Layer, ...] | None = None
    layer_weights: tuple[float, ...] | None = None
    neurons: Neurons = "positions"
    distance: Distance = "correlation"
    axis_name: str | None = None

    @property
    def of(self) -> Subject:
        """What it is a function of: "nothing", the "deaths", the "points", or the "params"."""
        return REGULARISERS[self.name].properties.of

    def __call__(self, activations: PyTree, params: PyTree = None) -> Float[Array, ""]:
        """The term of these activations, or, for a term of parameters, of `params`."""
        value = functools.partial(REGULARISERS[self.name].function, **dict(self.parameters))
        if self.of == "nothing":
            return value()
        if self.of == "params":
            if params is None:
                raise ValueError(
                    f"params: missing; {self.name} is a term of the network's parameters and not "
                    "of its activations: term(activations, params)"
                )
            return value(params)
        layers = self._sampled(activations)
        if self.layer_weights is None:
            return value(self._subject(list(layers.values())))
        if len(layers) != len(self.layer_weights):
            raise ValueError(
                f"layer_weights: {len(self.layer_weights)} weights, but the layers are "
                f"{', '.join(map(str, layers))}"
            )
        values = (value(self._subject([layer])) for layer in layers.values())
        return sum(w * value for w, value in zip(self.layer_weights, values, strict=True))

    def points(self, activations: PyTree) -> Float[Array, "n b"]:
        """The cloud that the term sees: the sampled neurons of all its layers."""
        return points_of(list(self._sampled(activations).values()), self.axis_name)

    def deaths(self, activations: PyTree) -> Float[Array, " edges"]:
        """The deaths of this cloud, ascending."""
        return self._deaths(self.points(activations), ordered=True)

    def _sampled(self, activations):
        return sample_layers(
            activations, self.fraction, self.whole, self.neurons, self.axis_name, self.layers
        )

    def _subject(self, layers):
        """What the registered term is a function of: the points of these layers or their deaths."""
        points = points_of(layers, self.axis_name)
        if points.shape[1] == 1 and self.distance != "euclidean":
            raise ValueError(
                f"activations: {self.name} of one example, on which every neuron is constant; "
                "a term needs the activations of a whole batch"
            )
        if self.of == "points":
            return points
        return self._deaths(points, REGULARISERS[self.name].properties.ordered)

    def _deaths(self, points, ordered):
        if self.distance == "correlation":
            return correlation_deaths(points, axis_name=self.axis_name, ordered=ordered)
        return zeroth_deaths(_MATRICES[self.distance](points))


def make_term(
    name: str = "t1",
    *,
    fraction: float = 1.0,
    whole: Layer | EllipsisType | None = ...,
    layers: Layer | Sequence[Layer] | None = None,
    layer_weights: Mapping[str, float | int] | Sequence[float | int] | None = None,
    neurons: Neurons = "positions",
    distance: Distance = "correlation",
    axis_name: str | None = None,
    **parameters: Any,
) -> Term:
    r"""A term of the loss as a function of activations: `loss + weight * term(activations)`.

    All chosen layers are one cloud, whose deaths also see what is redundant between layers. With
    `layer_weights` every layer is a cloud of its own, $\sum_l w_l\,T(\text{layer } l)$. What is
    chosen here is checked here, not in the first step.

    Args:
        name: a registered term: "t1", "t2", "min_corr", "t1_living", "t2_living", one of your own;
            "l1" or "l2", which are called as `term(activations, params)`; or "none", which is 0.
        fraction: the kept share of every layer; see `sample_neurons`.
        whole: which layer is kept whole all the same, by name or by position among all layers
            given. It has to be said where `fraction` is below 1: -1, the last one, is the paper's
            choice, whose last layer is the output of the network; `None` samples all alike.
        layers: of the layers that enter, the name or position of one or a list of them; all by
            default. The others may be anything.
        layer_weights: by layer, which also chooses them; or in the order of the layers.
        neurons: what a neuron is, "positions" or "channels"; see `sample_neurons`.
        distance: "correlation" for $1 - |c|$, "pearson" for $\sqrt{1 - c^2}$, or "euclidean"; the
            last two form the `n x n` matrix.
        axis_name: name of a mapped axis over which the batch is shared out. The term is then that
            of the whole batch on every device, and the gradient of the loss is averaged over the
            axis, as `jax.lax.pmean` does.
        **parameters: the term's own, as `alpha`; `reduce` is "mean" if not given, whose scale does
            not depend on the number of neurons, and "sum" in the paper.

    Returns:
        `term(activations) -> scalar`, differentiable, for use under `jit`, `vmap` and `grad`. The
        activations are a sequence or a mapping of arrays `(b, ...)`, or what a Flax module sowed
        (`activations_of`).

    Raises:
        ValueError: one line that names the argument, its value and the choices.

    Example:
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
    check_sampling(fraction, neurons)
    whole = said_whole(whole, fraction)
    if distance not in get_args(Distance):
        raise ValueError(f"distance: {distance!r} is not one of {', '.join(get_args(Distance))}")
    if entry.properties.of in ("points", "params") and distance != "correlation":
        raise ValueError(f"distance: {distance!r}, but {name} is no term of the deaths")
    chosen, weights = _weighted(layers, layer_weights)
    if "reduce" in entry.defaults():
        parameters = {"reduce": "mean", **parameters}
    for parameter, value in parameters.items():
        if isinstance(value, jax.core.Tracer):
            raise ValueError(
                f"{name}.{parameter}: a traced value, but a term's parameters are fixed when it is "
                "made; call the function itself, as pj.t2(deaths, alpha)"
            )
    bound = tuple(entry.parameters(parameters, name).items())
    return Term(
        name, bound, fraction, whole, chosen, weights, neurons, distance, axis_name
    )


def _weighted(
    layers: Any, weights: Any
) -> tuple[tuple[Layer, ...] | None, tuple[float, ...] | None]:
    """The chosen layers and a weight for each, if there are any."""
    if isinstance(weights, Mapping):
        if layers is not None:
            raise ValueError("layer_weights: names its layers, so leave out `layers`")
        layers, weights = list(weights), list(weights.values())
    chosen = None if layers is None else listed(layers)
    if chosen is not None and len(set(chosen)) < len(chosen):
        raise ValueError(f"layers: {layers!r} has a layer more than once")
    if weights is None:
        return chosen, None
    if isinstance(weights, str) or not isinstance(weights, Sequence):
        raise ValueError(f"layer_weights: {weights!r} is not a list or a mapping of numbers")
    for weight in weights:
        if not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ValueError(f"layer_weights: {weight!r} is not a finite number")
    if chosen is not None and len(weights) != len(chosen):
        raise ValueError(f"layer_weights: {len(weights)} weights for {len(chosen)} layers")
    return chosen, tuple(map(float, weights))
