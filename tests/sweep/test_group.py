"""A group on disk: results, interruption, kills; resumed is uninterrupted, to the bit."""

import gzip
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from persist_jax.store.checkpoints import best_checkpoint, last_checkpoint, load, numbered
from persist_jax.store.history import read_history
from persist_jax.store.locks import LockLost, locked
from persist_jax.store.record import read_result
from persist_jax.store.run import Run
from persist_jax.sweep import group as group_module
from persist_jax.sweep import load_experiment
from persist_jax.sweep.ahead import compile_group
from persist_jax.sweep.group import train_group
from persist_jax.training.compilation import Compilations
from tests.sweep.conftest import groups_of, stop_after
from tests.sweep.conftest import train as train_in

WEIGHTS = [1e-3, 1e38, 0.1]
NOISE = {"dataset.label_noise": 0.2}  # so that every seed has labels of its own


def _group_folder(folder):
    (path,) = folder.glob("groups/*")
    return path


def _run(weight):
    return Run("mlp", "l2", weight, 0)


def _results(folder):
    everything = {}
    for weight in WEIGHTS:
        record = read_result(_run(weight).folder(folder))
        history = read_history(_run(weight).folder(folder))
        history.pop("seconds")
        history |= {f"line {line.pop('epoch')}": line for line in _lines(folder, weight)}
        everything[weight] = record.model_copy(update={"seconds": 0.0, "folder": None}), history
    return everything


