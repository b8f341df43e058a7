"""A run gives the same result alone, in company, and however it is laid out on devices."""

import jax
import numpy as np
import pytest

from persist_jax.kernels import deaths

# Small enough that a rounding error does not grow: where two neurons are all but collinear, it
# decides which of them an edge of the tree, and so the gradient, goes to.
WEIGHTS = [1e-5, 1e-4, 1e-3, 1e-2]


def _lane(state, index):
    return jax.tree.leaves(jax.tree.map(lambda leaf: leaf[index], (state.params, state.best)))


def _assert_same(ours, theirs, tolerance):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def company(perceptron, train):
    return train(perceptron, "t1", WEIGHTS)


def test_lanes_differ(company):
    """Otherwise the tests below would hold for any mix-up of lanes."""
    state, rows = company
    first = state.params["layer_01"]["kernel"]
    assert all(np.abs(first[0] - first[i]).max() > 1e-6 for i in (1, 2, 3))
    assert rows[0].loss.shape == (4, 4)  # 140 examples in batches of 35


def test_alone_is_the_same_to_the_bit(perceptron, train, company):
    """One lane after another runs the same loop body, however many there are."""
    alone, rows = train(perceptron, "t1", WEIGHTS[2:3])
    for one, other in zip(_lane(alone, 0), _lane(company[0], 2), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(rows[1].loss[0], company[1][1].loss[2])


def test_together_is_the_same_to_rounding(perceptron, train, company):
    """A batched matrix product may sum in another order: a few float32 units after 8 steps."""
    state, rows = train(perceptron, "t1", WEIGHTS, lane_strategy="vmap")
    for index in range(4):
        _assert_same(_lane(state, index), _lane(company[0], index), 2e-4)
    np.testing.assert_allclose(rows[1].loss, company[1][1].loss, rtol=1e-4)


@pytest.mark.slow
def test_lanes_on_four_devices_are_the_same_to_rounding(perceptron, train, company):
    """A program of one lane a device may fuse differently: rounding, grown over 8 steps."""
    state, _ = train(perceptron, "t1", WEIGHTS, devices=4)
    for index in range(4):
        _assert_same(_lane(state, index), _lane(company[0], index), 2e-4)


@pytest.mark.slow
def test_spare_lanes_fill_the_devices_and_are_not_trained(perceptron, build):
    programs, lanes, wanted = build(perceptron, "t1", WEIGHTS[:3], devices=4)
    assert wanted.tolist() == [True, True, True, False]
    before = programs.layout.fetch(lanes.state.params["layer_01"]["kernel"])
    lanes, metrics = programs.train_epoch(lanes, wanted, 0)()
    after = programs.layout.fetch(lanes.state.params["layer_01"]["kernel"])
    np.testing.assert_array_equal(before[3], after[3])
    assert not np.array_equal(before[0], after[0])
    assert np.all(metrics.loss[3] == 0)


# 140 examples are five batches of 28; or four of 32 and one of 12, which is a step of its own.
@pytest.mark.parametrize(
    "regulariser, batch_size", [("t2", 28), pytest.param("min_corr", 32, marks=pytest.mark.slow)]
)
def test_a_batch_shared_by_four_devices_is_one_batch(
    convolutional, train, regulariser, batch_size
):
    """Batch statistics, dropout masks, sampled neurons and correlations are the whole batch's.

    Sums over the batch are taken in another order, so the results agree to rounding; ten steps
    with momentum let a float32 rounding error grow to about 1e-5.
    """
    sizes = {"batch_size": batch_size, "snapshot_every": 3 if regulariser == "min_corr" else 0}
    one, rows = train(convolutional, regulariser, [0.5], **sizes)
    four, shared = train(convolutional, regulariser, [0.5], parallel="batch", devices=4, **sizes)
    _assert_same(_lane(four, 0), _lane(one, 0), 2e-4)
    np.testing.assert_allclose(shared[1].loss, rows[1].loss, rtol=1e-4)
    np.testing.assert_allclose(shared[1].term, rows[1].term, rtol=1e-4)
    np.testing.assert_allclose(shared[1].deaths, rows[1].deaths, atol=1e-4)
    np.testing.assert_allclose(shared[1].validation_accuracy, rows[1].validation_accuracy)
    assert shared[1].constant_neurons == rows[1].constant_neurons


@pytest.mark.slow
def test_a_reused_term_over_four_devices_is_one_term(perceptron, train):
    sizes = {"batch_size": 28, "term_every": 2}
    one, _ = train(perceptron, "t2", [0.5], **sizes)
    four, _ = train(perceptron, "t2", [0.5], parallel="batch", devices=4, **sizes)
    _assert_same(_lane(four, 0), _lane(one, 0), 2e-4)
    # What is kept for the next steps is on each device the whole batch's.
    _assert_same(*map(jax.tree.leaves, (four.last_term, one.last_term)), 2e-4)


@pytest.mark.slow
def test_a_shared_batch_shares_the_search_for_the_tree(
    perceptron, build, train, monkeypatch, traced_anew
):
    """Each device keeps the bounds of its own rows only: 16 of the 64 that 30 neurons fill."""
    monkeypatch.setattr(deaths, "LARGEST_MATRIX", 0)
    sizes = {"batch_size": 28, "sampling": 1.0}
    on_four = {"parallel": "batch", "devices": 4, **sizes}
    one, _ = train(perceptron, "t2", [0.5], **sizes)
    four, _ = train(perceptron, "t2", [0.5], **on_four)
    _assert_same(_lane(four, 0), _lane(one, 0), 2e-4)
    programs, *_ = build(perceptron, "t2", [0.5], **on_four)
    text = programs._train.lower(*programs._shapes(1)).as_text()
    assert "tensor<16x4xf32>" in text and "tensor<64x4xf32>" not in text


def test_seeds_are_lanes_with_other_orders_and_masks(perceptron, build):
    # Four lanes of "t1", as in `company`: the same program.
    programs, lanes, wanted = build(perceptron, "t1", [1e-5] * 4)
    seeds = jax.tree.map(np.asarray, lanes.state.seed)
    seeds = seeds + np.array([[0, 1, 2, 3]], seeds.dtype)
    lanes = lanes._replace(state=lanes.state._replace(seed=jax.numpy.asarray(seeds)))
    _, metrics = programs.train_epoch(lanes, wanted, 0)()
    assert np.all(metrics.loss[0] != metrics.loss[1])


@pytest.mark.parametrize(
    "choice, message",
    [
        ({"parallel": "both"}, "parallel: 'both' is not one of lanes, batch"),
        ({"lane_strategy": "pmap"}, "lane_strategy: 'pmap' is not one of auto, vmap, map"),
        ({"devices": 9}, "devices: 9 asked for, this machine has 4"),
        ({"parallel": "batch", "devices": 3}, "train.batch_size: 35 does not divide over 3"),
    ],
)
def test_wrong_choices_are_named(perceptron, build, choice, message):
    with pytest.raises(ValueError, match=message):
        build(perceptron, "none", [0.0], **choice)
