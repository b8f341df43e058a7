"""What lies in a folder and is not as it was written: named, before anything is trained or lost."""

import json
import shutil

import numpy as np
import pytest

from persist_jax.store import checkpoints, groups
from persist_jax.store.checkpoints import numbered
from persist_jax.store.files import replace_json
from persist_jax.store.history import read_history
from persist_jax.store.locks import locked
from persist_jax.store.record import read_result
from persist_jax.store.run import Run
from persist_jax.sweep import load_experiment, run_sweep
from persist_jax.sweep.group import train_group
from persist_jax.training.programs import Programs
from tests.sweep.conftest import groups_of, stop_after

RUNS = [Run("mlp", "l2", weight, 0) for weight in (1e-3, 0.1)]


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
def experiment(small):
    return load_experiment(small(weights=[run.weight for run in RUNS]))


@pytest.fixture(scope="module")
def whole(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert run_sweep(experiment, folder)
    return _left(folder)


@pytest.fixture(scope="module")
def four_epochs(experiment, tmp_path_factory):
    """Stopped after epoch 4, with checkpoints of epochs 2 and 4."""
    folder = tmp_path_factory.mktemp("four")
    assert not run_sweep(experiment, folder, stop_after(4))
    assert numbered(_group(folder)) == [2, 4]
    return folder


@pytest.fixture
def folder(four_epochs, tmp_path):
    return shutil.copytree(four_epochs, tmp_path / "sweep")


def _checkpoint(folder, epoch):
    """The largest file of a checkpoint."""
    files = [path for path in (_group(folder) / str(epoch)).rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def _group(folder):
    (path,) = folder.glob("groups/*")
    return path


def _change(path, change):
    """Change fields of a JSON file, whose checksum is then that of the changed ones."""
    fields = json.loads(path.read_text())
    del fields["crc32"]
    change(fields)
    replace_json(path, fields)


def _change_state(folder, epoch, change):
    """Change the plain part of a checkpoint, as a faulty version of ours could write it."""
    where = _group(folder) / str(epoch)
    _change(where / "fields.json", change)
    stamp = checkpoints.stamps(where)["fields.json"]
    _change(where / "checksums.json", lambda fields: fields["files"].update({"fields.json": stamp}))


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage, file",
    [
        (_flip, lambda folder: _checkpoint(folder, 4)),
        (lambda path: path.unlink(), lambda folder: _checkpoint(folder, 4)),
        (lambda path: path.write_bytes(b""), lambda folder: _checkpoint(folder, 4)),
        (_flip, lambda folder: _group(folder) / "4" / "fields.json"),
        (_flip, lambda folder: _group(folder) / "4" / "checksums.json"),
        (lambda path: path.unlink(), lambda folder: _group(folder) / "4" / "checksums.json"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_resumed(
    experiment, folder, whole, capsys, damage, file
):
    damaged = file(folder)
    damage(damaged)
    assert run_sweep(experiment, folder)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(str(damaged)) and line.endswith("; resuming from epoch 2")
    _same(_left(folder), whole)


def test_where_no_checkpoint_holds_nothing_is_trained_or_deleted(experiment, folder, capsys):
    for epoch in (2, 4):
        _flip(_checkpoint(folder, epoch))
    before = _files(folder)
    with pytest.raises(ChildProcessError, match="^1 of 1 groups failed: mlp l2; run the same"):
        run_sweep(experiment, folder)
    words = f"{_checkpoint(folder, 4)}: damaged or missing; delete {_group(folder)} to restart"
    assert words in capsys.readouterr().err
    after = _files(folder)
    assert after.pop(_group(folder) / "failed") and after == before


def test_without_its_folder_a_group_begins_anew(experiment, folder, whole):
    shutil.rmtree(_group(folder))
    assert run_sweep(experiment, folder)
    _same(_left(folder), whole)


def test_a_damaged_group_file_is_one_line_with_what_to_do(experiment, folder):
    path = _group(folder) / "group.json"
    _flip(path)
    with pytest.raises(ValueError, match=f"^{path}: .*; delete {path.parent} to restart its"):
        run_sweep(experiment, folder)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"slots": [0], "training": [0]}, "mlp l2 0.1 seed0 has no result and no state"),
        ({"training": []}, "mlp l2 0.001 seed0 has no result and no state"),
        ({"epoch": 3}, "histories of 4 epochs, but 3 were trained"),
        ({"epoch": -1}, "epoch: -1 must be at least 0"),
        ({"more": 1}, "more: unknown field"),
    ],
)
def test_a_checkpoint_that_leaves_something_out_is_refused(folder, change, words):
    shutil.rmtree(_group(folder) / "2")
    _change_state(folder, 4, lambda fields: fields.update(change))
    (group,) = groups.read_groups(folder)
    with pytest.raises(ValueError, match=f"^{_group(folder) / '4'}: .*{words}[^\n]*$"):
        groups.read_state(group, folder)


