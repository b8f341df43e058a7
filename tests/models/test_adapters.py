"""Networks written in linen, in nnx and as plain functions, trained as any other."""

from collections import OrderedDict
from functools import partial

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from persist_jax import models

KEY, OTHER = jax.random.key(1), jax.random.key(2)
LANES, STEPS, MOMENTUM = 2, 3, 0.9


class LinenNet(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(
            use_running_average=not train, momentum=MOMENTUM, axis_name=self.axis_name
        )(x)
        h = nn.relu(nn.Dense(6)(x))
        h = nn.Dropout(0.5, deterministic=not train)(h)
        logits = nn.Dense(3)(h)
        return logits, {"z": h, "logits": logits}


class NnxNet(nnx.Module):
    def __init__(self, rngs, axis_name=None):
        self.norm = nnx.BatchNorm(4, momentum=MOMENTUM, axis_name=axis_name, rngs=rngs)
        self.parts = nnx.List([nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 3, rngs=rngs)])
        self.dropouts = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])
        self.shift = jnp.full((1, 3), 7.0)

    def __call__(self, x):
        h = jax.nn.relu(self.parts[0](self.norm(x)))
        for dropout in self.dropouts:
            h = dropout(h)
        return self.parts[1](h) + self.shift, [h]


class NnxWithTrain(NnxNet):
    def __call__(self, x, *, train):
        x = self.norm(x, use_running_average=not train)
        h = jax.nn.relu(self.parts[0](x))
        h = self.dropouts[0](h, deterministic=not train)
        return self.parts[1](h), (h,)


def draw_plain(key, x):
    shapes = {"hidden": (x.shape[-1], 6), "last": (6, 3)}
    keys = jax.random.split(key, len(shapes))
    return {
        name: {"kernel": jax.random.normal(k, shape)}
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def call_plain(params, x, *, train, key):
    h = jax.nn.relu(x @ params["hidden"]["kernel"])
    if train:
        h = jnp.where(jax.random.bernoulli(key, 0.5, h.shape), 2 * h, 0)
    return h @ params["last"]["kernel"], [h]


MODELS = {
    "linen": models.linen(LinenNet()),
    "nnx": models.nnx(NnxNet),
    "nnx with train": models.nnx(NnxWithTrain),
    "function": models.function(draw_plain, call_plain),
}


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(np.random.default_rng(0).normal(1.0, 2.0, (8, 4)), jnp.float32)


class Passes:
    """A model with its passes compiled once."""

    def __init__(self, model, x):
        self.model = model
        self.init = jax.jit(partial(model.init, x=x))
        self.variables = self.init(KEY)
        self.infer = jax.jit(partial(model.apply, x=x))
        self.train = jax.jit(partial(model.apply_in_training, x=x))


@pytest.fixture(scope="module", params=MODELS)
def passes(request, x):
    return Passes(MODELS[request.param], x)


def _equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def test_a_model_is_one_and_can_be_a_static_argument(passes):
    assert isinstance(passes.model, models.Model)
    assert hash(passes.model) == hash(passes.model.sharing(None))
    assert passes.model == passes.model.sharing(None)
    assert passes.model.training_differs


def test_variables_come_from_the_key_alone(passes):
    assert _equal(passes.variables, passes.init(KEY))
    assert not _equal(passes.variables, passes.init(OTHER))


def test_variables_are_nested_dicts_that_a_checkpoint_holds(passes):
    plain = flax.serialization.to_state_dict(passes.variables)
    assert type(passes.variables["params"]) is dict
    assert _equal(plain, passes.variables)
    back = flax.serialization.from_state_dict(passes.variables, plain)
    assert _equal(back, passes.variables)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(plain))


def test_dropout_follows_the_key_and_is_off_in_inference(passes):
    hidden = [
        np.asarray(jax.tree.leaves(outputs[1])[-1])
        for outputs in (
            passes.train(passes.variables, key=KEY)[0],
            passes.train(passes.variables, key=KEY)[0],
            passes.train(passes.variables, key=OTHER)[0],
            passes.infer(passes.variables),
        )
    ]
    np.testing.assert_array_equal(hidden[0], hidden[1])
    assert np.any((hidden[0] == 0) != (hidden[2] == 0))
    assert np.mean(hidden[3] == 0) + 0.15 < np.mean(hidden[0] == 0)


@pytest.mark.parametrize("name", ["linen", "nnx", "nnx with train"])
def test_batch_statistics_move_in_training_only(name, x):
    passes = Passes(MODELS[name], x)
    (_, renewed) = passes.train(passes.variables, key=KEY)
    assert set(renewed) == {"batch_stats"} == set(passes.variables) - {"params"}
    assert jax.tree.structure(renewed["batch_stats"]) == jax.tree.structure(
        passes.variables["batch_stats"]
    )
    (stats,) = renewed["batch_stats"].values()
    np.testing.assert_allclose(stats["mean"], (1 - MOMENTUM) * x.mean(0), rtol=1e-4)
    expected = MOMENTUM + (1 - MOMENTUM) * x.var(0)
    np.testing.assert_allclose(stats["var"], expected, rtol=1e-4)
    moved = passes.variables | renewed
    assert not np.allclose(passes.infer(moved)[0], passes.infer(passes.variables)[0])


