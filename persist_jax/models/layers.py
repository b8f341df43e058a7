"""The layer kinds of a network, with the numerics of Keras.

A layer is a frozen, hashable specification. Called inside a Flax module, it applies itself under a
given name. Unspecified choices are Keras' defaults (glorot-uniform kernels, zero biases,
`strides = pool_size`, ...).
"""

import dataclasses
import math
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from persist_jax.models.activations import ACTIVATIONS
from persist_jax.models.convolution import convolution

Pair = tuple[int, int]


class Mode(NamedTuple):
    """How a network runs: training or inference, and over which mapped axis its batch is split."""

    train: bool
    axis_name: str | None


class Layer:
    """Base of all layers; `counted` layers have trainable weights and give a point cloud."""

    counted: ClassVar[bool] = False
    training_differs: ClassVar[bool] = False

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        raise NotImplementedError


def _image(layer: Layer, x: Array) -> Array:
    if x.ndim != 4:
        kind = type(layer).__name__
        raise ValueError(f"{kind} takes inputs (b, h, w, c), got shape {x.shape}")
    return x


def _not_empty(layer: Layer, before: Array, after: Array) -> Array:
    if 0 in after.shape[1:]:
        kind = type(layer).__name__
        raise ValueError(f"{kind} leaves nothing of an input of shape {before.shape[1:]}")
    return after


@dataclasses.dataclass(frozen=True)
class Conv2D(Layer):
    """Convolution over images, channels last: `activation(x * kernel + bias)`."""

    filters: int
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: str = "valid"
    dilation_rate: Pair = (1, 1)
    groups: int = 1
    activation: str = "linear"
    use_bias: bool = True
    counted: ClassVar[bool] = True

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        if x.shape[-1] % self.groups or self.filters % self.groups:
            raise ValueError(
                f"Conv2D: groups = {self.groups} does not divide both "
                f"{x.shape[-1]} channels and {self.filters} filters"
            )
        y = nn.Conv(
            self.filters,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding.upper(),
            kernel_dilation=self.dilation_rate,
            feature_group_count=self.groups,
            use_bias=self.use_bias,
            kernel_init=nn.initializers.glorot_uniform(),
            conv_general_dilated=convolution,
            name=name,
        )(_image(self, x))
        return ACTIVATIONS[self.activation](_not_empty(self, x, y))


@dataclasses.dataclass(frozen=True)
class Dense(Layer):
    """Affine map of the last axis: `activation(x @ kernel + bias)`."""

    units: int
    activation: str = "linear"
    use_bias: bool = True
    counted: ClassVar[bool] = True

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        y = nn.Dense(
            self.units,
            use_bias=self.use_bias,
            kernel_init=nn.initializers.glorot_uniform(),
            name=name,
        )(x)
        return ACTIVATIONS[self.activation](y)


class _BatchNorm(nn.Module):
    spec: "BatchNormalization"
    mode: Mode

    @nn.compact
    def __call__(self, x: Array) -> Array:
        wide, c = (1,) * (x.ndim - 1) + (-1,), x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, c, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, c, jnp.float32)
        if self.mode.train:
            batch_mean, batch_var, count = self._statistics(x)
            # Keras' fused kernel, used for images only, records the unbiased variance.
            recorded = batch_var * (count / max(count - 1, 1)) if x.ndim == 4 else batch_var
            if not self.is_initializing():
                step = 1.0 - self.spec.momentum
                mean.value = mean.value + step * (batch_mean - mean.value)
                var.value = var.value + step * (recorded - var.value)
        else:
            batch_mean, batch_var = mean.value, var.value
        factor = jax.lax.rsqrt(batch_var + self.spec.epsilon)
        dtype = x.dtype
        if self.spec.scale:
            scale = self.param("scale", nn.initializers.ones, c, jnp.float32)
            factor, dtype = factor * scale, jnp.promote_types(dtype, scale.dtype)
        y = (x - batch_mean.reshape(wide)) * factor.reshape(wide)
        if self.spec.center:
            bias = self.param("bias", nn.initializers.zeros, c, jnp.float32)
            y, dtype = y + bias.reshape(wide), jnp.promote_types(dtype, bias.dtype)
        # Statistics are in float32 at least; the output has the type of inputs and parameters.
        return y.astype(dtype)

    def _statistics(self, x: Array) -> tuple[Array, Array, int]:
        axes, count = tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = x.mean(axes)
        axis_name = None if self.is_initializing() else self.mode.axis_name
        if axis_name is not None:
            mean = jax.lax.pmean(mean, axis_name)
            count = count * jax.lax.axis_size(axis_name)
        var = jnp.square(x - mean.reshape((1,) * len(axes) + (-1,))).mean(axes)
        return mean, var if axis_name is None else jax.lax.pmean(var, axis_name), count


