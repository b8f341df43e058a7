"""From a network to the five terms and their gradients, as the published code returned them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import persist_jax as pj
from persist_jax.models.network import layer_name
from persist_jax.pgdl.keras_weights import weight_order
from persist_jax.terms import REGULARISERS
from persist_jax.training import Options

CASES = ["mlp_dead", "mlp_full", "mlp_half", "conv_bn", "conv_dropout", "conv_prelu_gap"]
pytestmark = pytest.mark.usefixtures("float32_products")
TERMS = ["t1", "t2", "min_corr", "l1", "l2"]


# The architectures' own tests hold the layers of the others against Keras.
QUICK = ["mlp_dead", "mlp_full", "conv_bn"]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES
    ],
)
def case(golden, float32_products, request):
    return golden(request.param)


@pytest.fixture(scope="module")
def everything(case):
    """Activations, points, and every term with its gradient, in one compiled program per case."""
    sampling = float(case["sampling"])
    options = Options(batch_size=1, epochs=1, optimiser={}, sampling=sampling)

    def activations(params):
        variables = {**case.variables, "params": params}
        return case.network.apply(variables, jnp.asarray(case["x"]), train=False)[1]

    def term(name, params):
        chosen = options.term(name)
        return jax.value_and_grad(lambda params: chosen(activations(params), params))(params)

    @jax.jit
    def compiled(params):
        points = pj.sample_neurons(activations(params), sampling)
        return activations(params), points, {name: term(name, params) for name in TERMS}

    return compiled(case.variables["params"])


def test_the_variables_are_those_of_the_case(case):
    for ours, theirs in zip(
        jax.tree.leaves(case.variables), jax.tree.leaves(case.weights()), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_points_are_the_sampled_neurons(case, everything):
    activations, points, _ = everything
    if case["sampling"] == 1:
        # The published code has every layer's neurons by activity; ours, where all are kept, as
        # the layer has them.
        ends = np.cumsum([activation[0].size for activation in activations])
        layers = np.split(np.asarray(points), ends[:-1])
        order = [np.argsort(-np.abs(layer).mean(1), kind="stable") for layer in layers[:-1]]
        points = np.concatenate(
            [*(layer[by] for layer, by in zip(layers, order, strict=False)), layers[-1]]
        )
    np.testing.assert_allclose(points, case["points"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_terms_and_gradients(case, everything, name):
    value, gradient = everything[2][name]
    # Where a death of exactly 0 made the published term 0, the case has the true value beside it.
    theirs = f"{name}_exact" if f"{name}_exact" in case.arrays else name
    np.testing.assert_allclose(value, case[theirs], rtol=1e-4)
    leaves = jax.tree.leaves(gradient)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    published = case.gradient(theirs) or case.gradient(name)
    if published is None or (not case["complete"] and theirs == name and name in ("t1", "t2")):
        return  # the published gradient was not finite, or that of the silent 0
    ordered = [
        gradient[layer_name(weight.layer)][weight.name]
        for weight in weight_order(case.network)
        if weight.collection == "params"
    ]
    assert len(ordered) == len(published)
    # A bias of the last layer changes no correlation: its gradient is the rounding of the others'.
    rounding = 2e-7 * np.linalg.norm([np.linalg.norm(other) for other in published]) + 1e-6
    for ours, other in zip(ordered, published, strict=True):
        error = np.linalg.norm(ours - other)
        assert error <= 1e-4 * np.linalg.norm(other) + rounding


def test_names_are_those_of_the_experiments():
    assert list(REGULARISERS)[:6] == ["none", "t1", "t2", "min_corr", "l1", "l2"]
    assert list(REGULARISERS)[6:] == ["t1_living", "t2_living", "dropout"]
    with pytest.raises(ValueError, match="regulariser: 'imp' is not one of none, t1, t2"):
        Options(batch_size=1, epochs=1, optimiser={}).term("imp")
