"""The written-out gradient against XLA's own, and the form that makes it fast."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from persist_jax import models
from persist_jax.models.convolution import CHANNELS_LAST, convolution
from persist_jax.models.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    MaxPooling2D,
    PReLU,
    ReLU,
)

SHAPES = [((5, 7, 6, 3), (3, 3, 3, 4)), ((2, 6, 6, 2), (2, 4, 2, 3)), ((3, 4, 4, 1), (1, 1, 1, 2))]


def _published(x, kernel, strides, padding, **options):
    options["dimension_numbers"] = CHANNELS_LAST
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 0), (1, 3))])
@pytest.mark.parametrize("shapes", SHAPES)
def test_value_and_gradient_are_xlas(shapes, padding, strides):
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)

    def loss(conv):
        return lambda x, kernel: jnp.sum(jnp.sin(conv(x, kernel, strides, padding)))

    @jax.jit
    def both(x, kernel):
        return [
            jax.value_and_grad(loss(conv), (0, 1))(x, kernel) for conv in (convolution, _published)
        ]

    ours, theirs = both(x, kernel)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("strides", "padding"), [((1, 1), "SAME"), ((2, 1), ((2, 0), (1, 3)))])
@pytest.mark.parametrize("loop", [False, True])
def test_forward_mode_is_xlas(strides, padding, loop):
    rng = np.random.default_rng(0)
    point, direction = (
        [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in SHAPES[1]] for _ in range(2)
    )

    def derivatives(conv):
        def loss(arrays):
            if not loop:
                return jnp.sum(jnp.sin(conv(*arrays, strides, padding)))
            rows = jax.lax.map(lambda x: conv(x[None], arrays[1], strides, padding), arrays[0])
            return jnp.sum(jnp.sin(rows))

        jvp = jax.jvp(loss, [point], [direction])
        hvp = jax.jvp(jax.grad(loss), [point], [direction])
        return jvp, hvp, jax.hessian(lambda kernel: loss([point[0], kernel]))(point[1])

    ours, theirs = jax.jit(lambda: [derivatives(conv) for conv in (convolution, _published)])()
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def _loss(network, key, x):
    """The cross-entropy of a network, as a function of its weights, and such weights."""
    variables = network.init(key, x)

    def loss(params):
        (logits, _), _ = network.apply_in_training({**variables, "params": params}, x, key)
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - logits[:, 0])

    return loss, variables["params"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "layers",
    [
        (MaxPooling2D(), Conv2D(2, (2, 2), padding="same", activation="relu")),
        (AveragePooling2D(), BatchNormalization(), PReLU()),
        (Conv2D(4, (2, 3), groups=2), Conv2D(2, (2, 2), dilation_rate=(1, 2)), ReLU(6.0)),
    ],
    ids=["max", "mean", "groups"],
)
def test_hessian_products_of_networks(layers):
    """Forward over reverse mode gives what reverse mode over itself gives."""
    first = Conv2D(4, (3, 3), strides=(2, 1), activation="tanh")
    network = models.Network((first, *layers, GlobalAveragePooling2D(), Dense(3)), (8, 8, 1))

    @jax.jit
    def products(key, x):
        loss, params = _loss(network, key, x)
        slope = jax.grad(loss)
        direction = jax.tree.map(lambda p: jnp.sin(jnp.arange(p.size).reshape(p.shape)), params)
        along = [jax.jvp(f, [params], [direction])[1] for f in (loss, slope)]
        return along, [
            optax.tree.vdot(slope(params), direction),
            jax.grad(lambda params: optax.tree.vdot(slope(params), direction))(params),
        ]

    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 1)), jnp.float32)
    ours, theirs = products(jax.random.key(0), x)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_residual_network_has_hessian_products():
    def product(key, x):
        loss, params = _loss(models.resnet((8, 8, 1), 3, blocks=1, width=2), key, x)
        return jax.jvp(jax.grad(loss), [params], [params])

    # Not compiled: that takes 5 s, and its layers are those of the networks above.
    lowered = jax.jit(product).lower(jax.random.key(0), jnp.ones((4, 8, 8, 1)))
    gradient, along = lowered.out_info
    assert gradient == along


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_convolutions_of_the_gradient_have_the_fast_form(strides):
    """On the CPU: no dilation, and the order of axes for which there is a fast kernel."""
    x, kernel = jnp.ones((2, 7, 6, 3)), jnp.ones((3, 3, 3, 4))
    gradient = jax.grad(lambda x, kernel: convolution(x, kernel, strides, "SAME").sum(), (0, 1))
    compiled = jax.jit(gradient).lower(x, kernel)
    lines = [line for line in compiled.as_text().splitlines() if "stablehlo.convolution" in line]
    assert len(lines) == 2
    for line in lines:
        assert "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line
        assert "lhs_dilate = [1, 1]" in line


@pytest.mark.parametrize("options", [{"rhs_dilation": (2, 2)}, {"feature_group_count": 2}])
def test_other_convolutions_are_left_to_xla(options):
    channels = 2 // options.get("feature_group_count", 1)
    x, kernel = jnp.ones((2, 6, 6, 2)), jnp.ones((3, 3, channels, 4))
    ours = jax.make_jaxpr(lambda: convolution(x, kernel, (1, 1), "SAME", **options))()
    assert "custom_jvp" not in str(ours)