@pytest.mark.slow
def test_lanes_train_in_one_scan_as_they_train_alone(passes, x):
    model = passes.model

    def train(key):
        def loss(params, collections, step):
            variables = {"params": params, **collections}
            (logits, activations), collections = model.apply_in_training(
                variables, x, jax.random.fold_in(key, step)
            )
            return jnp.square(logits).mean(), collections

        def step(variables, number):
            collections = {name: tree for name, tree in variables.items() if name != "params"}
            gradient, collections = jax.grad(loss, has_aux=True)(
                variables["params"], collections, number
            )
            params = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], gradient)
            return {"params": params, **collections}, None

        return jax.lax.scan(step, model.init(key, x), jnp.arange(STEPS))[0]

    keys = jax.random.split(KEY, LANES)
    together, alone = jax.jit(lambda keys: (jax.vmap(train)(keys), train(keys[1])))(keys)
    mine = jax.tree.map(lambda leaf: leaf[1], together)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), mine, alone)
    assert jax.tree.structure(alone) == jax.tree.structure(passes.variables)
    start = passes.init(keys[1])
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(alone), strict=True):
        assert np.isfinite(after).all() and not np.array_equal(before, after)


def test_dropouts_of_one_nnx_module_are_independent(x):
    ones = jnp.ones((1000, 4))
    passes = Passes(MODELS["nnx"], ones)
    variables = dict(passes.variables)
    first = variables["params"]["parts"]["0"]
    opened = {"kernel": jnp.zeros_like(first["kernel"]), "bias": jnp.ones_like(first["bias"])}
    parts = {**variables["params"]["parts"], "0": opened}
    variables["params"] = {**variables["params"], "parts": parts}
    (_, (hidden,)), _ = passes.train(variables, key=KEY)
    assert set(np.unique(hidden)) == {0.0, 4.0}
    np.testing.assert_allclose(np.mean(hidden == 0), 0.75, atol=0.05)


def test_layers_keep_their_order_under_jit(x):
    passes = Passes(MODELS["linen"], x)
    _, activations = passes.infer(passes.variables)
    assert isinstance(activations, OrderedDict) and list(activations) == ["z", "logits"]


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_shared_batch_has_the_statistics_of_the_whole(name, x):
    model = MODELS[name]
    variables = jax.jit(model.init)(KEY, x)
    _, whole = jax.jit(model.apply_in_training)(variables, x, KEY)
    shared = jax.pmap(
        lambda x: model.sharing("batch").apply_in_training(variables, x, KEY)[1],
        axis_name="batch",
    )(x.reshape(4, 2, 4))
    # Outside of the axis too, and in a trace that shares nothing with the first.
    logits, _ = jax.jit(model.sharing("batch").apply)(variables, x)
    np.testing.assert_allclose(logits, model.apply(variables, x)[0], rtol=1e-4, atol=1e-5)
    assert model.sharing("batch") != model and model.sharing("batch").sharing(None) == model
    for mine, theirs in zip(jax.tree.leaves(shared), jax.tree.leaves(whole), strict=True):
        for device in range(4):
            np.testing.assert_allclose(mine[device], theirs, rtol=1e-4, atol=1e-5)


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        noise = [jax.random.normal(self.make_rng(name), x.shape) for name in ("dropout", "noise")]
        self.variable("counts", "passes", lambda: jnp.zeros(())).value += 1.0
        logits = nn.Dense(3)(x)
        return logits, noise


def test_further_streams_and_collections_of_linen(x):
    model = models.linen(Noisy(), rngs=("dropout", "noise"))
    variables = model.init(KEY, x)
    (_, (one, other)), renewed = model.apply_in_training(variables, x, KEY)
    assert not np.allclose(one, other)
    assert renewed == {"counts": {"passes": variables["counts"]["passes"] + 1}}


class Scale(nnx.Param):
    pass


class NnxKinds(nnx.Module):
    """A weight of a class of its own, a tied weight, a count, and a drawn constant."""

    def __init__(self, rngs):
        self.scale = Scale(jnp.ones((1, 3)))
        self.first = nnx.Linear(4, 3, rngs=rngs)
        self.again = self.first
        self.seen = nnx.Cache(jnp.zeros(()))
        self.constant = jax.random.normal(rngs.params(), (1, 3))

    def __call__(self, x):
        self.seen[...] += 1.0
        return self.first(x) * self.scale[...] + self.again(x), [
            self.first(x),
            self.constant + x[:, :3],
        ]


def test_kinds_of_nnx_variables(x):
    model = models.nnx(NnxKinds)
    variables = model.init(KEY, x)
    assert set(variables) == {"params", "cache"}
    assert set(variables["params"]) in ({"scale", "first"}, {"scale", "again"})
    (_, one), renewed = model.apply_in_training(variables, x, KEY)
    assert renewed["cache"]["seen"] == 1 and variables["cache"]["seen"] == 0
    (_, other), _ = jax.jit(model.apply_in_training)(model.init(OTHER, x), x, OTHER)
    np.testing.assert_array_equal(one[1], other[1])
