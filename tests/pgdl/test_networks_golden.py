"""Networks read from files that the published code wrote, against what it returned."""

from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from persist_jax.pgdl import read_network, variables_from_weights

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = ["conv_bn", "conv_dropout", "conv_prelu_gap", "mlp_dead", "mlp_full", "mlp_half"]


def _read(case):
    files = GOLDEN / f"{case}.config.json", GOLDEN / f"{case}.hdf5"
    with np.load(GOLDEN / f"{case}.npz") as golden:
        return *read_network(*files), dict(golden)


@pytest.mark.parametrize("case", CASES)
def test_logits(case):
    network, variables, golden = _read(case)
    logits, _ = network.apply(variables, golden["x"])
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_weights_in_order(case):
    network, variables, golden = _read(case)
    jax.tree.map(np.testing.assert_array_equal, variables, _weights(network, golden, "w"))


def test_counted_layers_are_those_with_trainable_weights():
    network, variables, golden = _read("conv_prelu_gap")
    _, activations = network.apply(variables, golden["x"])
    shapes = [(10, 10, 6), (3, 3, 12), (3, 3, 12), (24,), (10,)]
    assert [activation.shape[1:] for activation in activations] == shapes


def test_batch_norm_training_ends_where_the_published_one_does():
    network, _, golden = _read("train_conv_bn_l2")
    start, final = _weights(network, golden, "w"), _weights(network, golden, "final:w")
    optimiser = optax.sgd(0.001, momentum=0.9)

    def loss(params, batch_stats):
        (logits, _), updates = network.apply(
            {"params": params, "batch_stats": batch_stats},
            golden["x"],
            train=True,
            mutable=["batch_stats"],
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, golden["y"]).mean()
        squares = sum((leaf**2).sum() for leaf in jax.tree.leaves(params))
        return entropy + golden["weight"] * squares, updates["batch_stats"]

    @jax.jit
    def step(params, batch_stats, state):
        gradient, batch_stats = jax.grad(loss, has_aux=True)(params, batch_stats)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), batch_stats, state

    params, batch_stats = start["params"], start["batch_stats"]
    state = optimiser.init(params)
    for _ in range(int(golden["epochs"])):
        params, batch_stats, state = step(params, batch_stats, state)
    ended = {"params": params, "batch_stats": batch_stats}
    # Tight enough to tell the unbiased from the biased variance in the moving average.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=4e-7, atol=2e-7), ended, final)
    logits, _ = network.apply(ended, golden["x"])
    np.testing.assert_allclose(logits, golden["final_logits"], rtol=1e-4, atol=1e-5)


def _weights(network, golden, prefix):
    names = [f for i in range(99) for f in golden if f.startswith(f"{prefix}{i:02d}:")]
    return variables_from_weights(network, [golden[name] for name in names])
