"""What an adapter asks of a network, and how it says that it is not there."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from persist_jax import models

KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)), jnp.float32)


class Plain(nn.Module):
    flag: bool = False

    @nn.compact
    def __call__(self, x):
        logits = nn.Dense(3)(x)
        return logits, (logits,)


class Stochastic(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        logits = nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))
        return logits, (logits,)


class NnxPlain(nnx.Module):
    def __init__(self, rngs):
        self.last = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(x), [self.last(x)]


class NnxStochastic(NnxPlain):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def affine(params, x):
    return x @ params, [x @ params]


def affine_over_devices(params, x, train, axis_name):
    assert axis_name in (None, "batch")
    return x @ params, [x @ params]


def noisy(params, x, key):
    return x @ params, [x @ params]


def draw_matrix(key, x):
    return jax.random.normal(key, (x.shape[-1], 3))


def test_without_a_mode_nothing_differs_and_any_axis_will_do(x):
    for model in (
        models.linen(Plain()),
        models.nnx(NnxPlain),
        models.function(draw_matrix, affine),
    ):
        assert not model.training_differs and model.sharing("batch") is model
        variables = model.init(KEY, x)
        assert set(variables) == {"params"}
        (logits, _), collections = model.apply_in_training(variables, x, KEY)
        assert collections == {}
        np.testing.assert_array_equal(logits, model.apply(variables, x)[0])


def test_the_caller_may_say_whether_training_differs():
    assert not models.linen(Stochastic(), training_differs=False).training_differs
    assert not models.nnx(NnxStochastic, training_differs=False).training_differs
    assert models.function(draw_matrix, affine, training_differs=True).training_differs


def test_a_network_that_cannot_share_a_batch_says_so(x):
    message = r'has no axis_name, so parallel="batch" cannot .*; use parallel="lanes"$'
    for model, name in (
        (models.linen(Stochastic()), "Stochastic"),
        (models.nnx(NnxStochastic), "NnxStochastic"),
        (models.function(draw_matrix, noisy), "noisy"),
    ):
        assert model.sharing(None) is model
        with pytest.raises(ValueError, match=f"^{name}: .* {message}"):
            model.sharing("batch")
    model = models.function(draw_matrix, affine_over_devices).sharing("batch")
    assert model.axis_name == "batch"
    model.apply(model.init(KEY, x), x)


@pytest.mark.parametrize(
    "returned, message",
    [
        (lambda y: y, r"returned an array of shape \(8, 3\), not \(logits, activations\)"),
        (lambda y: (y, [y], y), r"returned a tuple of 3, not \(logits, activations\)"),
        (lambda y: None, r"returned a NoneType, not"),
        (lambda y: ([y], y), r"the logits are a list of 1, not an array \(b, classes\)"),
        (lambda y: (y[0], [y]), r"the logits are an array of shape \(3,\), not an array \(b, c"),
        (lambda y: (y, y), r"activations are an array of shape \(8, 3\), not a sequence or a map"),
        (lambda y: (y, "y"), r"activations are a str, not a sequence or a mapping"),
        (lambda y: (y, []), r"the activations are empty"),
        (lambda y: (y, [y, 3.0]), r"activation 1 is a float, not an array \(8, \.\.\.\)"),
        (lambda y: (y, {"h": y[1:]}), r"activation 'h' is an array of shape \(7, 3\), not an arr"),
        (lambda y: (y, [y[:, 0]]), r"activation 0 is an array of shape \(8,\), not an array \(8,"),
    ],
)
def test_other_outputs_are_refused(returned, message, x):
    def wrong(params, x):
        return returned(x @ params)

    model = models.function(draw_matrix, wrong)
    variables = model.init(KEY, x)
    with pytest.raises(ValueError, match=f"^wrong: .*{message}"):
        model.apply(variables, x)
    with pytest.raises(ValueError, match=f"^wrong: .*{message}"):
        model.apply_in_training(variables, x, KEY)


def test_linen_and_nnx_refuse_other_outputs_too(x):
    linen, nnx_dense = models.linen(nn.Dense(3)), models.nnx(lambda r: nnx.Linear(4, 3, rngs=r))
    for model, name in ((linen, "Dense"), (nnx_dense, "Linear")):
        variables = model.init(KEY, x)
        with pytest.raises(ValueError, match=rf"^{name}: returned an array of shape \(8, 3\), no"):
            model.apply(variables, x)


class Sowing(Plain):
    @nn.compact
    def __call__(self, x):
        self.sow("losses", "penalty", x.sum())
        return x, [x]


class WithDeterministic(Plain):
    def __call__(self, x, deterministic=True):
        return x, [x]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda x: models.linen(Plain(flag=[1])), r"^Plain: its fields must be hashable"),
        (lambda x: models.linen(WithDeterministic()), r"'deterministic' must be train=True or"),
        (lambda x: models.function(draw_matrix, lambda params, x, training: x), r"'training' must"),
        (lambda x: models.linen(Sowing()).init(KEY, x), r"losses.penalty is a tuple of 1, not an"),
        (
            lambda x: models.function(lambda key, x: {"a": [x]}, affine).init(KEY, x),
            r"^affine: params.a is a list of 1, not an array or a dict of arrays",
        ),
        (
            lambda x: models.function(lambda key, x: {0: x}, affine).init(KEY, x),
            r"^affine: params has the key 0, which is not text",
        ),
        (lambda x: models.nnx(lambda rngs: 3), r"^make returned a int, not a flax.nnx.Module"),
        (
            lambda x: models.linen(Plain()).apply({}, x, train=True),
            r"apply_in_training for train=True",
        ),
        (
            lambda x: models.nnx(NnxPlain).apply({}, x, train=True),
            r"^NnxPlain: apply is for inference",
        ),
        (lambda x: models.function(draw_matrix, affine).apply({}, x, True), r"^affine: apply is f"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(wrong, message, x):
    with pytest.raises(ValueError, match=message) as error:
        wrong(x)
    assert "\n" not in str(error.value)
