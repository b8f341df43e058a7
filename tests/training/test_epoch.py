import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import persist_jax as pj
from persist_jax import models
from persist_jax.data.dataset import Split
from persist_jax.training.epoch import EpochPlan, _order, _stop_early, evaluate, in_batches, watch
from persist_jax.training.optimisers import make_optimiser
from persist_jax.training.options import Options
from persist_jax.training.state import VALIDATION, Lane, initial_state


@pytest.fixture(scope="module")
def variables(perceptron):
    return jax.jit(perceptron.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


def _cross_entropy(logits, y):
    logits = np.asarray(logits, np.float64)
    likelihood = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -likelihood[np.arange(len(y)), y].mean()


def test_validation_is_the_mean_over_all_examples(perceptron, variables, dataset):
    """70 examples in batches of 32: the last one is padded, and padding must not count."""
    x, y = dataset.validation
    (loss, accuracy), logits = jax.jit(
        lambda variables: (
            evaluate(perceptron, variables, dataset.validation, 32),
            perceptron.apply(variables, x)[0],
        )
    )(variables)
    np.testing.assert_allclose(loss, _cross_entropy(logits, y), rtol=1e-5)
    np.testing.assert_allclose(accuracy, np.mean(logits.argmax(axis=1) == y), rtol=1e-6)


@pytest.fixture(scope="module")
def planted():
    """Four of ten hidden neurons are constant on the first 32 examples, two on all 50."""

    def apply(params, x):
        a, b, c, d, e = x.T
        hidden = [a, b, 0 * a + 7, -0.1 * a, 0 * b, c, a * b, a + b, d, e]
        return x[:, :2], [params["scale"] * jnp.stack(hidden, 1), x[:, :2]]

    x = np.random.default_rng(0).normal(size=(50, 5)).astype("float32")
    x[:, 0] = [-1, 0, 1, 0] * 8 + [-1, 1] * 9  # its mean is one of its values
    x[:32, 2] = 5.0
    x[:, 3] = np.arange(50) // 8  # constant on the share of each of four devices
    x[:48, 4] = 0.0
    network = models.function(lambda key, x: {"scale": jnp.ones(())}, apply)
    return network, Split(x, np.zeros(50, "int32"))


def _counted(network, options, split):
    """How many neurons of a network are constant, as a function of its variables."""
    term, size = options.term(), options.batch_size
    return jax.jit(
        lambda variables: watch(network, term, variables, split, size, measured=False)[0]
    )


# The most active half has the neurons that are 7 and 5; those that are 0 are the least active.
@pytest.mark.parametrize("sampling, batch, wanted", [(1.0, 32, 4), (0.5, 32, 2), (1.0, 50, 2)])
def test_constant_neurons_are_counted_on_the_first_batch(
    planted, options, sampling, batch, wanted
):
    network, split = planted
    options = options.replace(sampling=sampling, batch_size=batch)
    variables = network.init(jax.random.key(0), split.x)
    count = _counted(network, options, split)(variables)
    assert (int(count), count.dtype) == (wanted, jnp.int32)


def test_what_is_not_finite_is_not_constant(planted, options):
    network, split = planted
    lost, options = {"params": {"scale": jnp.asarray(jnp.inf)}}, options.replace(batch_size=32)
    assert _counted(network, options, split)(lost) == 0


@pytest.mark.parametrize("examples", [32, 50])
def test_constant_neurons_of_a_shared_batch_are_those_of_the_whole(planted, options, examples):
    """32 divide over four devices; 50, fewer than a batch, do not."""
    network, split = planted
    options = options.replace(sampling=1.0, batch_size=examples if examples == 32 else 64)

    def count(variables):
        shared = network.sharing("devices")
        term = replace(options.term(), axis_name="devices")
        return watch(shared, term, variables, split, options.batch_size, measured=False)[0]

    variables = {"params": {"scale": jnp.ones(4)}}
    found = jax.pmap(count, axis_name="devices", devices=jax.devices()[:4])(variables)
    assert found.tolist() == [4 if examples == 32 else 2] * 4


@pytest.fixture(scope="module")
def programs(perceptron, build):
    """An epoch has five steps; from the second one on they change next to nothing."""
    schedule = {"name": "staircase", "decay_rate": 1e-9, "decay_steps": 5}
    optimiser = {"name": "sgd", "learning_rate": 0.05, "schedule": schedule}
    sizes = {"batch_size": 32, "snapshot_every": 3}
    return build(perceptron, "l2", [0.1], optimiser=optimiser, **sizes)[0]


def _lanes(programs, state):
    return programs.layout.place([Lane(state, np.float32(0.1))]), np.array([True])


def _first_lane(programs, lanes):
    return jax.tree.map(lambda leaf: leaf[0], programs.layout.fetch(lanes.state))


def test_an_epoch_counts_the_constant_neurons_of_its_validation_examples(
    programs, perceptron, dataset, options
):
    lanes, wanted = _lanes(programs, programs.start(0))
    lanes, _ = programs.train_epoch(lanes, wanted, 0)()
    state = _first_lane(programs, lanes)
    first, x = dict(state.params["layer_01"]), dataset.validation.x[:32].reshape(32, -1)
    # On these examples nothing reaches the second layer.
    first["bias"] = -(x @ first["kernel"]).max(0) - np.float32(1e-3)
    state = state._replace(params=state.params | {"layer_01": first})
    lanes, metrics = programs.train_epoch(*_lanes(programs, state), 1)()
    assert metrics.constant_neurons.tolist() == [6 + 4 + 10]
    options = options.replace(batch_size=32)
    count = _counted(perceptron, options, dataset.test)
    assert count(_first_lane(programs, lanes).variables) < 20


def test_snapshots_are_the_deaths_before_the_step(perceptron, programs, dataset, options):
    lanes, wanted = _lanes(programs, programs.start(0))
    start = _first_lane(programs, lanes)
    lanes, first = programs.train_epoch(lanes, wanted, 0)()
    assert first.deaths.shape[1] == 2  # iterations 0 and 3 of 0..4
    assert int(_first_lane(programs, lanes).best.epoch) == 1
    seed = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 2**31 - 1), 0)
    x = dataset.train.x[np.asarray(jax.random.permutation(seed, 140))[:32]]
    _, activations = perceptron.apply(start.variables, x)
    points = pj.sample_neurons(activations, options.sampling)
    np.testing.assert_allclose(first.deaths[0, 0], pj.correlation_deaths(points), atol=1e-5)
    _, second = programs.train_epoch(lanes, wanted, 1)()
    assert programs.plan.snapshot_iterations(1) == [6, 9]
    assert np.isfinite(second.deaths).all()


