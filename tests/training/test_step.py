from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import persist_jax as pj
from persist_jax import models, pgdl
from persist_jax.terms import REGULARISERS
from persist_jax.training.optimisers import make_optimiser
from persist_jax.training.state import (
    GRADIENT,
    LOSS,
    REASONS,
    VALIDATION,
    Data,
    initial_state,
    initial_variables,
)
from persist_jax.training.step import (
    Batch,
    _all_finite,
    check_dropout,
    cross_entropy,
    make_step,
)


def _published_options(options, case):
    nesterov = str(case["optimizer"]) == "nesterov"
    optimiser = {
        "name": "sgd",
        "learning_rate": 0.01 if nesterov else 0.001,
        "momentum": 0.9,
        "nesterov": nesterov,
    }
    if nesterov:
        optimiser["schedule"] = {"name": "staircase", "decay_rate": 0.95, "decay_steps": 3}
    return options.replace(optimiser=optimiser, sampling=float(case["sampling"]))


def _train_on(case, options, weight):
    options = _published_options(options, case)
    optimiser = make_optimiser(options.optimiser)
    term = options.term(str(case["term"]))
    step = jax.jit(make_step(case.network, optimiser, term, options))
    state = initial_state(case.weights(), optimiser, options, 0, with_term=True)
    for iteration in range(int(case["epochs"])):
        batch = Batch(jnp.asarray(case["x"]), jnp.asarray(case["y"]), jnp.int32(iteration))
        state, _ = step(state, batch, jnp.float32(weight))
    return state


def _distance(case, state):
    """Largest relative error over the weights, relative to how far each of them travelled."""
    error = jax.tree.map(
        lambda ours, theirs, start: np.linalg.norm(ours - theirs) / np.linalg.norm(theirs - start),
        state.variables,
        case.weights("final:w"),
        case.weights(),
    )
    return max(jax.tree.leaves(error))


@pytest.mark.parametrize(
    "name",
    [
        "train_conv_bn_l2",
        "train_conv_t1",
        pytest.param("train_mlp_l1", marks=pytest.mark.slow),
        pytest.param("train_mlp_l2", marks=pytest.mark.slow),
        "train_mlp_t2",
    ],
)
def test_end_weights_are_those_of_the_published_training(golden, options, name):
    case = golden(name)
    assert _distance(case, _train_on(case, options, case["weight"])) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_mlp_t1", "train_mlp_min_corr"])
def test_published_regulariser_had_no_effect_beside_constant_neurons(golden, options, name):
    """There its gradient was NaN and was replaced by 0; ours is finite and moves the weights."""
    case = golden(name)
    _, activations = case.network.apply(case.weights(), jnp.asarray(case["x"]))
    points = np.asarray(pj.sample_neurons(activations, float(case["sampling"])))
    assert np.any(points.max(axis=1) == points.min(axis=1))
    assert _distance(case, _train_on(case, options, 0.0)) < 1e-4
    state = _train_on(case, options, case["weight"])
    assert bool(state.active)
    assert _distance(case, state) > 0.05


def _setup(network, options, name="t1", seed=0):
    optimiser = make_optimiser(options.optimiser)
    variables = jax.jit(network.init)(jax.random.key(1), jnp.zeros((1, *network.input_shape)))
    term = options.term(name)
    state = initial_state(variables, optimiser, options, seed, with_term=name != "none")
    return state, make_step(network, optimiser, term, options)


def _batch(dataset, iteration=0, size=32):
    return Batch(
        jnp.asarray(dataset.train.x[:size]),
        jnp.asarray(dataset.train.y[:size]),
        jnp.int32(iteration),
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "t1" else pytest.mark.slow)
        for name in REGULARISERS
        if name not in ("none", "dropout")
    ],
)
def test_one_compilation_serves_every_weight(perceptron, options, dataset, name):
    chex.clear_trace_counter()
    state, step = _setup(perceptron, options, name)
    compiled = jax.jit(chex.assert_max_traces(step, n=1))
    losses = [
        float(compiled(state, _batch(dataset), jnp.float32(weight))[1].term)
        for weight in (1e-6, 0.1, 100.0)
    ]
    np.testing.assert_allclose(np.array(losses) / losses[1], [1e-5, 1, 1e3], rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("t2", "min_corr") else pytest.mark.slow)
        for name in REGULARISERS
        if name not in ("none", "dropout")
    ],
)
def test_gradients_are_finite_with_dead_and_twin_neurons(options, dataset, name):
    network = models.mlp((8, 8, 1), hidden=(12, 8))
    state, step = _setup(network, options, name)
    params = jax.tree.map(np.array, state.params)
    params["layer_01"]["kernel"][:, :3] = 0  # dead neurons
    params["layer_01"]["kernel"][:, 4] = params["layer_01"]["kernel"][:, 3]  # twins
    state = state._replace(params=jax.tree.map(jnp.asarray, params))
    after, metrics = jax.jit(step)(state, _batch(dataset), jnp.float32(1.0))
    assert bool(after.active) and np.isfinite(metrics.loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))


