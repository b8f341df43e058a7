"""Programs compiled ahead, smaller ones included; and what a sweep says of its time."""

import json
import time
from threading import Event

import numpy as np
import pytest

from persist_jax.store.groups import read_groups, read_state
from persist_jax.store.history import read_history
from persist_jax.store.notes import COSTS_FILE, note_cost, read_costs
from persist_jax.store.record import read_results
from persist_jax.sweep import ahead as ahead_module
from persist_jax.sweep import load_experiment, run_sweep
from persist_jax.sweep import run as run_module
from persist_jax.sweep.ahead import compile_rest
from tests.sweep.conftest import finish, groups_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def experiment(small):
    """Four lanes that advance together, of which three end in their first epoch."""
    return load_experiment(small(weights=[1e38, 2e38, 3e38, 0.1], lane_strategy="vmap"))


def _curves(folder):
    histories = {r.run: read_history(r.folder) for r in read_results(folder)}
    return {run: history["train_loss"] for run, history in histories.items()}


def test_resumed_in_the_smaller_program_is_uninterrupted_to_the_bit(experiment, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_sweep(experiment, whole)
    stops = iter([False, False, True])
    assert not run_sweep(experiment, parts, lambda: next(stops))
    (group,) = read_groups(parts)
    state, _ = read_state(group, parts)
    assert (state.epoch, state.slots) == (3, [3])
    assert run_sweep(experiment, parts)
    ours, theirs = _curves(parts), _curves(whole)
    assert len(theirs) == 4 and max(map(len, theirs.values())) == 10
    for run, curve in theirs.items():
        np.testing.assert_array_equal(ours[run], curve)


def test_the_smaller_program_is_compiled_ahead(experiment, tmp_path):
    for strategy, sizes in (("vmap", {(False, 1)}), ("map", set())):
        config = experiment.config.replace(lane_strategy=strategy, seeds=(7,))
        other = load_experiment(config)
        (group,) = groups_of(config, tmp_path)
        compile_rest(other, group, tmp_path)
        assert other.programs("mlp", "l2")._compiled.keys() == sizes


@pytest.fixture
def calls(monkeypatch):
    """What a sweep has compiled and trained; its one thread waits until group c trains."""
    made, trains = [], Event()

    def note(kind, wait=False):
        def call(experiment, group, workdir, *lock, **how):
            if wait:
                trains.wait(20)
            made.append((kind, group.network))
            return True

        return call

    def train(experiment, group, workdir, lock, **how):
        if group.network == "c":
            trains.set()
        for run in group.runs:  # which has then nothing to train
            finish(run, workdir)
        return note("train")(experiment, group, workdir)

    monkeypatch.setattr(ahead_module, "compile_group", note("first", wait=True))
    monkeypatch.setattr(ahead_module, "compile_rest", note("rest"))
    monkeypatch.setattr(run_module, "train_group", train)
    monkeypatch.setattr(ahead_module, "compilers", lambda: 1)
    return made


def test_nothing_is_compiled_for_groups_that_have_ended(small, calls, tmp_path):
    models = {name: {"kind": "mlp", "hidden": [6]} for name in "abcd"}
    experiment = load_experiment(small(networks=list("abcd"), models=models))
    assert run_sweep(experiment, tmp_path)
    deadline = time.monotonic() + 20
    while ("first", "a") not in calls and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [call for call in calls if call[0] == "train"] == [("train", name) for name in "abcd"]
    assert ("rest", "a") not in calls and ("first", "b") not in calls
    assert ("rest", "b") not in calls


@pytest.mark.slow
def test_a_sweep_leaves_what_its_time_went_to(small, tmp_path):
    models = {"mlp": {"kind": "mlp", "hidden": [11, 7, 5]}}  # which no other test compiles
    config = small(regularisers=["none", "l2"], weights=[0.1], seeds=[3], models=models)
    began = time.perf_counter()
    assert run_sweep(load_experiment(config), tmp_path)
    seconds = time.perf_counter() - began
    groups = [json.loads(line)["group"] for line in (tmp_path / COSTS_FILE).open()]
    assert groups == ["mlp none", "mlp l2"]
    costs = read_costs(tmp_path)
    assert 0 < sum(cost["seconds"] for cost in costs) < seconds
    for cost in costs:
        assert 0 < cost["training"] and cost["training"] + cost["waiting"] < cost["seconds"]
    assert costs[0]["waiting"] > 0


def test_costs_that_cannot_be_read_or_written_are_left_out(tmp_path):
    cost = {"seconds": 1.0, "training": 0.5, "waiting": 0.25}
    note_cost(tmp_path, {"group": "a"} | cost)
    with open(tmp_path / COSTS_FILE, "a") as file:
        file.write('{"group": "b"\n[1]\n5\n{"seconds": "x"}\n{"seconds": null}\n')
    note_cost(tmp_path, {"group": "a"} | cost)
    assert read_costs(tmp_path) == [cost, cost]
    note_cost(tmp_path / "nowhere", cost)
    assert read_costs(tmp_path / "nowhere") == []
