"""What is measured of a trained network, each number against an independent way to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss as of_sklearn

from persist_jax import models
from persist_jax.models import at_precision
from persist_jax.models.given import GivenWeights
from persist_jax.redundancy import prune
from persist_jax.training import Evaluate, train
from persist_jax.training.evaluation import (
    calibration_error,
    chain_of,
    fitted_temperature,
    log_loss,
    logits_of,
    loss_reached,
    memorised,
    pruned,
    without_neurons,
)


def _softmax(logits):
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def _calibration_error(logits, y):
    probabilities, error = _softmax(np.asarray(logits, np.float64)), 0.0
    for low in range(15):
        own = [p.max() > low / 15 and p.max() <= (low + 1) / 15 for p in probabilities]
        if any(own):
            right = np.mean(probabilities[own].argmax(1) == y[own])
            error += np.mean(own) * abs(right - np.mean(probabilities[own].max(1)))
    return error


def _best_temperature(logits, y):
    logits = np.asarray(logits, np.float64)

    def loss(log_temperature):
        scaled = _softmax(logits / np.exp(log_temperature))
        return of_sklearn(y, scaled, labels=range(logits.shape[1]))

    found = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-8})
    return np.exp(found.x)


@pytest.fixture(scope="module")
def predicted():
    """Logits of an overconfident network, and labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 300).astype(np.int32)
    logits = 4 * rng.normal(size=(300, 5)) + 3 * np.eye(5)[y]
    return logits.astype(np.float32), y


def test_likelihood_calibration_and_temperature(predicted):
    logits, y = predicted
    find = jax.jit(lambda x, y: (log_loss(x, y), calibration_error(x, y), fitted_temperature(x, y)))
    loss, error, temperature = map(float, find(logits, y))
    np.testing.assert_allclose(loss, of_sklearn(y, _softmax(logits.astype(float))), rtol=1e-5)
    np.testing.assert_allclose(error, _calibration_error(logits, y), rtol=1e-4)

    np.testing.assert_allclose(temperature, _best_temperature(logits, y), rtol=1e-3)
    # A network that is always right cannot be too certain; one that says nothing stays finite.
    assert float(find(10 * np.eye(5, dtype=np.float32)[y], y)[2]) < 1e-2
    assert np.isfinite(find(0 * logits, y)).all()


def test_wrong_labels_that_are_predicted():
    logits = jnp.eye(3)[jnp.array([0, 1, 2, 2])]
    y, own = jnp.array([0, 1, 2, 1]), jnp.array([0, 0, 0, 0])
    assert float(memorised(logits, y, own)) == np.float32(2 / 3)
    assert np.isnan(float(memorised(logits, own, own)))


def test_the_epoch_of_a_loss_is_a_mean_over_examples():
    """Five examples in batches of 2, 2 and 1; of each loss 0.5 is the term's."""
    losses = np.array([[2, 2, 5], [1, 1, 4], [1, 1, 3], [0.5, 0.5, 0.5]]) + 0.5
    history = {
        "train_loss": losses.ravel().astype(np.float32),
        "train_term": np.full(12, 0.5, np.float32),
        "validation_accuracy": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
    }
    means = [(2 * a + 2 * b + c) / 5 for a, b, c in losses - 0.5]
    assert means[1:3] == [1.6, 1.4]
    assert loss_reached(history, 5, 2, 1.5) == (3, float(np.float32(0.3)))
    assert loss_reached(history, 5, 2, 0.4) is None
    diverged = {name: np.append(rows, np.float32(np.inf)) for name, rows in history.items()}
    diverged["validation_accuracy"] = history["validation_accuracy"]
    assert loss_reached(diverged, 5, 2, 0.5) == (4, float(np.float32(0.4)))


@pytest.fixture(scope="module", params=["dense", "convolutional"])
def chain(request, dataset):
    """A network, its weights, and examples."""
    if request.param == "dense":
        network = models.mlp((8, 8, 1), hidden=(6, 5))
    else:
        network = models.cnn((8, 8, 1), filters=(4,), hidden=(5,))
    x = dataset.train.x[:20]
    return network, jax.jit(network.init)(jax.random.key(0), x), x