@dataclasses.dataclass(frozen=True)
class BatchNormalization(Layer):
    """Batch normalisation of the last axis: `scale * (x - mean) / sqrt(var + epsilon) + bias`."""

    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    training_differs: ClassVar[bool] = True

    @property
    def counted(self) -> bool:
        return self.center or self.scale

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        return _BatchNorm(self, mode, name=name)(x)


class _PReLU(nn.Module):
    shared_axes: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = tuple(
            1 if axis in self.shared_axes else size for axis, size in enumerate(x.shape) if axis
        )
        alpha = self.param("alpha", nn.initializers.zeros, shape, jnp.float32)
        return jax.nn.relu(x) - alpha[None] * jax.nn.relu(-x)


@dataclasses.dataclass(frozen=True)
class PReLU(Layer):
    """Rectifier with learnt slopes: `max(x, 0) - alpha * max(-x, 0)`."""

    shared_axes: tuple[int, ...] = ()
    counted: ClassVar[bool] = True

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        wrong = [axis for axis in self.shared_axes if not 1 <= axis < x.ndim]
        if wrong:
            raise ValueError(f"PReLU: shared_axes {wrong} are not axes 1 to {x.ndim - 1}")
        return _PReLU(self.shared_axes, name=name)(x)


class Dropped(nn.Module):
    """Inverted dropout; the rate may be traced."""

    rate: float | Array
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        # One draw per example, keyed by its position in the whole batch: devices that share a batch
        # draw exactly the mask that one device would draw for the whole batch.
        b = x.shape[0]
        first = 0 if self.axis_name is None else b * jax.lax.axis_index(self.axis_name)
        key = self.make_rng("dropout")

        def keep(position: Array) -> Array:
            example = jax.random.fold_in(key, position)
            share = jnp.float32(1.0 - self.rate)  # its type decides which numbers are drawn
            return jax.random.bernoulli(example, share, x.shape[1:])

        mask = jax.vmap(keep)(first + jnp.arange(b))
        return jnp.where(mask, x / (1.0 - self.rate), 0.0)


@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """Inverted dropout: zero with probability `rate`, else `x / (1 - rate)`; in training only."""

    rate: float
    training_differs: ClassVar[bool] = True

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        if not mode.train or self.rate == 0.0:
            return x
        return Dropped(self.rate, mode.axis_name, name=name)(x)


@dataclasses.dataclass(frozen=True)
class Flatten(Layer):
    """Flatten all axes but the first in row-major order: `(b, ...) -> (b, m)`."""

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b m"]:
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


@dataclasses.dataclass(frozen=True)
class MaxPooling2D(Layer):
    """Largest value of each window."""

    pool_size: Pair = (2, 2)
    strides: Pair | None = None
    padding: str = "valid"

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        strides = self.strides or self.pool_size
        y = nn.max_pool(_image(self, x), self.pool_size, strides, self.padding.upper())
        return _not_empty(self, x, y)


@dataclasses.dataclass(frozen=True)
class AveragePooling2D(Layer):
    """Mean of each window, without the padding."""

    pool_size: Pair = (2, 2)
    strides: Pair | None = None
    padding: str = "valid"

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        strides, padding = self.strides or self.pool_size, self.padding.upper()
        y = nn.avg_pool(
            _image(self, x), self.pool_size, strides, padding, count_include_pad=False
        )
        return _not_empty(self, x, y)


@dataclasses.dataclass(frozen=True)
class GlobalAveragePooling2D(Layer):
    """Mean over the image: `(b, h, w, c) -> (b, c)`, or `(b, 1, 1, c)` with `keepdims`."""

    keepdims: bool = False

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        return _image(self, x).mean(axis=(1, 2), keepdims=self.keepdims)


@dataclasses.dataclass(frozen=True)
class Activation(Layer):
    """An activation function as a layer of its own."""

    activation: str

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        return ACTIVATIONS[self.activation](x)


@dataclasses.dataclass(frozen=True)
class ReLU(Layer):
    """Rectifier: 0 to `max_value` above `threshold`, `negative_slope * (x - threshold)` below."""

    max_value: float | None = None
    negative_slope: float = 0.0
    threshold: float = 0.0

    def __call__(self, x: Float[Array, "b ..."], name: str, mode: Mode) -> Float[Array, "b ..."]:
        above = x if self.max_value is None else jnp.minimum(x, self.max_value)
        below = self.negative_slope * (x - self.threshold)
        # Strict, so that the gradient at the kink is the lower one, as everywhere in Keras.
        return jnp.where(x > self.threshold, above, below)
