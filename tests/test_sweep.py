"""A small sweep over the real PGDL layout, from its files to the results on disk."""

import shutil

import jax
import numpy as np
import pytest

from configs import pgdl as pgdl_config
from persist_jax.experiment import load_experiment
from persist_jax.results.records import Run, read_history, read_result
from persist_jax.sweep import Sweep
from persist_jax.training.checkpoints import BEST, Checkpoints


@pytest.fixture(scope="module")
def experiment(request, tmp_path_factory):
    data = request.path.parent / "data"
    config = pgdl_config.get_config()
    config.dataset.root = str(data / "pgdl_sample")
    config.dataset.cache = str(tmp_path_factory.mktemp("cache"))
    config.networks = ("148",)
    config.regularisers = ("none", "t1")
    config.weights = (0.01,)
    config.continued = True
    config.devices = 1
    config.train.update(
        batch_size=242, epochs=4, learning_rate=0.05, sampling=0.05, checkpoint_every=1
    )
    return load_experiment(config, {"networks"})


@pytest.fixture(scope="module")
def workdir(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    assert Sweep(experiment, folder).train()
    return folder


def test_the_plan_says_what_there_is_to_do(experiment, tmp_path):
    lines = "\n".join(Sweep(experiment, tmp_path).describe())
    assert "pgdl: 2 runs, 0 finished" in lines
    assert "484 training examples, 2 steps an epoch, at most 4 epochs = 8 steps a run" in lines
    assert "model_148: n = 124 points, 2 of 2 runs to train, lanes one after another" in lines


def test_every_run_starts_from_the_given_weights(workdir, request):
    golden = np.load(request.path.parent / "data" / "pgdl_sample" / "golden.npz")
    for regulariser, weight in (("none", 0.0), ("t1", 0.01)):
        record = read_result(Run("model_148", regulariser, weight, 0).folder(workdir))
        initial = record.accuracy["initial"]["test"]
        np.testing.assert_allclose(initial, golden["148/init_test_acc"], atol=1e-6)
        assert record.status == "completed"


def test_a_finished_sweep_has_nothing_to_do(experiment, workdir):
    sweep = Sweep(experiment, workdir)
    assert "2 runs, 2 finished" in next(iter(sweep.describe()))
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    assert sweep.train()
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_a_finished_run_is_continued_without_its_regulariser(workdir):
    folder = Run("model_148", "t1", 0.01, 0).folder(workdir)
    before, after = read_result(folder), read_result(folder / "continued")
    assert (after.run, after.status) == (before.run, "completed")
    start = max((e for e in Checkpoints(folder).epochs() if e < before.best_epoch), default=0)
    history = read_history(folder / "continued")
    assert len(history["validation_loss"]) == 4 - start
    assert np.all(history["train_term"] == 0)
    assert np.any(read_history(folder)["train_term"] != 0)
    assert not (Run("model_148", "none", 0.0, 0).folder(workdir) / "continued").exists()


def test_continuing_starts_from_the_checkpoint(workdir):
    """Its first cross-entropy is that of the regularised run in the same iteration."""
    run = Run("model_148", "t1", 0.01, 0)
    folder = run.folder(workdir)
    before, after = read_history(folder), read_history(folder / "continued")
    start = 4 - len(after["validation_loss"])
    entropy = before["train_loss"] - before["train_term"]
    np.testing.assert_allclose(after["train_loss"][0], entropy[2 * start], rtol=1e-5)


def test_best_weights_give_the_recorded_accuracy(experiment, workdir):
    run = Run("model_148", "t1", 0.01, 0)
    subject = experiment.subjects["model_148"]
    like = jax.tree.map(np.asarray, subject.initial(0))
    variables = Checkpoints(run.folder(workdir)).load(BEST, like)
    logits, _ = subject.network.apply(variables, experiment.dataset.test.x)
    accuracy = np.mean(np.asarray(logits).argmax(axis=1) == experiment.dataset.test.y)
    recorded = read_result(run.folder(workdir)).accuracy["trained"]["test"]
    np.testing.assert_allclose(accuracy, recorded, atol=1e-6)


def test_a_broken_result_is_an_error_and_not_trained_over(experiment, workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "copy")
    broken = Run("model_148", "none", 0.0, 0).folder(tmp_path / "copy") / "result.json"
    broken.write_text("{")
    with pytest.raises(ValueError, match="result.json"):
        Sweep(experiment, tmp_path / "copy").train()
    assert broken.read_text() == "{"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"networks": ("model_99",)}, "networks: 'model_99' is not one of model_20, model_21"),
        ({"parallel": "rows"}, "parallel: 'rows' is not one of lanes, batch"),
    ],
)
def test_wrong_configurations_are_named(experiment, tmp_path, change, message):
    config = pgdl_config.get_config()
    config.dataset.root = experiment.config["dataset"]["root"]
    config.dataset.cache = experiment.config["dataset"]["cache"]
    config.update(change)
    with pytest.raises(ValueError, match=message):
        Sweep(load_experiment(config, set(change)), tmp_path)
