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


@pytest.fixture(scope="module", params=CASES)
def case(golden, float32_products, request):
    return golden(request.param)


def _points(case, params):
    variables = case.variables | {"params": params}
    _, activations = case.network.apply(variables, jnp.asarray(case["x"]), train=False)
    return pj.sample_neurons(activations, float(case["sampling"]))


@pytest.fixture(scope="module")
def values(case):
    """Every term with its gradient, in one compiled program per case."""

    options = Options(
        batch_size=1, epochs=1, optimiser={}, sampling=float(case["sampling"])
    )

    def everything(params):
        def term(name):
            chosen = options.term(name)

            def of(params):
                variables = {**case.variables, "params": params}
                _, activations = case.network.apply(variables, jnp.asarray(case["x"]), train=False)
                return chosen(activations, params)

            return jax.value_and_grad(of)(params)

        return {name: term(name) for name in TERMS}

    return jax.jit(everything)(case.variables["params"])


def test_the_variables_are_those_of_the_case(case):
    for ours, theirs in zip(
        jax.tree.leaves(case.variables), jax.tree.leaves(case.weights()), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_points_are_the_sampled_neurons(case):
    points = np.asarray(_points(case, case.variables["params"]))
    if case["sampling"] == 1:
        # The published code has every layer's neurons by activity; ours, where all are kept, as
        # the layer has them.
        _, activations = case.network.apply(case.variables, jnp.asarray(case["x"]), train=False)
        ends = np.cumsum([activation[0].size for activation in activations])
        layers = np.split(points, ends[:-1])
        order = [np.argsort(-np.abs(layer).mean(1), kind="stable") for layer in layers[:-1]]
        points = np.concatenate(
            [*(layer[by] for layer, by in zip(layers, order, strict=False)), layers[-1]]
        )
    np.testing.assert_allclose(points, case["points"], rtol=1e-5, atol=1e-5)


def test_distances_and_deaths(case):
    points = jnp.asarray(case["points"])
    np.testing.assert_allclose(pj.correlation_distance(points), case["distances"], atol=1e-5)
    np.testing.assert_allclose(pj.correlation_deaths(points), case["deaths_exact"], atol=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_terms_and_gradients(case, values, name):
    value, gradient = values[name]
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
    assert list(REGULARISERS)[6:] == ["t1_living", "t2_living"]
    with pytest.raises(ValueError, match="regulariser: 'imp' is not one of none, t1, t2"):
        Options(batch_size=1, epochs=1, optimiser={}).term("imp")
