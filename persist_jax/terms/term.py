"""From a network's activations to a term of the loss, with all choices fixed in advance."""

import functools
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from persist_jax.kernels import Distance, Geometry, cloud_deaths
from persist_jax.terms.activations import Layer, listed
from persist_jax.terms.regularisers import REGULARISERS, Subject
from persist_jax.terms.sampling import (
    Neurons,
    check_sampling,
    points_of,
    said_whole,
    sample_layers,
)

Over = Literal["neurons", "samples"]


@dataclass(frozen=True)
class Term:
    """A function from activations to a scalar, made by `make_term`; training uses the same class.

    Terms are hashable, and equal if they were made with the same arguments.

    Attributes:
        name: the name of the registered term.
        parameters: the registered term's own parameters, by name.
        fraction: the share of every layer that is kept.
        whole: the layer that is kept whole.
        layers: the layers of the cloud; `None` for all.
        layer_weights: a weight for each layer, if every layer is a cloud of its own.
        neurons: the meaning of a neuron: "positions", "channels" or "tokens".
        over: the points of the cloud: "neurons" or "samples".
        distance: the distance between two points.
        signed: whether opposite points are the farthest apart.
        axis_name: the mapped axis over which the batch is split.

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
    over: Over = "neurons"
    distance: Distance = "correlation"
    signed: bool = False
    axis_name: str | None = None

    @property
    def of(self) -> Subject:
        """The argument of the term; see `persist_jax.terms.regularisers.Kind`."""
        return REGULARISERS[self.name].properties.of

    @property
    def adds(self) -> bool:
        """Whether the term is added to a loss; see `Kind.adds`."""
        return REGULARISERS[self.name].properties.adds

    def __call__(
        self, activations: PyTree, params: PyTree = None, *, mask: ArrayLike | None = None
    ) -> Float[Array, ""]:
        """The value of the term for the activations or, if it is a term of parameters, `params`.

        Args:
            activations: see `make_term`.
            params: the network's parameters, for a term of parameters.
            mask: which examples or tokens count; see `sample_neurons`.
        """
        function = functools.partial(REGULARISERS[self.name].function, **dict(self.parameters))
        if not self.adds:
            return function()

        def value(subject):
            number = function(subject)
            if jnp.shape(number):
                raise ValueError(f"{self.name}: gives shape {jnp.shape(number)}, not one number")
            return number

        if self.of == "params":
            if params is None:
                raise ValueError(
                    f"params: missing; {self.name} is a term of the network's parameters and not "
                    "of its activations: term(activations, params)"
                )
            return value(params)
        layers = self._sampled(activations, mask)
        if mask is not None and REGULARISERS[self.name].properties.counts:
            counted = next(iter(layers.values())).counted
            if self.axis_name is not None:
                counted = jax.lax.all_gather(counted, self.axis_name, tiled=True)
            function = functools.partial(function, counted=counted)
        if self.layer_weights is None:
            return value(self._subject(list(layers.values())))
        if len(layers) != len(self.layer_weights):
            raise ValueError(
                f"layer_weights: {len(self.layer_weights)} weights, but the layers are "
                f"{', '.join(map(str, layers))}"
            )
        values = (value(self._subject([layer])) for layer in layers.values())
        return sum(w * value for w, value in zip(self.layer_weights, values, strict=True))

    def points(
        self, activations: PyTree, *, mask: ArrayLike | None = None
    ) -> Float[Array, "n b"]:
        """The term's point cloud: the sampled neurons of all its layers, or the examples."""
        return self._cloud(list(self._sampled(activations, mask).values()))

    def deaths(
        self, activations: PyTree, *, mask: ArrayLike | None = None
    ) -> Float[Array, " edges"]:
        """The deaths of the term's point cloud, ascending."""
        return self._deaths(self.points(activations, mask=mask), ordered=True)

    def _sampled(self, activations, mask):
        if mask is not None and self.over == "samples":
            raise ValueError(
                "mask: given, but with over='samples' an example that does not count would be a "
                "point of the cloud; leave it out of the activations"
            )
        return sample_layers(
            activations, self.fraction, self.whole, self.neurons, self.axis_name, self.layers, mask
        )

    def _cloud(self, layers):
        points = points_of(layers, self.axis_name)
        return points.T if self.over == "samples" else points

    def _subject(self, layers):
        """The argument of the registered term: the points of these layers, or their deaths."""
        points = self._cloud(layers)
        if points.shape[1] == 1 and self.distance in ("correlation", "pearson"):
            column, row, all_ = ("example", "neuron", "batch")
            if self.over == "samples":
                column, row, all_ = ("neuron", "example", "layer")
            raise ValueError(
                f"activations: {self.name} of one {column}, on which every {row} is constant; "
                f"a term needs the activations of a whole {all_}"
            )
        if self.of == "points":
            return points
        return self._deaths(points, REGULARISERS[self.name].properties.ordered)

    def _deaths(self, points, ordered):
        return cloud_deaths(
            points,
            distance=self.distance,
            signed=self.signed,
            axis_name=self.axis_name,
            ordered=ordered,
        )