def test_arrays_of_another_network_are_refused(small, folder, capsys):
    other = load_experiment(small(weights=[1e-3, 0.1], **{"models.mlp.hidden": [12, 9]}))
    with pytest.raises(ChildProcessError):
        run_sweep(other, folder)
    assert "its arrays are not those of this network" in capsys.readouterr().err


def test_another_machine_is_said_and_on_record(experiment, folder, whole, capsys):
    def change(fields):
        fields["origins"][0]["devices"] = 3
        fields["origins"][0]["versions"]["jax"] = "0.9"

    _change_state(folder, 4, change)
    assert run_sweep(experiment, folder)
    (line,) = capsys.readouterr().err.splitlines()
    here = experiment.layout("mlp").devices
    assert line.startswith("mlp l2: resumes with jax ")
    assert f", before 0.9, devices {len(here)}, before 3; its results may differ" in line
    one, two = read_result(RUNS[0].folder(folder)).origins
    assert (one.devices, two.devices) == (3, len(here))
    (alone,) = whole[RUNS[0]][0]["origins"]
    assert alone == two.plain()


@pytest.mark.slow
def test_a_run_that_ended_trains_again_where_the_programs_depend_on_it(
    small, tmp_path, monkeypatch
):
    """Six of eight runs diverge in their third epoch; killed there, and without epoch 2."""
    diverging = [3e4, 3.2e4, 3.4e4, 3.6e4, 3.8e4, 4e4]
    experiment = load_experiment(small(weights=[1e-3, *diverging, 0.1], lane_strategy="vmap"))
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
        (group,) = groups_of(experiment.config, folder)
        with locked(group.lock(folder)) as lock:
            train_group(experiment, group, folder, lock, **how)
        return list(lanes)

    alone = train(tmp_path / "whole")
    assert [count for _, count in alone] == [8, 8, 8, 2, 2]
    with pytest.raises(Killed):
        train(tmp_path / "killed", report=die)
    assert len(list((tmp_path / "killed").rglob("result.json"))) == 6
    (tmp_path / "killed").rename(tmp_path / "moved")
    # No checkpoint of epoch 4 is there yet; without that of epoch 2 all begin anew.
    shutil.rmtree(_group(tmp_path / "moved") / "2")
    assert train(tmp_path / "moved") == alone
    _same(_left(tmp_path / "moved"), _left(tmp_path / "whole"))


def test_a_group_killed_after_its_last_run_is_closed(
    experiment, whole, tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    def die(*arguments):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("persist_jax.sweep.group.discard_group", die)
        run_sweep(experiment, tmp_path)
    assert numbered(_group(tmp_path)) == [2, 4]
    assert run_sweep(experiment, tmp_path)
    assert not list(tmp_path.glob("groups/*"))
    _same(_left(tmp_path), whole)


def test_a_group_that_has_not_begun_is_formed_by_the_grid_of_today(experiment, small, folder):
    for epoch in (2, 4):
        shutil.rmtree(_group(folder) / str(epoch))
    other = load_experiment(small(weights=[0.1, 0.2]))
    assert run_sweep(other, folder)
    assert len(list(folder.rglob("result.json"))) == 2
    assert not (RUNS[0].folder(folder) / "result.json").exists()
    assert not list(folder.glob("groups/*"))


def test_only_files_of_ours_are_deleted(experiment, folder):
    group = _group(folder)
    strangers = [group / "notes.txt", group / "2b" / "x", group / ".hidden", group / "04" / "x"]
    for path in strangers:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for name in ("notes.npz", "history-000001.npz", ".own"):
        path = RUNS[0].folder(folder) / name
        path.touch()
        strangers.append(path)
    assert run_sweep(experiment, folder)
    assert all(path.exists() for path in strangers)
    assert {path.name for path in group.iterdir()} == {"notes.txt", "2b", ".hidden", "04"}