def test_neurons_are_cut_off_at_random(chain):
    """Against a forward pass in NumPy from the hidden activations on."""
    network, variables, x = chain
    names = chain_of(network)
    share = 0.4
    params = without_neurons(variables["params"], names, share, jax.random.key(1))
    cut = {}
    for name, following in zip(names, names[1:], strict=False):
        count = len(params[name]["bias"])
        kernel = np.asarray(params[following]["kernel"])
        rows = kernel.reshape(-1, count, kernel.shape[-1])
        cut[name] = np.flatnonzero((rows == 0).all((0, 2)))
        assert len(cut[name]) == round(share * count)
        # Nothing else is changed.
        before = np.asarray(variables["params"][following]["kernel"]).reshape(rows.shape)
        np.testing.assert_array_equal(
            np.delete(rows, cut[name], 1), np.delete(before, cut[name], 1)
        )
    last, hidden = variables["params"][names[-1]], network.apply({"params": params}, x)[1][-2]
    seen = np.array(hidden)
    seen[:, cut[names[-2]]] = 0
    wanted = seen @ np.asarray(last["kernel"]) + np.asarray(last["bias"])
    found = network.apply({"params": params}, x)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("repair", [False, True])
def test_pruned_weights_compute_what_the_smaller_network_does(chain, repair):
    network, variables, x = chain
    variables = jax.tree.map(np.asarray, variables)
    found = network.apply(pruned(network, variables, x, 0.5, repair=repair), x)[0]
    layers = {name: variables["params"][name] for name in chain_of(network)}
    hidden = list(network.apply(variables, x)[1])[:-1]
    smaller, kept = prune(layers, hidden, keep=0.5, repair=repair)
    sizes = [len(neurons) for neurons in kept]
    if len(np.shape(variables["params"][chain_of(network)[0]]["kernel"])) == 2:
        of_that_size = models.mlp((8, 8, 1), hidden=tuple(sizes))
    else:
        of_that_size = models.cnn((8, 8, 1), filters=(sizes[0],), hidden=(sizes[1],))
    wanted = of_that_size.apply({"params": smaller}, x)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found, network.apply(variables, x)[0], atol=1e-2)


def test_one_share_stands_for_a_list_of_one():
    assert Evaluate.read({"pruning": 0.5}).pruning == (0.5,)


def test_networks_that_neurons_may_be_taken_out_of(perceptron, convolutional):
    names = ("layer_01", "layer_03", "layer_05")
    assert chain_of(perceptron) == chain_of(at_precision(perceptron, "highest")) == names
    given = at_precision(GivenWeights(perceptron, dict), "highest")
    assert chain_of(given) == names  # as every network of PGDL
    assert chain_of(convolutional) == chain_of(models.resnet((8, 8, 1), blocks=1, width=4)) == ()
    assert chain_of(models.mlp((4,), hidden=())) == ()


@pytest.fixture(scope="module")
def noisy(dataset):
    return dataset.__class__(
        "noisy", *dataset.parts.values(), drawn_examples=70, label_noise=0.4
    )


@pytest.fixture(scope="module")
def runs(noisy, options):
    """Two seeds that fit their wrong labels, with everything measured."""
    network = models.mlp((8, 8, 1), hidden=(24, 8))
    optimiser = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}
    evaluate = Evaluate(measures=True, noise=0.5, dropped=0.25, pruning=(0.5,))
    how = {"weights": (-0.01,), "seeds": (0, 1), "devices": 1, "evaluate": evaluate}
    options = options.replace(epochs=30, optimiser=optimiser, sampling=1.0)
    return network, train(network, noisy, options, regulariser="t1", **how)


