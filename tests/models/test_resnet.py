"""The residual network: its size, its shapes, and training on one and on four devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from persist_jax.models import Model, build_model, resnet
from persist_jax.terms.sampling import sample_neurons

KEY = jax.random.key(0)


def _shapes(model, input_shape):
    x = jax.ShapeDtypeStruct((2, *input_shape), jnp.float32)
    variables = jax.eval_shape(model.init, KEY, x)
    return variables, *jax.eval_shape(model.apply, variables, x)


def _size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    # The published sizes of the ResNet-20, 32 and 56: 0.27, 0.46 and 0.85 million.
    "blocks, parameters",
    [(3, 269_722), (5, 464_154), (9, 853_018)],
)
def test_size_is_the_published_one(blocks, parameters):
    variables, _, activations = _shapes(resnet((32, 32, 3), 10, blocks=blocks), (32, 32, 3))
    assert _size(variables["params"]) == parameters
    layers_of_weights = sum(leaf.ndim > 1 for leaf in jax.tree.leaves(variables["params"]))
    assert layers_of_weights == len(activations) == 6 * blocks + 2


@pytest.mark.parametrize(
    "input_shape, sizes",
    [((8, 8, 1), (8, 4, 2)), ((28, 28, 1), (28, 14, 7)), ((15, 9, 3), None)],
)
def test_shapes(input_shape, sizes):
    _, logits, activations = _shapes(resnet(input_shape, 7, blocks=2, width=4), input_shape)
    assert logits.shape == (2, 7)
    names = [f"stage{s}_block{b}_{i}" for s in (1, 2, 3) for b in (1, 2) for i in (1, 2)]
    assert list(activations) == ["stem", *names, "logits"]
    if sizes:
        for stage, size in enumerate(sizes):
            for name in names[4 * stage : 4 * stage + 4]:
                assert activations[name].shape == (2, size, size, 4 * 2**stage)


def test_a_configuration_names_depth_and_width():
    fields = {"kind": "resnet", "blocks": 1, "width": 4}
    model = build_model(fields, (8, 8, 1), 10)
    assert isinstance(model, Model) and model == resnet((8, 8, 1), blocks=1, width=4)
    with pytest.raises(ValueError, match=r"^model.blocks: 0 must be at least 1"):
        build_model(fields | {"blocks": 0}, (8, 8, 1), 10)
    with pytest.raises(ValueError, match=r"^model: resnet takes images \(h, w, c\), .* \(64,\)"):
        build_model(fields, (64,), 10)


@pytest.fixture(scope="module")
def model():
    return resnet((8, 8, 1), 3, blocks=1, width=4)


@pytest.fixture(scope="module")
def x():
    # Shares of different means: statistics of a share are far from those of the batch.
    draw, shift = np.random.default_rng(0), np.arange(0.0, 4.0, 0.5)[:, None, None, None]
    return jnp.asarray(draw.normal(size=(8, 8, 8, 1)) + shift, jnp.float32)


@pytest.fixture(scope="module")
def variables(model, x):
    return jax.jit(model.init)(KEY, x)


def _gradient(model, variables, x, total):
    def loss(params):
        outputs, renewed = model.apply_in_training(variables | {"params": params}, x, KEY)
        return jnp.square(outputs[0]).sum() / total, (outputs, renewed)

    return jax.grad(loss, has_aux=True)(variables["params"])


@pytest.fixture(scope="module")
def trained(model, variables, x):
    return jax.jit(partial(_gradient, model, total=len(x)))(variables, x)


@pytest.mark.slow
def test_training_reaches_every_weight_and_moves_every_average(model, variables, x, trained):
    gradient, ((_, activations), renewed) = trained
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all() and np.any(leaf)
    assert set(renewed) == {"batch_stats"}
    before, after = variables["batch_stats"], renewed["batch_stats"]
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert np.isfinite(new).all() and np.all(old != new)
    assert model.training_differs
    assert all(np.all(a >= 0) for name, a in activations.items() if name != "logits")


def test_logits_are_the_last_layer_of_the_point_cloud(trained):
    _, ((logits, activations), _) = trained
    points = sample_neurons(activations, 0.0)
    np.testing.assert_array_equal(points, logits.T)


def test_a_block_adds_its_input(model, variables, x):
    """Without its second normalisation's weights, a block of one stage passes its input on."""
    params = dict(variables["params"])
    name = "stage1_block1_2_normalisation"
    params[name] = jax.tree.map(jnp.zeros_like, params[name])
    _, activations = jax.jit(model.apply)({**variables, "params": params}, x)
    np.testing.assert_array_equal(activations["stage1_block1_2"], activations["stem"])


def test_shortcut_halves_the_image_and_adds_channels_of_zeros(model, variables, x):
    params = dict(variables["params"])
    for stage in (1, 2):
        name = f"stage{stage}_block1_2_normalisation"
        params[name] = jax.tree.map(jnp.zeros_like, params[name])
    _, activations = jax.jit(model.apply)({**variables, "params": params}, x)
    after = activations["stage2_block1_2"]
    np.testing.assert_array_equal(after[..., :4], activations["stem"][:, ::2, ::2])
    assert not np.any(after[..., 4:])


@pytest.mark.slow
def test_shared_batch_equals_whole_batch(model, variables, x, trained):
    gradient, ((logits, activations), renewed) = trained
    shared = model.sharing("batch")

    def share(x):
        local, outputs = _gradient(shared, variables, x, 4 * len(x))
        return jax.lax.psum(local, "batch"), outputs

    result = jax.pmap(share, axis_name="batch")(x.reshape(4, 2, 8, 8, 1))
    shared_gradient, ((shared_logits, shared_activations), shared_renewed) = result
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    close(shared_logits.reshape(logits.shape), logits)
    assert list(shared_activations) == list(activations)
    for name, whole in activations.items():
        close(shared_activations[name].reshape(whole.shape), whole)
    for mine, theirs in ((shared_renewed, renewed), (shared_gradient, gradient)):
        for device in range(4):
            jax.tree.map(close, jax.tree.map(lambda leaf, d=device: leaf[d], mine), theirs)