def make_term(
    name: str = "t1",
    *,
    fraction: float = 1.0,
    whole: Layer | EllipsisType | None = ...,
    layers: Layer | Sequence[Layer] | None = None,
    layer_weights: Mapping[str, float | int] | Sequence[float | int] | None = None,
    neurons: Neurons = "positions",
    over: Over = "neurons",
    distance: Distance = "correlation",
    signed: bool | None = None,
    axis_name: str | None = None,
    **parameters: Any,
) -> Term:
    r"""Make a function of activations to add to the loss: `loss + weight * term(activations)`.

    All chosen layers form one cloud, so its deaths also reflect copies between layers. With
    `layer_weights` every layer forms a cloud of its own, $\sum_l w_l\,T(\text{layer } l)$. Wrong
    arguments raise here, not in the first step.

    Args:
        name: a registered term: "t1", "t2", "min_corr", "t1_living", "t2_living", one of your own;
            "l1" or "l2", which are called as `term(activations, params)`; or "none", which is 0.
        fraction: the share of every layer to keep; see `sample_neurons`.
        whole: the layer to keep whole, by name or by position among all layers given. Required
            if `fraction` is below 1. The paper keeps the last layer, -1, which is the output of the
            network. `None` samples every layer.
        layers: the name or position of one layer of the cloud, or a list of them; all by default.
            All other layers may hold anything.
        layer_weights: a mapping from layers to weights, which also chooses the layers; or weights
            in the order of the layers.
        neurons: the meaning of a neuron, "positions", "channels" or "tokens"; see `sample_neurons`.
        over: the points of the cloud: "neurons", each with its activations on the batch, or
            "samples", each example with its activations in the layer. `t1` over samples spreads
            embeddings out; for n examples its mean is the term of T-REGS up to a factor
            $(n - 1) / n$.
        distance: "correlation", "cosine", "pearson" or "euclidean"; see `cloud_deaths`.
        signed: whether opposite points are the farthest apart instead of equal. True by default for
            samples under "correlation" or "cosine", otherwise false.
        axis_name: name of a mapped axis over which the batch is split. Every device then computes
            the term of the whole batch. Average the gradient of the loss over the axis with
            `jax.lax.pmean`.
        **parameters: the term's own parameters, such as `alpha`. `reduce` defaults to "mean", whose
            scale does not depend on the number of neurons; the paper uses "sum".

    Returns:
        `term(activations) -> scalar`, differentiable, for use under `jit`, `vmap` and `grad`. The
        activations are a sequence or a mapping of arrays `(b, ...)`, or a collection sown by a Flax
        module (`activations_of`).

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
        Ballester et al., Decorrelating neurons using persistence, arXiv:2308.04870; over samples:
        Mordacq et al., T-REGS, arXiv:2510.23484.
    """
    entry = REGULARISERS[name]
    check_sampling(fraction, neurons)
    whole = said_whole(whole, fraction)
    if over not in get_args(Over):
        raise ValueError(f"over: {over!r} is not one of {', '.join(get_args(Over))}")
    of_deaths = entry.properties.of == "deaths"
    if entry.properties.of in ("points", "params") and (signed or distance != "correlation"):
        wrong = "signed: True" if signed else f"distance: {distance!r}"
        raise ValueError(f"{wrong}, but {name} is no term of the deaths")
    if signed is None:
        signed = of_deaths and over == "samples" and distance in ("correlation", "cosine")
    Geometry(distance, signed)
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
        name, bound, fraction, whole, chosen, weights, neurons, over, distance, signed, axis_name
    )


def _weighted(
    layers: Any, weights: Any
) -> tuple[tuple[Layer, ...] | None, tuple[float, ...] | None]:
    """The chosen layers and their weights; `None` for all layers and for no weights."""
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
        if not isinstance(weight, numbers.Real) or not math.isfinite(weight):
            raise ValueError(
                f"layer_weights: {weight!r} is not a finite number of Python or NumPy; for "
                "learnable weights, add a term for each layer"
            )
    if chosen is not None and len(weights) != len(chosen):
        raise ValueError(f"layer_weights: {len(weights)} weights for {len(chosen)} layers")
    return chosen, tuple(map(float, weights))