@pytest.mark.parametrize("which", ["best", "last"])
def test_all_numbers_of_a_run(runs, noisy, which):
    network, (_, run) = runs
    variables = {"best": run.variables, "last": run.last}[which]
    found, own = run.evaluation[which], noisy.of_seed(1)
    x, y = noisy.test

    def right(variables, x, y):
        return np.mean(np.asarray(network.apply(variables, x)[0]).argmax(1) == y)

    logits = np.asarray(network.apply(variables, x)[0], np.float64)
    scaled = logits / found["temperature"]
    on_train = np.asarray(network.apply(variables, own.train.x)[0]).argmax(1)
    clean = noisy.train.y[noisy.drawn(1).positions]
    host = jax.tree.map(np.asarray, variables)
    wanted = {
        "train": np.mean(on_train == own.train.y),
        "validation": right(variables, *noisy.validation),
        "test": right(variables, x, y),
        "log_loss": of_sklearn(y, _softmax(logits), labels=range(10)),
        "calibration_error": _calibration_error(logits, y),
        "scaled_log_loss": of_sklearn(y, _softmax(scaled), labels=range(10)),
        "scaled_calibration_error": _calibration_error(scaled, y),
        "memorised": np.mean((on_train == own.train.y)[clean != own.train.y]),
        "pruned_0.5": right(pruned(network, host, own.train.x, 0.5, repair=False), x, y),
        "pruned_0.5_fitted": right(pruned(network, host, own.train.x, 0.5, repair=True), x, y),
    }
    np.testing.assert_allclose([found[n] for n in wanted], [*wanted.values()], rtol=2e-4)
    of_validation, hidden = network.apply(variables, noisy.validation.x)
    hidden = np.concatenate(hidden[:2], 1)
    np.testing.assert_allclose(
        found["temperature"], _best_temperature(of_validation, noisy.validation.y), rtol=1e-3
    )
    constant = np.ptp(hidden, axis=0) == 0
    assert found["constant"] == pytest.approx(constant.mean())
    correlations = np.abs(np.corrcoef(hidden[:, ~constant].T.astype(np.float64)))
    pairs = correlations[np.triu_indices(len(correlations), 1)]
    assert found["mean_correlation"] == pytest.approx(pairs.mean(), rel=1e-4)
    values = np.linalg.svd((hidden - hidden.mean(0)).T.astype(np.float64), compute_uv=False)
    shares = values[values > 0] / values.sum()
    rank = np.exp(-np.sum(shares * np.log(shares)))
    assert found["effective_rank"] == pytest.approx(rank, rel=1e-2)
    # Fewer neurons and noise cost accuracy, but leave more than chance.
    assert 0.1 < found["dropped_0.25"] < found["test"] and 0.1 < found["noise_0.5"] < found["test"]
    others = {"temperature", "constant", "mean_correlation", "effective_rank"}
    others |= {"dropped_0.25", "noise_0.5"}
    assert found.keys() == wanted.keys() | others


@pytest.mark.slow
@pytest.mark.needs_devices(2)
@pytest.mark.parametrize("parallel", ["batch", "lanes"])
def test_devices_measure_what_one_device_does(noisy, options, parallel):
    network = models.mlp((8, 8, 1), hidden=(12, 8))
    evaluate = Evaluate(measures=True, noise=0.5, dropped=0.25, pruning=(0.5,))
    options = options.replace(batch_size=40, epochs=2, sampling=1.0)
    found = [
        train(network, noisy, options, seeds=(0, 1), evaluate=evaluate, **how)
        for how in ({"devices": 1}, {"devices": 2, "parallel": parallel})
    ]
    for one, other in zip(*found, strict=True):
        for which in ("best", "last"):
            ours, theirs = other.evaluation[which], one.evaluation[which]
            assert ours.keys() == theirs.keys()
            np.testing.assert_allclose(
                [*ours.values()], [theirs[name] for name in ours], rtol=2e-3, atol=1 / 60
            )


def test_the_last_weights_have_fitted_more_wrong_labels(runs):
    for run in runs[1]:
        assert run.outcome["best_epoch"] < run.outcome["epochs"] == 30
        assert run.evaluation["last"]["memorised"] > run.evaluation["best"]["memorised"] + 0.1
        assert run.accuracy["trained"]["test"] == run.evaluation["best"]["test"]


def test_seeds_have_their_own_images_and_wrong_labels(runs, noisy):
    """The loss of the first epoch is that of the drawn examples in their order."""
    network, trained = runs
    for run in trained:
        own = noisy.of_seed(run.seed)
        order = np.asarray(_order(run.seed, 70))[:35]
        start = jax.jit(network.init)(jax.random.key(run.seed), own.train.x[:1])
        logits, hidden = network.apply(start, own.train.x[order])
        losses = -np.log(_softmax(np.asarray(logits, np.float64)))
        loss = losses[np.arange(35), own.train.y[order]].mean()
        found = run.history["train_loss"][0] - run.history["train_term"][0]
        np.testing.assert_allclose(found, loss, rtol=1e-4)


def _order(seed, examples):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**31 - 1), 0)
    return jax.random.permutation(key, examples)


def test_examples_are_changed_by_their_numbers_whatever_the_batch(runs, dataset):
    network, (run, _) = runs
    variables, split = run.variables, dataset.test
    whole = network.apply(variables, split.x * np.arange(1, 61).reshape(-1, 1, 1, 1))[0]

    def change(x, indices):
        return x * (1.0 + indices[:, None, None, None])

    for size in (60, 25):
        found = logits_of(network, variables, split, size, change=change)
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-3)