def _lines(folder, weight):
    """The lines of a run, without what differs from time to time."""
    text = (_run(weight).folder(folder) / "epochs.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(line.pop("seconds") > 0 for line in lines)
    return lines


def _same(ours, theirs):
    for weight, (record, history) in theirs.items():
        assert ours[weight][0] == record
        assert ours[weight][1].keys() == history.keys()
        for name in history:
            np.testing.assert_array_equal(ours[weight][1][name], history[name])


@pytest.fixture(scope="module")
def experiment(small):
    return load_experiment(small(**NOISE))


@pytest.fixture(scope="module")
def train(experiment):
    """Trains the group of a folder."""
    return partial(train_in, experiment)


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    rows = []
    assert train(folder, report=rows.append)
    assert [(row.epoch, row.epochs, row.training) for row in rows] == [
        (1, 5, 2), (2, 5, 2), (3, 5, 2), (4, 5, 2), (5, 5, 0)
    ]  # fmt: skip
    return folder


def test_a_diverged_run_says_why_and_leaves_the_others_alone(uninterrupted):
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
    np.testing.assert_allclose(record.accuracy.trained.validation, best)


def test_constant_neurons_are_those_that_are_redundant(uninterrupted):
    for weight in (1e-3, 0.1):
        record, history = _results(uninterrupted)[weight]
        constant = history["constant_neurons"]
        assert constant.shape == (5,) and constant.dtype == np.int32
        assert constant[record.best_epoch - 1] == record.redundancy.trained.constant
        assert record.points == record.redundancy.trained.neurons == 6 + 4 + 10
    record, history = _results(uninterrupted)[1e38]
    assert history["constant_neurons"].shape == (0,) and record.points == 20
    labels = load_digits(return_X_y=True)[1][140:210]
    assert record.chance.share == np.unique(labels, return_counts=True)[1].max() / 70


def test_its_lines_are_what_its_history_says(uninterrupted):
    for weight in WEIGHTS:
        history = read_history(_run(weight).folder(uninterrupted))
        lines = _lines(uninterrupted, weight)
        assert [line.pop("epoch") for line in lines] == list(range(1, len(lines) + 1))
        for name in ("validation_loss", "validation_accuracy", "constant_neurons"):
            found = [line[name] for line in lines if line[name] is not None]
            np.testing.assert_allclose(found, history[name], rtol=1e-6)
        if weight == 1e38:
            assert len(lines) == 1 and not any(lines[0].values())
            continue
        for name in ("train_loss", "train_term"):
            means = history[name].reshape(5, 2).mean(1)
            np.testing.assert_allclose([line[name] for line in lines], means, rtol=1e-6)


def test_without_snapshots_it_goes_on_from_its_checkpoint(small, uninterrupted, tmp_path):
    none = load_experiment(small(**NOISE, **{"train.snapshot_every": 0}))
    assert not train_in(none, tmp_path, must_stop=stop_after(2))
    assert numbered(_group_folder(tmp_path)) == [2]
    assert train_in(none, tmp_path)
    ours, theirs = _results(tmp_path), _results(uninterrupted)
    for weight in WEIGHTS:
        record, history = ours[weight]
        assert history["deaths"].shape == (0, 19) and history["deaths_iteration"].shape == (0,)
        assert record.accuracy == theirs[weight][0].accuracy
        np.testing.assert_array_equal(history["train_loss"], theirs[weight][1]["train_loss"])


@pytest.mark.slow
def test_a_run_that_explodes_is_not_pruned_and_the_others_are(small, tmp_path):
    """Its last weights are finite, its activations are not."""
    deep = {"kind": "mlp", "hidden": [12, 8, 8, 8]}
    changes = {"models": {"mlp": deep}, "weights": [1e-3, 200.0], "evaluate": {"pruning": [0.5]}}
    assert train_in(load_experiment(small(**changes)), tmp_path)
    fine, exploded = (read_result(_run(weight).folder(tmp_path)) for weight in (1e-3, 200.0))
    assert (fine.status, exploded.status) == ("completed", "diverged")
    for name in ("pruned_0.5", "pruned_0.5_fitted"):
        assert 0 <= fine.evaluation.last[name] <= 1 and exploded.evaluation.last[name] is None


def test_a_run_that_ended_after_the_checkpoint_keeps_its_lines(train, tmp_path):
    assert not train(tmp_path, must_stop=stop_after(2))
    ended = _run(1e38).folder(tmp_path) / "epochs.jsonl"
    text = "".join(json.dumps({"epoch": epoch}) + "\n" for epoch in (1, 2, 3))
    ended.write_text(text)
    assert train(tmp_path)
    assert ended.read_text() == text


def test_a_run_that_cannot_be_watched_is_trained_all_the_same(
    train, uninterrupted, tmp_path, capsys
):
    for weight in WEIGHTS[1:]:
        (_run(weight).folder(tmp_path) / "epochs.jsonl").mkdir(parents=True)
    assert train(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert "epochs.jsonl" in line and "training continues" in line
    for weight in WEIGHTS:
        ours, theirs = (read_result(_run(weight).folder(f)) for f in (tmp_path, uninterrupted))
        assert (ours.status, ours.accuracy) == (theirs.status, theirs.accuracy)
    assert _lines(tmp_path, WEIGHTS[0]) == _lines(uninterrupted, WEIGHTS[0])


def test_a_profile_is_of_the_second_epoch_and_says_where_it_is(train, tmp_path, capsys):
    how = {"report": lambda progress: print(progress.epoch), "profile": True}
    assert not train(tmp_path, must_stop=stop_after(3), **how)
    (file,) = (tmp_path / "profile").rglob("perfetto_trace.json.gz")
    first, line, *others = capsys.readouterr().out.splitlines()
    assert (first, others) == ("1", ["2", "3"])
    assert line.startswith(f"Profile of an epoch of mlp l2: open {file} at https://")
    events = json.loads(gzip.open(file).read())["traceEvents"]
    assert sum(event.get("dur", 0) for event in events) > 0


def test_the_best_and_the_last_weights_are_on_disk(uninterrupted, experiment):
    model, own = experiment.models["mlp"], experiment.dataset.of_seed(0)
    like = jax.tree.map(np.asarray, model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1))))
    folder = _run(0.1).folder(uninterrupted)
    record, history = read_result(folder), read_history(folder)
    for path, found in (
        (best_checkpoint, record.evaluation.best), (last_checkpoint, record.evaluation.last)
    ):  # fmt: skip
        weights = load(path(folder), like)
        for part in ("train", "validation", "test"):
            x, y = getattr(own, part)
            accuracy = np.mean(np.asarray(model.apply(weights, x)[0]).argmax(axis=1) == y)
            np.testing.assert_allclose(accuracy, found[part])
    assert record.accuracy.trained.test == record.evaluation.best["test"]
    np.testing.assert_allclose(found["validation"], history["validation_accuracy"][-1])


