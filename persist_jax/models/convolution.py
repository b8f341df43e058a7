"""Convolution whose reverse-mode gradient stays fast inside a loop on the CPU."""

from functools import partial
from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Float

Pair = tuple[int, int]
CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


def convolution(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c_per_group f"],
    window_strides: tuple[int, ...],
    padding: Any,
    **options: Any,
) -> Float[Array, "b h2 w2 f"]:
    """`lax.conv_general_dilated` for `nn.Conv`, channels last.

    XLA's CPU compiler has a fast kernel for one form of convolution only. It converts other forms,
    such as the gradient of a convolution, but not inside a loop
    (https://github.com/jax-ml/jax/issues/12868): an epoch in one scan would be over ten times
    slower. So on a CPU, the gradient of a convolution without dilation and groups is written in the
    fast form here. Forward mode works too, but in a loop on a CPU it takes the slow form: there
    `jax.jvp` is slower than through `lax.conv_general_dilated`, while a Hessian-vector product
    `jax.jvp(jax.grad(f))` is faster.

    Example:
        >>> import jax.numpy as jnp
        >>> convolution(jnp.ones((2, 8, 8, 1)), jnp.ones((3, 3, 1, 4)), (2, 2), "SAME").shape
        (2, 4, 4, 4)
    """
    options["dimension_numbers"] = CHANNELS_LAST
    strides = tuple(window_strides)
    dilations = (options.get("lhs_dilation"), options.get("rhs_dilation"))
    undilated = all(dilation is None or set(dilation) == {1} for dilation in dilations)
    if not undilated or options.get("feature_group_count", 1) != 1:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    if isinstance(padding, str):
        pairs = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    else:
        pairs = padding
    pairs = tuple((int(low), int(high)) for low, high in pairs)
    # Derivatives may be traced outside the `jax.default_matmul_precision` of this call.
    precision = options.get("precision") or jax.config.jax_default_matmul_precision
    return _plain(x, kernel, strides, pairs, precision)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _plain(x, kernel, strides: Pair, padding: tuple[Pair, Pair], precision):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=CHANNELS_LAST, precision=precision
    )


@_plain.defjvp
def _tangent(strides, padding, precision, primals, tangents):
    conv = partial(_plain.fun, precision=precision)
    same = partial(conv, strides=strides, padding=padding)

    def anywhere(primals, tangents):
        return jax.jvp(same, primals, tangents)[1]

    def on_cpu(primals, tangents):
        x, kernel = primals

        def backward(slope):
            size = kernel.shape[:2]
            slope = _at_every_position(slope, x.shape[1:3], size, strides, padding)
            around = tuple(
                (k - 1 - low, k - 1 - high) for k, (low, high) in zip(size, padding, strict=True)
            )
            dx = conv(slope, kernel[::-1, ::-1].swapaxes(2, 3), (1, 1), around)
            # Channels act as the batch, and the batch as the features that are summed over.
            dkernel = conv(x.transpose(3, 1, 2, 0), slope.transpose(1, 2, 0, 3), (1, 1), padding)
            return dx, dkernel.transpose(1, 2, 0, 3)

        # Reverse mode transposes the tangent, and the transpose of this tangent is `backward`.
        (tangent,) = jax.linear_transpose(backward, jax.eval_shape(same, *primals))(tangents)
        return tangent

    tangent = lax.platform_dependent(primals, tangents, cpu=on_cpu, default=anywhere)
    return _plain(*primals, strides, padding, precision), tangent


def _at_every_position(slope, image: Pair, window: Pair, strides: Pair, padding):
    """The slope for strides of one: zero at the positions that the strides skip."""
    if set(strides) == {1}:
        return slope
    config = [(0, 0, 0)]
    for axis, stride in enumerate(strides):
        places = image[axis] + sum(padding[axis]) - window[axis] + 1
        reached = (slope.shape[1 + axis] - 1) * stride + 1
        config.append((0, places - reached, stride - 1))
    return lax.pad(slope, slope.dtype.type(0), [*config, (0, 0, 0)])
