"""Perceptrons, those of the paper, and convolutions; and what a configuration may not say."""

import jax
import jax.numpy as jnp
import pytest

from persist_jax.models import Model, build_model, mlp

MLP = {"kind": "mlp", "hidden": [5]}


@pytest.mark.parametrize("hidden", [(450, 350, 200), (300, 250, 200, 150, 100)])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_perceptrons_of_the_paper_have_1010_neurons(hidden, dropout):
    network = build_model({"kind": "mlp", "hidden": [*hidden], "dropout": dropout}, (28, 28, 1), 10)
    assert isinstance(network, Model) and network.training_differs == (dropout > 0)
    example = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), example)
    logits, activations = jax.eval_shape(network.apply, variables, example)
    widths = [activation.shape[1] for activation in activations]
    assert logits.shape == (2, 10) and widths == [*hidden, 10] and sum(widths) == 1010


def test_a_convolutional_network_halves_its_image_after_each_convolution():
    network = build_model({"kind": "cnn", "filters": [4, 6], "hidden": [5]}, (28, 28, 1), 10)
    example = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), example)
    logits, activations = jax.eval_shape(network.apply, variables, example)
    shapes = [activation.shape[1:] for activation in activations]
    assert logits.shape == (2, 10)
    assert shapes == [(28, 28, 4), (14, 14, 6), (5,), (10,)]
    with pytest.raises(ValueError, match=r"^models.a.kernel_size: 0 must be at least 1$"):
        fields = {"kind": "cnn", "filters": [4], "kernel_size": 0}
        build_model(fields, (28, 28, 1), 10, "models.a")


def test_a_configuration_builds_what_the_function_does():
    fields = MLP | {"hidden": [5, 4], "dropout": 0.25}
    assert build_model(fields, (3, 2), 7) == mlp((3, 2), 7, hidden=(5, 4), dropout=0.25)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden": [5]}, "^models.a.kind: missing; it is one of mlp"),
        (MLP | {"kind": "mpl"}, "^models.a.kind: 'mpl' is not one of mlp, "),
        (MLP | {"kind": ["mlp"]}, r"^models.a.kind: \['mlp'\] is not one of mlp, "),
        (MLP | {"width": 5}, "^models.a.width: unknown field; known are hidden, dropout$"),
        ({"kind": "mlp"}, "^models.a.hidden: missing$"),
        (MLP | {"hidden": 5}, "^models.a.hidden: 5 is not a list$"),
        (MLP | {"hidden": [5, 2.5]}, r"^models.a.hidden\[1\]: 2.5 is not a whole number$"),
        (MLP | {"hidden": [0]}, r"^models.a.hidden\[0\]: 0 must be at least 1$"),
        (MLP | {"hidden": [True]}, r"^models.a.hidden\[0\]: True is not a whole number$"),
        (MLP | {"dropout": "0.5"}, "^models.a.dropout: '0.5' is not a number$"),
        (MLP | {"dropout": 1.0}, "^models.a.dropout: 1.0 must be below 1$"),
    ],
)
def test_wrong_fields_are_one_line(fields, message):
    with pytest.raises(ValueError, match=message):
        build_model(fields, (28, 28, 1), 10, "models.a")
