"""What lies in a folder and is not as it was written: named, before anything is trained or lost."""

import json
import shutil

import numpy as np
import pytest

from persist_jax.store.checkpoints import Checkpoints
from persist_jax.store.ended import close_groups
from persist_jax.store.files import replace_json
from persist_jax.store.group_file import read_group
from persist_jax.store.history import read_history
from persist_jax.store.record import read_result
from persist_jax.store.run import Run
from persist_jax.sweep import load_experiment, run_sweep, train_group
from persist_jax.sweep.grid import groups
from persist_jax.training.programs import Programs

RUNS = [Run("mlp", "l2", weight, 0) for weight in (1e-3, 0.1)]


def _stop_after(epochs):
    calls = iter(range(100))
    return lambda: next(calls) >= epochs - 1


def _left(folder):
    """What differs only if something was lost: records without the clock, whole histories."""
    found = {}
    for run in RUNS:
        record, history = read_result(run.folder(folder)), read_history(run.folder(folder))
        history.pop("seconds")
        found[run] = record.plain() | {"seconds": None}, history
    return found


def _same(ours, theirs):
    for run, (record, history) in theirs.items():
        assert ours[run][0] == record
        for name in history:
            np.testing.assert_array_equal(ours[run][1][name], history[name])


def _files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def config(small):
    return small(weights=[run.weight for run in RUNS])


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert run_sweep(config, folder)
    return _left(folder)


@pytest.fixture(scope="module")
def four_epochs(config, tmp_path_factory):
    """Stopped after epoch 4, with checkpoints of epochs 2 and 4."""
    folder = tmp_path_factory.mktemp("four")
    assert not run_sweep(config, folder, _stop_after(4))
    return folder


@pytest.fixture
def folder(four_epochs, tmp_path):
    return shutil.copytree(four_epochs, tmp_path / "sweep")


def _checkpoint(folder, epoch, run=RUNS[0]):
    """The largest file of a checkpoint."""
    where = Checkpoints(run.folder(folder)).folder / str(epoch)
    return max((p for p in where.rglob("*") if p.is_file()), key=lambda path: path.stat().st_size)


def _part(folder, epoch, run=RUNS[1]):
    return Checkpoints(run.folder(folder)).folder / f"history-{epoch:06d}.npz"


def _group(folder):
    (path,) = folder.rglob("group-*.json")
    return path


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage, file",
    [
        (_flip, lambda folder: _checkpoint(folder, 4)),
        (lambda path: path.unlink(), lambda folder: _checkpoint(folder, 4)),
        (_flip, lambda folder: _part(folder, 4)),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), lambda folder: _part(folder, 4)),
        (lambda path: path.write_bytes(b""), lambda folder: _part(folder, 4)),
        (lambda path: path.write_text("[]"), _group),
    ],
)
def test_what_is_damaged_is_named_and_the_state_before_it_gone_on_from(
    config, folder, whole, capsys, damage, file
):
    damaged = file(folder)
    damage(damaged)
    assert run_sweep(config, folder)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(str(damaged)) and line.endswith("; going on from epoch 2")
    _same(_left(folder), whole)


def test_a_part_of_the_history_that_is_missing_is_missed(config, folder, whole, capsys):
    _part(folder, 4).unlink()
    assert run_sweep(config, folder)
    assert "a part of the history is missing, 1 parts have 2 epochs of 4" in capsys.readouterr().err
    _same(_left(folder), whole)


def test_where_no_state_is_whole_nothing_is_trained_or_deleted(config, folder):
    for epoch in (2, 4):
        _flip(_checkpoint(folder, epoch))
    before = _files(folder)
    words = f"^{_checkpoint(folder, 4)}: damaged or missing; without {_group(folder)} its runs"
    with pytest.raises(ValueError, match=words):
        run_sweep(config, folder)
    assert _files(folder) == before


def test_without_its_file_a_group_begins_anew(config, folder, whole):
    _flip(_checkpoint(folder, 2))
    _group(folder).unlink()
    assert run_sweep(config, folder)
    _same(_left(folder), whole)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"slots": [0]}, "slots: mlp l2 0.1 seed0 has no result and no lane"),
        ({"slots": []}, "slots: "),
        ({"epoch": 3}, ".*checkpoint/3: missing"),
    ],
)
def test_a_group_file_that_leaves_a_run_out_is_refused(config, folder, change, words):
    path = _group(folder)
    path.with_suffix(".before").unlink()
    fields = json.loads(path.read_text()) | change
    del fields["crc32"]
    replace_json(path, fields)
    with pytest.raises(ValueError, match=f"^({path}: )?{words}"):
        run_sweep(config, folder)


