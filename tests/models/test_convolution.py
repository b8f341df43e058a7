"""The written-out gradient against XLA's own, and the form that makes it fast."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from persist_jax.models.convolution import CHANNELS_LAST, convolution

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
    assert "custom_vjp" not in str(ours)
