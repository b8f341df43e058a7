"""A run loaded from its folder is what the training left, and everything else is one line."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

import persist_jax as pj
from persist_jax.store.checkpoints import best_checkpoint
from persist_jax.store.configuration import settle
from persist_jax.store.locks import locked
from persist_jax.store.run import Run
from persist_jax.sweep import load_experiment
from persist_jax.sweep.group import train_group
from tests.sweep.conftest import groups_of, train


@pytest.fixture(scope="module")
def workdir(small, tmp_path_factory):
    """Runs at two weights have ended, one of them diverged; `none` has not begun."""
    folder = tmp_path_factory.mktemp("loaded")
    weights = [0.1, 1e38]
    config = small(regularisers=["l2", "none"], weights=weights, seeds=[3], **{"train.epochs": 3})
    experiment = load_experiment(config)
    settle(experiment.config, folder, ())
    group, _ = groups_of(config, folder)
    with locked(group.lock(folder)) as lock:
        assert train_group(experiment, group, folder, lock)
    return folder


@pytest.fixture(scope="module")
def run(workdir):
    return pj.load_run(workdir, "mlp", "l2", 0.1, seed=3)


@pytest.mark.slow
def test_its_weights_give_what_the_record_says(run):
    for weights, accuracy in (
        (run.trained, run.record.accuracy.trained), (run.initial, run.record.accuracy.initial)
    ):  # fmt: skip
        for part, (x, y) in (("validation", run.dataset.validation), ("test", run.dataset.test)):
            logits, _ = run.model.apply(weights, x)
            right = np.mean(np.asarray(logits).argmax(1) == y)
            np.testing.assert_allclose(right, getattr(accuracy, part), atol=1e-6)
    assert run.record.accuracy.trained != run.record.accuracy.initial
    assert len(run.history["validation_loss"]) == run.record.epochs == 3
    assert repr(run) == "<mlp l2 0.1 seed3: completed after 3 epochs>"


def test_its_points_are_those_of_the_snapshots(run):
    """The first deaths on record are of the initial weights on the first batch of its order."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 2**31 - 1), 0)
    first = np.asarray(jax.random.permutation(key, len(run.dataset.train.y)))[:70]
    points = run.points(run.dataset.train.x[first], "initial")
    assert points.shape == (6 + 4 + 10, 70)
    np.testing.assert_allclose(pj.correlation_deaths(points), run.history["deaths"][0], atol=1e-5)


def test_its_record_counts_what_is_redundant(run):
    """As NumPy and SciPy count it, in double precision."""
    assert (run.record.redundancy.threshold, run.record.redundancy.examples) == (0.9, 70)
    for weights in ("initial", "trained"):
        points = np.asarray(run.points(run.dataset.validation.x[:70], weights), np.float64)
        with np.errstate(invalid="ignore"):
            size = np.nan_to_num(np.abs(np.corrcoef(points)))
        np.fill_diagonal(size, 1)
        _, labels = connected_components(size >= 0.9)
        sizes = np.bincount(labels)
        deaths = linkage(squareform(1 - size, checks=False), "single")[:, 2]
        found = getattr(run.record.redundancy, weights)
        assert found.neurons == len(points) == 20
        assert found.constant == np.sum(np.ptp(points, axis=1) == 0)
        assert (found.clusters, found.clustered) == (sum(sizes > 1), sum(sizes[sizes > 1]))
        np.testing.assert_allclose(found.deaths, np.quantile(deaths, np.arange(5) / 4), atol=1e-5)
        pairs = size[np.triu_indices(20, 1)]
        np.testing.assert_allclose(found.mean_correlation, pairs[pairs > 0].mean(), rtol=1e-5)


def test_its_activations_are_whole_layers_for_redundancy(run):
    layers = run.activations(run.dataset.test.x)
    assert [layer.shape for layer in layers] == [(60, 12), (60, 8), (60, 10)]
    assert pj.redundancy(layers).n == 30
    # In inference mode: no dropout, though the network has some.
    np.testing.assert_array_equal(layers[0], run.activations(run.dataset.test.x)[0])
    with pytest.raises(ValueError, match=r"^x: shape \(8, 8, 1\) is not \(b, 8, 8, 1\)$"):
        run.activations(run.dataset.test.x[0])
    with pytest.raises(ValueError, match="^weights: 'best' is not one of trained, last, init"):
        run.points(run.dataset.test.x, "best")


def test_its_last_weights_are_there_unless_its_folder_is_old(run, workdir, tmp_path):
    x, y = run.dataset.test
    right = np.mean(np.asarray(run.activations(x, "last")[-1]).argmax(1) == y)
    assert right == pytest.approx(run.record.evaluation.last["test"])
    old = shutil.copytree(workdir, tmp_path / "old")
    shutil.rmtree(old / run.record.folder.relative_to(workdir) / "checkpoint" / "last")
    loaded = pj.load_run(old, "mlp", "l2", 0.1, 3)
    assert loaded.last is None
    with pytest.raises(ValueError, match="^weights: version 0.2, which trained this run, saved no"):
        loaded.activations(x, "last")