def test_another_machine_is_said_and_on_record(config, folder, whole, capsys):
    path = _group(folder)
    fields = json.loads(path.read_text())
    del fields["crc32"]
    fields["origins"][0]["devices"] = 3
    fields["origins"][0]["versions"]["jax"] = "0.9"
    replace_json(path, fields)
    assert run_sweep(config, folder)
    (line,) = capsys.readouterr().err.splitlines()
    here = load_experiment(config).layout("mlp").devices
    assert line.startswith("mlp l2: goes on with jax ")
    assert f", before 0.9, devices {len(here)}, before 3; its results may differ" in line
    one, two = read_result(RUNS[0].folder(folder)).origins
    assert (one.devices, two.devices) == (3, len(here))
    (alone,) = whole[RUNS[0]][0]["origins"]
    assert alone == two.plain()


def test_a_run_that_ended_trains_again_where_the_programs_depend_on_it(
    small, tmp_path, monkeypatch
):
    """Six of eight runs diverge in their third epoch; killed there, and without epoch 2."""
    diverging = [3e4, 3.2e4, 3.4e4, 3.6e4, 3.8e4, 4e4]
    config = small(weights=[1e-3, *diverging, 0.1], lane_strategy="vmap")
    lanes = []

    def train_epoch(self, state, wanted, epoch):
        lanes.append((epoch, len(wanted)))
        return complete(self, state, wanted, epoch)

    complete = Programs.train_epoch
    monkeypatch.setattr(Programs, "train_epoch", train_epoch)

    class Killed(Exception):
        pass

    def die(progress):
        if progress.training == 2:
            raise Killed

    def train(folder, **how):
        lanes.clear()
        train_group(config, groups(config, folder)[0], folder, **how)
        return list(lanes)

    alone = train(tmp_path / "whole")
    assert [count for _, count in alone] == [8, 8, 8, 2, 2]
    with pytest.raises(Killed):
        train(tmp_path / "killed", report=die)
    assert len(list((tmp_path / "killed").rglob("result.json"))) == 6
    (tmp_path / "killed").rename(tmp_path / "moved")
    _flip(_checkpoint(tmp_path / "moved", 2))
    assert train(tmp_path / "moved") == alone
    _same(_left(tmp_path / "moved"), _left(tmp_path / "whole"))


def test_the_state_before_is_kept_where_the_best_weights_are_older(small, tmp_path):
    """No epoch is better than the first by so much."""
    config = small(weights=[0.1], **{"train.min_delta": 10.0})
    run = RUNS[1]
    assert not run_sweep(config, tmp_path, _stop_after(4))
    assert Checkpoints(run.folder(tmp_path)).epochs() == [2, 4]
    assert run_sweep(config, tmp_path)
    assert read_result(run.folder(tmp_path)).best_epoch == 1
    assert Checkpoints(run.folder(tmp_path)).epochs() == []


def test_a_group_killed_after_its_last_run_is_closed(config, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("persist_jax.sweep.group_on_disk.close_group", lambda *arguments: None)
        assert run_sweep(config, tmp_path)
    assert _group(tmp_path).exists()
    close_groups(tmp_path)
    assert not list(tmp_path.rglob("group-*"))
    _same(_left(tmp_path), whole)
    assert all(len(Checkpoints(run.folder(tmp_path)).epochs()) <= 1 for run in RUNS)


def test_what_has_not_begun_is_formed_by_the_grid_of_today(config, folder):
    path = _group(folder)
    fields = json.loads(path.read_text()) | {"epoch": 0}
    del fields["crc32"]
    replace_json(path, fields)
    other = config.replace(weights=[0.1, 0.2])
    assert run_sweep(other, folder)
    assert len(list(folder.rglob("result.json"))) == 2
    assert not (RUNS[0].folder(folder) / "result.json").exists()
    assert not list(folder.rglob("group-*"))


def test_the_group_file_moves_on_with_the_state_before_beside_it(four_epochs):
    path = _group(four_epochs)
    assert (read_group(path).epoch, read_group(path.with_suffix(".before")).epoch) == (4, 2)
