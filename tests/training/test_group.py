"""Groups of runs: results on disk, interruption, divergence, compaction, continuation."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from persist_jax.results.records import Run, read_history, read_result
from persist_jax.training.checkpoints import BEST, Checkpoints
from persist_jax.training.group import Group, Job
from persist_jax.training.history import History
from persist_jax.training.lanes import Layout
from persist_jax.training.state import join

WEIGHTS = [1e-3, 1e38, 0.1]  # the second overflows in its first step
SIZES = {"batch_size": 70, "snapshot_every": 3, "epochs": 5}


@pytest.fixture(scope="module")
def programs(perceptron, build):
    return build(perceptron, "l2", WEIGHTS, **SIZES)[0]


@pytest.fixture(scope="module")
def group_in(programs, perceptron):
    def make(folder, weights=WEIGHTS, programs=programs):
        variables = perceptron.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        start = jax.tree.map(np.asarray, programs.initial_state(variables, 0))
        runs = [Run("mlp", "l2", weight, 0) for weight in weights]
        jobs = [Job(run, run.folder(folder), start) for run in runs]
        return Group(programs, jobs, folder / "group.json")

    return make


def _never():
    return False


def _after(epochs):
    """A wish to stop that comes during the epoch of that number."""
    calls = iter(range(100))
    return lambda: next(calls) >= epochs - 1


def _results(folder):
    everything = {}
    for weight in WEIGHTS:
        run = Run("mlp", "l2", weight, 0)
        record, history = read_result(run.folder(folder)), read_history(run.folder(folder))
        history.pop("seconds")
        everything[weight] = dataclasses.replace(record, seconds=0.0, folder=None), history
    return everything


@pytest.fixture(scope="module")
def uninterrupted(group_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    rows = []
    assert group_in(folder).train(rows.append, _never)
    assert [row.epoch for row in rows] == [1, 2, 3, 4, 5]
    return folder


def test_a_diverged_lane_says_why_and_leaves_the_others_alone(uninterrupted):
    results = _results(uninterrupted)
    record, history = results[1e38]
    assert record.status == "diverged"
    assert record.reason == "the loss is not finite at iteration 0"
    assert len(history["train_loss"]) == 1 and len(history["validation_loss"]) == 0
    for weight in (1e-3, 0.1):
        record, history = results[weight]
        assert (record.status, record.reason, record.epochs) == ("completed", None, 5)
        assert len(history["train_loss"]) == 10 and len(history["validation_loss"]) == 5
        assert np.isfinite(history["train_loss"]).all()


def test_a_record_is_what_its_history_says(uninterrupted):
    record, history = _results(uninterrupted)[0.1]
    assert record.best_epoch == 1 + int(np.argmin(history["validation_loss"]))
    assert record.best_iteration == 2 * record.best_epoch
    np.testing.assert_allclose(record.validation_loss, history["validation_loss"].min())
    assert history["deaths_iteration"].tolist() == [0, 3, 6, 9]
    assert history["deaths"].shape[0] == 4 and np.isfinite(history["deaths"]).all()
    assert np.all(history["train_term"] > 0)
    best = history["validation_accuracy"][record.best_epoch - 1]
    np.testing.assert_allclose(record.accuracy["trained"]["validation"], best)


def test_the_best_weights_are_on_disk(uninterrupted, perceptron, dataset):
    run = Run("mlp", "l2", 0.1, 0)
    record = read_result(run.folder(uninterrupted))
    like = jax.tree.map(
        np.asarray, perceptron.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    )
    weights = Checkpoints(run.folder(uninterrupted)).load(BEST, join(like["params"], {}))
    logits, _ = perceptron.apply(weights, dataset.test.x)
    accuracy = np.mean(np.asarray(logits).argmax(axis=1) == dataset.test.y)
    np.testing.assert_allclose(accuracy, record.accuracy["trained"]["test"])


def test_a_finished_run_keeps_the_last_state_before_its_best(uninterrupted):
    run = Run("mlp", "l2", 0.1, 0)
    best = read_result(run.folder(uninterrupted)).best_epoch
    kept = Checkpoints(run.folder(uninterrupted)).epochs()
    assert kept == [epoch for epoch in (2, 4) if epoch < best][-1:]
    assert not list(uninterrupted.rglob("history-*.npz"))
    assert not (uninterrupted / "group.json").exists()


@pytest.mark.parametrize("epochs", [1, 3])
def test_interrupted_and_resumed_is_uninterrupted_to_the_bit(
    group_in, uninterrupted, tmp_path, epochs
):
    assert not group_in(tmp_path).train(lambda row: None, _after(epochs))
    assert json.loads((tmp_path / "group.json").read_text())["epoch"] == epochs
    resumed = group_in(tmp_path)
    assert resumed.epoch == epochs
    assert resumed.train(lambda row: None, _never)
    for weight, (record, history) in _results(uninterrupted).items():
        ours, rows = _results(tmp_path)[weight]
        assert ours == record
        assert rows.keys() == history.keys()
        for name in rows:
            np.testing.assert_array_equal(rows[name], history[name])


def test_a_kill_goes_on_from_the_last_checkpoint_to_the_same_end(
    group_in, uninterrupted, tmp_path, monkeypatch
):
    """Killed in epoch 4, with part of a later checkpoint written: epoch 2 is the last whole one."""

    class Killed(Exception):
        pass

    def die(self, epoch):
        if epoch == 4:
            raise Killed
        flush(self, epoch)

    flush = History.flush
    with monkeypatch.context() as patch:
        patch.setattr(History, "flush", die)
        with pytest.raises(Killed):
            group_in(tmp_path).train(lambda row: None, _never)
    resumed = group_in(tmp_path)
    assert resumed.epoch == 2
    assert resumed.train(lambda row: None, _never)
    ours, theirs = _results(tmp_path)[0.1], _results(uninterrupted)[0.1]
    assert ours[0] == theirs[0]
    np.testing.assert_array_equal(ours[1]["train_loss"], theirs[1]["train_loss"])


def test_compaction_changes_nothing(group_in, uninterrupted, tmp_path, monkeypatch):
    """Where lanes share a device one after another there is nothing to gain, so it is forced."""
    monkeypatch.setattr(Layout, "compacts", True)
    group = group_in(tmp_path, weights=[0.1, 1e38])
    sizes = []
    group.train(lambda row: sizes.append(len(group._slots)), _never)
    assert sizes[0] == 1
    np.testing.assert_array_equal(
        read_history(Run("mlp", "l2", 0.1, 0).folder(tmp_path))["train_loss"],
        _results(uninterrupted)[0.1][1]["train_loss"],
    )


def test_the_term_ends_after_its_epochs(perceptron, build, group_in, tmp_path):
    programs = build(perceptron, "l2", [0.1], **SIZES, term_epochs=2)[0]
    group_in(tmp_path, [0.1], programs).train(lambda row: None, _never)
    term = read_history(Run("mlp", "l2", 0.1, 0).folder(tmp_path))["train_term"]
    assert np.all(term[:4] > 0) and np.all(term[4:] == 0)