@pytest.mark.parametrize("examples, batch, every", [(140, 32, 3), (64, 32, 50), (10, 32, 1)])
def test_snapshots_fit_their_rows(examples, batch, every):
    plan = EpochPlan(examples, batch, every)
    for epoch in range(60):
        rows = [i // every - (epoch * plan.steps + every - 1) // every
                for i in plan.snapshot_iterations(epoch)]
        assert rows == list(range(len(rows)))
        assert len(rows) <= plan.snapshots


def _published_early_stopping(losses, patience, min_delta):
    """Epoch of the best weights and of the end: the counter must exceed the patience."""
    best, best_epoch, wait = np.inf, 0, 0
    for epoch, loss in enumerate(losses, 1):
        wait += 1
        if loss < best - min_delta:
            best, best_epoch, wait = loss, epoch, 0
        elif wait > patience:
            return best_epoch, epoch
    return best_epoch, len(losses)


LOSSES = [3.0, 2.0, 2.5, 1.98, 2.0, 2.1, 2.2, 1.0]
# As good as the best is not better, nor is what is better by no more than `min_delta`.
TIES = [3.0, 2.5, 1.75, 1.75, 2.0, 2.1, 2.2, 1.0]


@pytest.mark.parametrize(
    "patience, min_delta, losses",
    [
        (2, 0.0, LOSSES),
        (3, 0.0, LOSSES),
        (2, 0.05, LOSSES),
        (None, 0.0, LOSSES),
        (0, 0.0, LOSSES),
        (2, 0.0, TIES),
        (None, 0.75, TIES),
    ],
)
def test_early_stopping_is_the_published_one(variables, options, patience, min_delta, losses):
    options = options.replace(patience=patience, min_delta=min_delta)
    state = initial_state(variables, make_optimiser(options.optimiser), options, 0, with_term=False)
    ended = len(losses)
    for epoch, loss in enumerate(losses, 1):
        state = state._replace(params=jax.tree.map(lambda leaf: leaf + 1, state.params))
        state = _stop_early(state, jnp.float32(loss), jnp.int32(epoch), 5, options)
        if not state.active:
            ended = epoch
            break
    forever = patience if patience is not None else np.inf
    assert (int(state.best.epoch), ended) == _published_early_stopping(losses, forever, min_delta)
    bias = state.best.params["layer_01"]["bias"]
    np.testing.assert_allclose(bias, np.full(12, int(state.best.epoch)), rtol=1e-6)