def test_a_term_of_every_third_iteration_is_reused_in_between(options, dataset):
    """Against the sum written out by hand: cross-entropy's gradient plus the last term's."""
    network = models.mlp((8, 8, 1), hidden=(12, 8))
    plain = {"name": "sgd", "learning_rate": 0.05}
    options = options.replace(term_every=3, optimiser=plain)
    state, step = _setup(network, options, "t1")
    step, weight, params, kept = jax.jit(step), jnp.float32(0.1), state.params, None

    @jax.jit
    @jax.grad
    def slope_of_entropy(params, batch):
        return cross_entropy(network.apply({"params": params}, batch.x)[0], batch.y)

    @jax.jit
    @jax.value_and_grad
    def term(params, batch):
        _, activations = network.apply({"params": params}, batch.x)
        points = pj.sample_neurons(activations, options.sampling)
        return weight * pj.t1(pj.correlation_deaths(points))

    for iteration in range(5):
        batch = Batch(
            jnp.asarray(dataset.train.x[iteration * 20 :][:32]),
            jnp.asarray(dataset.train.y[iteration * 20 :][:32]),
            jnp.int32(iteration),
        )
        state, metrics = step(state, batch, weight)
        if iteration % 3 == 0:
            kept = term(params, batch)
        slopes = slope_of_entropy(params, batch), kept[1]
        params = jax.tree.map(lambda p, s, t: p - 0.05 * np.add(s, t), params, *slopes)
        np.testing.assert_allclose(metrics.term, kept[0], rtol=1e-5)
    chex.assert_trees_all_close(state.params, params, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_reusing_every_iteration_is_the_plain_step(perceptron, options, dataset):
    """With the term due each time, the two ways to differentiate agree."""
    results = []
    for every in (1, 2):
        state, step = _setup(perceptron, options.replace(term_every=every), "t2")
        step = jax.jit(step)
        for iteration in (0, 2, 4):  # all of them multiples of 2
            state, _ = step(state, _batch(dataset, iteration), jnp.float32(0.5))
        results.append(state.params)
    # The second step is the last one that was made, and iteration 5 is not its turn.
    _, metrics = step(state, _batch(dataset, 5), jnp.float32(0.5))
    assert float(metrics.term) == float(state.last_term.value) != 0
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-7)


def test_a_step_that_is_not_finite_changes_nothing_and_ends_the_lane(
    perceptron, options, dataset
):
    state, step = _setup(perceptron, options, "l2")
    step = jax.jit(step)
    # What is dropped depends on the iteration and on the seed.
    others = (state, 7), (state, 8), (state._replace(seed=jnp.int32(1)), 7)
    losses = [float(step(s, _batch(dataset, i), jnp.float32(0.0))[1].loss) for s, i in others]
    assert len(set(losses)) == 3
    after, _ = step(state, _batch(dataset, 7), jnp.float32(np.inf))
    chex.assert_trees_all_equal(after.params, state.params)
    assert not bool(after.active)
    assert (int(after.reason), int(after.ended_at)) == (LOSS, 7)
    later, _ = step(after, _batch(dataset, 8), jnp.float32(0.0))
    chex.assert_trees_all_equal(later, after)


@mock.patch.dict(REGULARISERS)
def test_a_gradient_that_is_not_finite_is_told_from_a_loss(perceptron, options, dataset):
    optimiser = make_optimiser(options.optimiser)
    REGULARISERS.register("root", of="params")(lambda params: jnp.sqrt(0 * jnp.sum(params["w"])))
    variables = perceptron.init(jax.random.key(1), jnp.zeros((1, 8, 8, 1)))
    variables["params"]["w"] = jnp.ones(2)
    state = initial_state(variables, optimiser, options, 0, with_term=True)
    step = jax.jit(make_step(perceptron, optimiser, options.term("root"), options))
    after, metrics = step(state, _batch(dataset), jnp.float32(1.0))
    assert np.isfinite(metrics.loss) and int(after.reason) == GRADIENT


