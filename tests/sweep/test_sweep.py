"""A small sweep over the real PGDL layout, from its files to the results on disk."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import pgdl as pgdl_config
from persist_jax.store.checkpoints import best_checkpoint, load, numbered
from persist_jax.store.history import read_history
from persist_jax.store.record import read_result
from persist_jax.store.run import Run
from persist_jax.sweep import load_experiment, read_configuration, run_sweep
from persist_jax.sweep.plan import describe, describe_training


def _fields(request, cache):
    config = pgdl_config.get_config()
    config.dataset.root = str(request.path.parents[1] / "data" / "pgdl_sample")
    config.dataset.cache = str(cache)
    config.networks = ("148",)
    config.regularisers = ("none", "t1")
    config.weights = (0.01,)
    config.continued = True
    config.devices = 1
    config.train.update(batch_size=242, epochs=4, sampling=0.05, checkpoint_every=1)
    config.train.optimiser.learning_rate = 0.05
    return config


@pytest.fixture(scope="module")
def experiment(request, cache):
    config, _ = read_configuration(_fields(request, cache), {"networks"})
    return load_experiment(config)


@pytest.fixture(scope="module")
def workdir(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    assert run_sweep(experiment, folder)
    return folder


def test_the_plan_says_what_there_is_to_do(experiment, tmp_path):
    lines = "\n".join([*describe(experiment.config, tmp_path), *describe_training(experiment)])
    assert "pgdl: 2 runs, 0 finished" in lines
    assert "model_148: 2 of 2 runs to train" in lines
    assert "484 training examples, 2 steps an epoch, at most 4 epochs = 8 steps a run" in lines
    assert "model_148: n = 124 points, lanes one after another on 1 device (cpu)" in lines


def test_every_run_starts_from_the_given_weights(workdir, request):
    golden = np.load(request.path.parents[1] / "data" / "pgdl_sample" / "golden.npz")
    for regulariser, weight in (("none", 0.0), ("t1", 0.01)):
        record = read_result(Run("model_148", regulariser, weight, 0).folder(workdir))
        initial = record.accuracy.initial.test
        np.testing.assert_allclose(initial, golden["148/init_test_acc"], atol=1e-6)
        assert record.status == "completed"


def test_a_finished_sweep_has_nothing_to_do(experiment, workdir):
    assert "2 runs, 2 finished" in next(iter(describe(experiment.config, workdir)))
    def files():
        paths = [path for path in workdir.rglob("*") if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in paths if path.name != "lock"}

    before = files()
    assert run_sweep(experiment, workdir)
    assert files() == before


def test_a_finished_run_is_continued_without_its_regulariser(workdir):
    folder = Run("model_148", "t1", 0.01, 0).folder(workdir)
    before, after = read_result(folder), read_result(folder / "continued")
    assert (after.run, after.status) == (before.run, "completed")
    assert before.redundancy.initial.neurons == after.redundancy.trained.neurons == 124
    assert after.redundancy.initial is None
    kept = numbered(best_checkpoint(folder).parent)
    start = max((e for e in kept if e < before.best_epoch), default=0)
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
    folder = Run("model_148", "t1", 0.01, 0).folder(workdir)
    model, test = experiment.models["model_148"], experiment.dataset.test
    like = model.init(jax.random.key(0), jnp.zeros((1, *experiment.dataset.input_shape)))
    variables = load(best_checkpoint(folder), jax.tree.map(np.asarray, like))
    logits, _ = model.apply(variables, test.x)
    accuracy = np.mean(np.asarray(logits).argmax(axis=1) == test.y)
    np.testing.assert_allclose(accuracy, read_result(folder).accuracy.trained.test, atol=1e-6)


def test_a_broken_result_is_an_error_and_not_trained_over(experiment, workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "copy")
    broken = Run("model_148", "none", 0.0, 0).folder(tmp_path / "copy") / "result.json"
    broken.write_text("{")
    with pytest.raises(ValueError, match="result.json"):
        run_sweep(experiment, tmp_path / "copy")
    assert broken.read_text() == "{"


@pytest.mark.slow
def test_moved_data_is_the_same_data_and_changed_weights_are_another_network(
    request, cache, experiment, tmp_path
):
    root = tmp_path / "moved"
    shutil.copytree(request.path.parents[1] / "data" / "pgdl_sample", root)
    fields = _fields(request, cache)
    fields.dataset.root = str(root)
    moved = load_experiment(read_configuration(fields, {"networks"})[0]).config
    assert moved.dataset_checksum == experiment.config.dataset_checksum
    assert moved.checksums == experiment.config.checksums
    models = root / "input_data" / "task1_v4"
    shutil.copy(
        models / "model_148" / "weights.hdf5", models / "model_148" / "weights_init.hdf5"
    )
    changed = load_experiment(read_configuration(fields, {"networks"})[0]).config
    assert changed.dataset_checksum == experiment.config.dataset_checksum
    assert changed.checksums != experiment.config.checksums


def test_networks_that_the_data_lacks_are_left_out_or_named(request, cache):
    fields = _fields(request, cache)
    fields.networks = ("model_20", "model_151")
    config, notices = read_configuration(fields)
    assert config.networks == ("model_20",)
    assert notices == ("The data set has no model_151: skipped.",)
    with pytest.raises(ValueError, match="networks: 'model_151' is not one of model_20, model_21"):
        read_configuration(fields, {"networks"})