def test_a_validation_loss_that_is_not_finite_ends_the_lane(variables, options):
    state = initial_state(variables, make_optimiser(options.optimiser), options, 0, with_term=False)
    state = _stop_early(state, jnp.float32(np.nan), jnp.int32(3), 5, options)
    assert not state.active
    assert (int(state.reason), int(state.ended_at)) == (VALIDATION, 14)
    # Nothing that comes later changes a lane that has ended.
    for later in (np.nan, 0.1):
        after = _stop_early(state, jnp.float32(later), jnp.int32(4), 5, options)
        assert (int(after.reason), int(after.ended_at)) == (VALIDATION, 14)
        assert not after.active and int(after.best.epoch) == 0 and np.isinf(after.best.loss)


def test_every_epoch_and_seed_has_its_own_order_of_all_examples():
    orders = [np.asarray(_order(seed, number, 50)) for seed, number in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(50))
    assert all((orders[i] != orders[i - 1]).sum() > 25 for i in range(3))
    np.testing.assert_array_equal(orders[1], _order(jnp.int32(0), jnp.int32(1), 50))


def test_every_step_of_an_epoch_has_its_own_examples(build, dataset):
    """With a rate at which no weight moves; the last batch is what is left."""
    network = models.mlp((8, 8, 1), hidden=(6,))
    still = {"name": "sgd", "learning_rate": 1e-30}
    programs, lanes, wanted = build(network, "none", [0.0], batch_size=64, optimiser=still)
    start = _first_lane(programs, lanes)
    _, rows = programs.train_epoch(lanes, wanted, 1)()
    logits = np.asarray(jax.jit(network.apply)(start.variables, dataset.train.x)[0])
    cuts = np.split(np.asarray(_order(0, 1, 140)), [64, 128])
    expected = [_cross_entropy(logits[cut], dataset.train.y[cut]) for cut in cuts]
    np.testing.assert_allclose(rows.loss[0], expected, rtol=1e-5)


def test_an_epoch_is_cut_into_batches_and_a_rest():
    plan = EpochPlan(70, 32, 0)
    batches, rest = plan.cut(jnp.arange(70))
    np.testing.assert_array_equal(np.append(batches, rest), np.arange(70))
    assert batches.shape == (2, 32) and plan.steps == 3 and plan.snapshots == 0
    assert plan.snapshot_iterations(3) == []
    assert EpochPlan(64, 32, 3).snapshots == 1 and EpochPlan(64, 32, 3).steps == 2
    # On a last batch of one example, all deaths would be 1.
    assert EpochPlan(65, 32, 1).snapshot_iterations(1) == [3, 4]
    assert EpochPlan(66, 32, 1).snapshot_iterations(1) == [3, 4, 5]
    assert EpochPlan(1, 32, 1).snapshot_iterations(0) == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 0}, "train.batch_size: 0 must be at least 1"),
        ({"epochs": 2.5}, "train.epochs: 2.5 is not a whole number"),
        ({"patience": -1}, "train.patience: -1 must be at least 0"),
        ({"min_delta": float("inf")}, "train.min_delta: inf is not finite"),
        ({"neurons": "pixels"}, "train.neurons: 'pixels' is not one of positions, channels, to"),
        ({"lr": 1}, "train.lr: unknown field; did you mean train.optimiser.learning_rate?"),
        (
            {"optimiser": {"name": "adagrad", "learning_rate": 0.1}},
            "train.optimiser.name: 'adagrad' is not one of sgd, adam, adamw",
        ),
    ],
)
def test_wrong_options_are_named(options, change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Options.read(options.plain() | change)


def test_options_survive_a_file_and_an_option_left_out_is_the_papers(options):
    fields = options.plain()
    assert Options.read(fields) == options
    del fields["epochs"]
    assert Options.read(fields) == options.replace(epochs=1200)


def test_a_batch_is_not_larger_than_its_examples():
    for examples, size, shape in [(70, 32, (3, 32)), (70, 2_000_000, (1, 70)), (64, 32, (2, 32))]:
        positions = np.asarray(in_batches(examples, size, None))
        assert positions.shape == shape
        np.testing.assert_array_equal(positions.ravel(), np.arange(positions.size))