def test_the_term_sees_the_network_in_inference_mode(options, dataset):
    """With the weights before the step, the moving averages after it, and no way through those."""
    layers = [("Flatten", {}), ("Dense", {"units": 6}), ("BatchNormalization", {})]
    layers += [("Dropout", {"rate": 0.5}), ("Dense", {"units": 10})]
    network = pgdl.network_from_config(
        {
            "input_shape": [8, 8, 1],
            "model_config": [{"layer_name": name, **fields} for name, fields in layers],
        }
    )
    # The averages matter to the logits, which alone are kept; the batch moves them far.
    options, batch, trained = options.replace(sampling=0.05), _batch(dataset), []
    batch = batch._replace(x=30 * batch.x)

    @jax.jit
    def expected(variables, x):
        _, activations = network.apply(variables, x, train=False)
        points = pj.sample_neurons(activations, options.sampling)
        assert points.shape == (10, 32)
        return pj.t1(pj.correlation_deaths(points))

    for every in (1, 2):
        state, step = _setup(network, options.replace(term_every=every), "t1")
        after, metrics = jax.jit(step)(state, batch, jnp.float32(1.0))
        variables = {"params": state.params, **after.collections}
        np.testing.assert_allclose(metrics.term, expected(variables, batch.x), rtol=1e-5)
        trained.append(after.params)
    chex.assert_trees_all_close(*trained, rtol=1e-4, atol=1e-6)


def test_one_number_that_is_not_finite_is_enough():
    fine = {"a": jnp.ones(3), "b": jnp.ones((2, 2))}
    assert _all_finite(fine)
    for bad in (jnp.nan, jnp.inf):
        assert not _all_finite(fine | {"a": fine["a"].at[1].set(bad)})
        assert not _all_finite(fine | {"b": fine["b"].at[1, 0].set(bad)})


def test_without_a_term_there_is_none_to_reuse(perceptron, options, dataset):
    state, step = _setup(perceptron, options.replace(term_every=2), "none")
    after, metrics = jax.jit(step)(state, _batch(dataset), jnp.float32(1.0))
    assert after.last_term is None and float(metrics.term) == 0


def test_the_state_of_a_run_before_its_first_step(perceptron, options, dataset):
    variables = initial_variables(perceptron, (8, 8, 1), 5)
    expected = perceptron.init(jax.random.key(5), jnp.zeros((1, 8, 8, 1)))
    chex.assert_trees_all_equal(variables, expected)
    optimiser = make_optimiser(options.optimiser)
    for every, with_term in ((1, True), (2, False), (2, True)):
        changed = options.replace(term_every=every)
        state = initial_state(variables, optimiser, changed, 5, with_term=with_term)
        if every == 1 or not with_term:
            assert state.last_term is None
    leaves = jax.tree.leaves(state.last_term)
    assert len(leaves) == 1 + len(jax.tree.leaves(variables))
    assert not any(np.any(np.asarray(leaf)) for leaf in leaves)
    numbers = state.seed, state.reason, state.ended_at, state.wait, state.best.epoch
    assert [int(number) for number in numbers] == [5, 0, -1, 0, 0]
    assert all(isinstance(n, jax.Array) and n.dtype == jnp.int32 for n in numbers)
    assert bool(state.active) and np.isposinf(state.best.loss)
    assert isinstance(state.active, jax.Array) and isinstance(state.best.loss, jax.Array)
    chex.assert_trees_all_equal(state.variables, variables)
    chex.assert_trees_all_equal(state.best.variables, variables)
    parts = Data.of(dataset)
    assert (parts.train, parts.validation) == (dataset.train, dataset.validation)
    words = [REASONS[reason].split()[1:-3] for reason in (LOSS, GRADIENT, VALIDATION)]
    assert words == [["loss"], ["gradient"], ["validation", "loss"]]