def test_a_record_says_what_its_seed_trained_on(uninterrupted, experiment):
    record, history = _results(uninterrupted)[0.1]
    examples = record.examples
    assert (examples.train, examples.of, examples.wrong_labels) == (140, 140, 28)
    assert record.evaluation.best["memorised"] is not None
    other = group_module._examples(experiment.dataset, 1)
    assert other["wrong_labels"] == 28 and other["checksum"] != examples.checksum
    means = (history["train_loss"] - history["train_term"]).reshape(5, 2).mean(1)
    assert means.min() > record.evaluation.loss.level == 0.5
    assert record.evaluation.loss.epochs is None


def test_a_finished_run_keeps_two_sets_of_weights_and_its_group_nothing(
    uninterrupted, experiment
):
    files = {path.name for path in (_run(0.1).folder(uninterrupted)).iterdir()}
    assert files == {"result.json", "history.npz", "epochs.jsonl", "checkpoint"}
    kept = best_checkpoint(_run(0.1).folder(uninterrupted))
    assert {path.name for path in kept.parent.iterdir()} == {"best", "last"}
    assert not list((uninterrupted / "groups").iterdir())
    assert groups_of(experiment.config, uninterrupted) == []


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(), (3,)])
def test_a_run_to_be_continued_keeps_the_last_state_before_its_best(
    small, uninterrupted, tmp_path, stops
):
    """The last regular checkpoint before the best weights, whenever the sweep was stopped."""
    experiment = load_experiment(small(continued=True, **NOISE))
    for stop in stops:
        assert not train_in(experiment, tmp_path, must_stop=stop_after(stop))
    assert train_in(experiment, tmp_path)
    for weight in WEIGHTS:
        folder = _run(weight).folder(tmp_path)
        best = read_result(folder).best_epoch
        kept = numbered(best_checkpoint(folder).parent)
        assert kept == [epoch for epoch in (2, 4) if epoch < best][-1:]


@pytest.mark.parametrize("epochs", [1, 3])
def test_interrupted_and_resumed_is_uninterrupted_to_the_bit(
    train, uninterrupted, tmp_path, epochs
):
    assert not train(tmp_path, must_stop=stop_after(epochs))
    assert numbered(_group_folder(tmp_path))[-1] == epochs
    rows = []
    assert train(tmp_path, report=rows.append)
    assert rows[0].epoch == epochs + 1
    _same(_results(tmp_path), _results(uninterrupted))


@pytest.mark.slow
def test_epochs_are_measured_from_where_it_is_asked_for(small, train, uninterrupted, tmp_path):
    """Two epochs without measures, then three with them, in one go and interrupted."""
    measuring = load_experiment(small(**NOISE, **{"train.measures": True}))
    for folder, stops in ((tmp_path / "whole", ()), (tmp_path / "in parts", (2,))):
        assert not train(folder, must_stop=stop_after(2))
        for stop in stops:
            assert not train_in(measuring, folder, must_stop=stop_after(stop))
        assert train_in(measuring, folder)
    ours, theirs = _results(tmp_path / "whole"), _results(uninterrupted)
    _same(_results(tmp_path / "in parts"), ours)
    for weight in (1e-3, 0.1):
        (record, history), (_, expected) = ours[weight], theirs[weight]
        assert not [name for name in history["line 1"] if name.startswith("measures/")]
        # Another program: its last bits may be others.
        np.testing.assert_allclose(history["train_loss"], expected["train_loss"], rtol=1e-4)
        measured = {name: history[name] for name in history if name.startswith("measures/")}
        assert len(measured) == 11 and not [name for name in expected if name in measured]
        for name, array in measured.items():
            assert np.isnan(array).tolist() == [True, True, False, False, False], name
            np.testing.assert_allclose(history["line 5"][name], array[4], rtol=1e-6)
        constant = record.points * measured["measures/constant"][2:]
        np.testing.assert_allclose(constant, history["constant_neurons"][2:], rtol=1e-5)