def test_a_regulariser_of_ones_own_is_not_needed(run, workdir, tmp_path):
    """Its code may be in a file that nobody has imported here."""
    other = shutil.copytree(workdir, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["regularisers"] += ["of_mine"]
    (other / "config.json").write_text(json.dumps(config))
    loaded = pj.load_run(other, "mlp", "l2", 0.1, 3)
    jax.tree.map(np.testing.assert_array_equal, loaded.trained, run.trained)


def test_a_diverged_run_has_what_it_had(workdir):
    run = pj.load_run(workdir, "mlp", "l2", 1e38, 3)
    assert run.record.status == "diverged" and run.record.best_epoch == 0
    jax.tree.map(np.testing.assert_array_equal, run.trained, run.initial)


@pytest.mark.slow
def test_the_precision_of_a_sweep_is_on_record_and_that_of_its_loaded_runs(small, tmp_path):
    chosen = {"train.epochs": 1, "train.matmul_precision": "bfloat16"}
    config = small(weights=[0.1], **chosen)
    settle(load_experiment(config).config, tmp_path, ())
    assert train(load_experiment(config), tmp_path)
    run = pj.load_run(tmp_path, "mlp", "l2", 0.1)
    assert run.options.matmul_precision == "bfloat16"
    assert [origin.matmul_precision for origin in run.record.origins] == ["bfloat16"]
    points = run.points(run.dataset.validation.x[:70])
    np.testing.assert_array_equal(points, points.astype("bfloat16").astype("float32"))
    # The same network, to the last bit of its checksum and of its initial weights.
    usual = load_experiment(small(weights=[0.1]))
    assert load_experiment(config).config.checksums == usual.config.checksums


def test_the_table_has_what_the_records_say(workdir, run):
    table = pj.load_runs(workdir)
    assert table.status.tolist() == ["completed", "diverged"]
    assert not table.continued.any() and table.seed.tolist() == [3, 3]
    row = table[table.weight == 0.1].iloc[0]
    assert (row.network, row.regulariser, row.epochs) == ("mlp", "l2", 3)
    assert row.test == run.record.accuracy.trained.test
    assert row.initial_validation == run.record.accuracy.initial.validation
    assert row.constant == run.record.redundancy.trained.constant and row.points == 20
    assert row.folder == str(run.record.folder)
    assert row.last_log_loss == run.record.evaluation.last["log_loss"]
    with pytest.raises(ValueError, match="^workdir: .*nowhere is not a folder$"):
        pj.load_runs(workdir / "nowhere")


@pytest.mark.parametrize(
    "name, words",
    [
        (("mlp_0", "l2"), "network: mlp_0 is not one of mlp in "),
        (("mlp", "t1", 0.1), "regulariser: t1 is not one of l2 in "),
        (("mlp", "l2"), r"weight: 0 is not one of 0.1, 1e\+38 in "),
        (("mlp", "l2", 0.1), "seed: 0 is not one of 3 in "),
        (("mlp", "none", 0, 3), "mlp none 0 seed3: not finished in "),
        (("mlp", "l2", -1.0), r"weight: -1 is not one of 0.1, 1e\+38 in "),
        (("mlp", "l2", float("inf")), "weight: inf is not a finite number"),
        (("..", "l2", 0.1), "network: '..' cannot name a folder"),
    ],
)
def test_a_run_that_is_not_there_is_one_line_with_those_that_are(workdir, name, words):
    with pytest.raises(ValueError) as error:
        pj.load_run(workdir, *name)
    assert re.fullmatch(f"{words}.*", str(error.value))


def test_what_is_missing_is_named(workdir, tmp_path):
    with pytest.raises(ValueError, match="^workdir: .*nowhere is not a folder$"):
        pj.load_run(tmp_path / "nowhere", "mlp", "l2", 0.1)
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    shutil.rmtree(best_checkpoint(Run("mlp", "l2", 0.1, 3).folder(copy)))
    with pytest.raises(ValueError, match="^[^\n]*checkpoint/best: missing$"):
        pj.load_run(copy, "mlp", "l2", 0.1, 3)
    config = copy / "config.json"
    text = config.read_text()
    for kind, words in (
        ("some_digits", "dataset.kind: 'lost' is not registered; import the file"),
        ("mlp", "models.mlp.kind: 'lost' is not registered; import the file"),
    ):
        config.write_text(text.replace(f'"kind": "{kind}"', '"kind": "lost"', 1))
        with pytest.raises(ValueError, match=f"^{words}"):
            pj.load_run(copy, "mlp", "l2", 0.1, 3)
    config.write_text(text.replace('"first": 0', '"first": 1'))
    with pytest.raises(ValueError, match="^dataset: its checksum is .* but the sweep began with"):
        pj.load_run(copy, "mlp", "l2", 0.1, 3)