def test_several_terms_are_added(options, dataset):
    """Against the gradient of the sum, written out by hand."""
    network = models.mlp((8, 8, 1), hidden=(12, 8))
    plain = {"name": "sgd", "learning_rate": 1.0}
    options = options.replace(optimiser=plain, sampling=1.0)
    term, added = options.terms("t2+l2", {"l2": {"weight": 0.003}, "t2": {"alpha": 0.3}})
    optimiser, batch = make_optimiser(plain), _batch(dataset)
    variables = jax.jit(network.init)(jax.random.key(1), batch.x[:1])
    state = initial_state(variables, optimiser, options, 0, with_term=True)

    def summed(params):
        logits, activations = network.apply({"params": params}, batch.x)
        deaths = pj.correlation_deaths(pj.sample_neurons(activations, 1.0))
        terms = 2.0 * pj.t2(deaths, 0.3) + 0.003 * pj.l2(params)
        return cross_entropy(logits, batch.y) + terms, terms

    @jax.jit
    def both(state):
        step = make_step(network, optimiser, term, options, added)
        return step(state, batch, 2.0), jax.value_and_grad(summed, has_aux=True)(state.params)

    (after, metrics), ((loss, terms), slopes) = both(state)
    np.testing.assert_allclose((metrics.loss, metrics.term), (loss, terms), rtol=1e-6)
    moved = jax.tree.map(lambda new, old: old - new, after.params, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), moved, slopes)


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("t2+t2", {}, "regulariser: 't2+t2' is not a sum of different terms"),
        ("t2+none", {}, "regulariser: 't2+none' is not a sum of different terms"),
        ("t2+l2", {}, "terms.t2+l2.l2.weight: missing"),
        ("t2+l2", {"l2": {"weight": -1.0}}, "terms.t2+l2.l2.weight: -1 must not be below 0"),
        ("t2+l2", {"t1": {}, "l2": {"weight": 1}}, "terms.t2+l2: 't1' is not one of t2, l2"),
        ("t2+dropout", {"dropout": {"weight": 1.0}}, "terms.t2+dropout.dropout.weight: 1 must be"),
    ],
)
def test_a_wrong_sum_is_one_line(options, name, parameters, words):
    with pytest.raises(ValueError) as error:
        options.terms(name, parameters)
    assert str(error.value).startswith(words)


def test_dropout_of_a_rate_is_compared_as_a_term(options, dataset):
    """The rate is the weight: one program serves every rate, and 0 is the network without."""
    network = models.mlp((8, 8, 1), hidden=(12, 8))
    state, step = _setup(network, options, "dropout")
    compiled = jax.jit(chex.assert_max_traces(step, n=1))
    found = [compiled(state, _batch(dataset), jnp.float32(rate)) for rate in (0.0, 0.5, 0.5)]
    losses = [float(metrics.loss) for _, metrics in found]
    key, batch = jax.random.fold_in(jax.random.key(0), 0), _batch(dataset)

    @jax.jit
    def wanted(rate):
        logits = network.apply_in_training(state.variables, batch.x, key, rate)[0][0]
        return cross_entropy(logits, batch.y)

    expected = [wanted(jnp.float32(rate)) for rate in (0.0, 0.5)]
    np.testing.assert_allclose(losses[:2], expected, rtol=1e-5)
    without = cross_entropy(jax.jit(network.apply)(state.variables, batch.x)[0], batch.y)
    np.testing.assert_allclose(losses[0], without, rtol=1e-5)
    assert losses[1] == losses[2] != losses[0] and all(m.term == 0 for _, m in found)
    with pytest.raises(ValueError, match="^regularisers: dropout drops values of hidden layers"):
        check_dropout(models.resnet((8, 8, 1), blocks=1, width=2), options.term("dropout"), ())


def test_a_share_of_what_hidden_layers_give_is_dropped():
    """A hidden layer of ones that the logits repeat."""
    network = models.mlp((4,), 1000, hidden=(1000,))
    params = {
        "layer_01": {"kernel": np.zeros((4, 1000)), "bias": np.ones(1000)},
        "layer_02": {"kernel": np.eye(1000), "bias": np.zeros(1000)},
    }
    params = jax.tree.map(lambda x: x.astype("float32"), params)
    x = np.zeros((3, 4), "float32")

    @jax.jit
    def logits(rate):
        return network.apply_in_training({"params": params}, x, jax.random.key(0), rate)[0][0]

    for rate in (0.2, 0.5):
        values = np.asarray(logits(jnp.float32(rate)))
        np.testing.assert_allclose(np.unique(values), [0, 1 / (1 - rate)], rtol=1e-6)
        assert abs(np.mean(values == 0) - rate) < 0.04
        assert not np.array_equal(values[0], values[1])