class Killed(Exception):
    pass


def test_a_kill_goes_on_from_the_last_checkpoint_to_the_same_end(
    train, uninterrupted, tmp_path, monkeypatch
):
    """Killed in epoch 4, before its checkpoint is whole: epoch 2 is the last one."""
    save = group_module.save_group

    def die(group, workdir, state):
        if state.epoch == 4:
            raise Killed
        save(group, workdir, state)

    with monkeypatch.context() as patch:
        patch.setattr(group_module, "save_group", die)
        with pytest.raises(Killed):
            train(tmp_path)
    rows = []
    assert train(tmp_path, report=rows.append)
    assert rows[0].epoch == 3
    _same(_results(tmp_path), _results(uninterrupted))


def test_a_kill_between_a_runs_end_and_its_result_loses_nothing(
    train, uninterrupted, tmp_path, monkeypatch
):
    """Before the first checkpoint, where the diverged run ends, and after the last one."""

    def die(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(group_module, "write_history", die)
        with pytest.raises(Killed):
            train(tmp_path)
    assert numbered(_group_folder(tmp_path)) == []
    assert not train(tmp_path, must_stop=stop_after(4))
    with monkeypatch.context() as patch:
        patch.setattr(group_module, "write_result", die)
        with pytest.raises(Killed):
            train(tmp_path)
    assert train(tmp_path)
    _same(_results(tmp_path), _results(uninterrupted))


@pytest.mark.parametrize("lost", ["finished", "deleted"])
def test_a_process_that_lost_its_lock_writes_nothing_more(
    experiment, train, uninterrupted, tmp_path, lost
):
    """Stopped in epoch 3 while another process finishes the group, or deletes the folder."""
    (group,) = groups_of(experiment.config, tmp_path)

    def sleep(progress):
        if progress.epoch == 3 and lost == "deleted":
            shutil.rmtree(tmp_path / "groups")
        elif progress.epoch == 3:
            # As a network file system does to a process that it hears nothing of.
            group.lock(tmp_path).unlink()
            assert train(tmp_path)

    with pytest.raises(LockLost, match=f"^{group.lock(tmp_path)}: this process lost the lock"):
        with locked(group.lock(tmp_path)) as lock:
            train_group(experiment, group, tmp_path, lock, report=sleep)
    if lost == "finished":
        _same(_results(tmp_path), _results(uninterrupted))
        assert len(read_history(_run(0.1).folder(tmp_path))["seconds"]) == 5
    else:
        assert len(list(tmp_path.rglob("result.json"))) == 1


def test_a_result_that_appeared_is_not_overwritten(experiment, train, uninterrupted, tmp_path):
    theirs = _run(0.1).folder(uninterrupted)

    def another_writes(progress):
        if progress.epoch == 3:
            shutil.copytree(theirs, _run(0.1).folder(tmp_path), dirs_exist_ok=True)

    assert train(tmp_path, report=another_writes)
    ours = _run(0.1).folder(tmp_path)
    for name in ("result.json", "history.npz"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_networks_of_another_making_are_refused(experiment):
    other = experiment.config.replace(checksums={"mlp": "0123"})
    with pytest.raises(ValueError, match="^models.mlp: its checksum is .* began with 0123$"):
        load_experiment(other)


def test_compiled_ahead_is_what_the_training_takes(train, experiment, uninterrupted, tmp_path):
    """Before the first epoch, and of a group that goes on from another one."""
    for stop in (stop_after(2), lambda: False):
        (group,) = groups_of(experiment.config, tmp_path)
        programs = experiment.programs(group.network, group.regulariser)
        programs._compiled, programs.evaluation._compiled = Compilations(), Compilations()
        compile_group(experiment, group, tmp_path)
        ready = programs._compiled.keys(), programs.evaluation._compiled.keys()
        assert ready[0] == {(False, 3)} and ready[1] == {"draw", 3}
        train(tmp_path, must_stop=stop)
        assert ready == (programs._compiled.keys(), programs.evaluation._compiled.keys())
    _same(_results(tmp_path), _results(uninterrupted))
