import json

import pytest

from persist_jax.grid import form_groups, grid, plan, settle_config
from persist_jax.results.records import Run

CONFIG = {
    "networks": ["a", "b"],
    "regularisers": ["none", "t1"],
    "weights": [1e-6, 1.0, 5.0],
    "seeds": [0, 1],
    "max_lanes": 0,
    "train": {"learning_rate": 0.1, "checkpoint_every": 10},
    "dataset": {"name": "digits", "cache": None},
}


def _finish(run, workdir):
    folder = run.folder(workdir)
    folder.mkdir(parents=True)
    accuracy = {"train": 0.5, "validation": 0.5, "test": 0.5}
    record = {
        "network": run.network, "regulariser": run.regulariser, "weight": run.weight,
        "seed": run.seed, "status": "completed", "reason": None, "epochs": 1, "best_epoch": 1,
        "best_iteration": 1, "validation_loss": 1.0, "seconds": 1.0,
        "accuracy": {"initial": accuracy, "trained": accuracy},
    }
    (folder / "result.json").write_text(json.dumps(record))


def test_none_is_there_once_per_network_and_seed():
    runs = grid(CONFIG)
    assert len(runs) == 2 * (1 + 3) * 2
    assert runs[:2] == [Run("a", "none", 0.0, 0), Run("a", "none", 0.0, 1)]
    assert len(set(runs)) == len(runs)


def test_runs_of_a_network_and_regulariser_are_lanes_of_one_program(tmp_path):
    groups = plan(CONFIG, tmp_path)
    assert [len(group.runs) for group in groups] == [2, 6, 2, 6]
    assert len({group.file for group in groups}) == 4
    groups = plan(CONFIG | {"max_lanes": 4}, tmp_path)
    assert [len(group.runs) for group in groups] == [2, 4, 2, 2, 4, 2]


def test_finished_runs_are_left_out(tmp_path):
    _finish(Run("a", "t1", 1.0, 0), tmp_path)
    group = plan(CONFIG, tmp_path)[1]
    assert len(group.runs) == 5 and Run("a", "t1", 1.0, 0) not in group.runs


def test_an_interrupted_group_goes_on_as_it_was_and_new_runs_form_their_own(tmp_path):
    old = (Run("a", "t1", 1e-6, 0), Run("a", "t1", 1.0, 0))
    file = form_groups(list(old), tmp_path / "runs" / "a" / "t1", "group", 0)[0].file
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"runs": [["a", "t1", run.weight, run.seed] for run in old]}))
    _finish(old[0], tmp_path)
    first, second = plan(CONFIG | {"networks": ["a"], "regularisers": ["t1"]}, tmp_path)
    assert first.runs == old and first.file == file
    assert len(second.runs) == 4 and not set(second.runs) & set(old)
    assert second.file != file


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weights": [0.0]}, "weights: 0 must be above 0"),
        ({"weights": [1.0, 1]}, "weights: 1 is there more than once"),
        ({"weights": []}, "weights: at least one is needed"),
        ({"regularisers": ["dropout"]}, "regulariser: 'dropout' is not one of none, t1"),
        ({"seeds": []}, "seeds: at least one is needed"),
    ],
)
def test_wrong_grids_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        grid(CONFIG | change)


def test_a_folder_keeps_to_its_configuration(tmp_path):
    settle_config(CONFIG, tmp_path)
    other = CONFIG | {"train": {"learning_rate": 0.2, "checkpoint_every": 10}}
    settle_config(other, tmp_path)  # nothing has run yet
    (tmp_path / "runs" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="train.learning_rate: 0.1, but .* holds runs with 0.2"):
        settle_config(CONFIG, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["train"]["learning_rate"] == 0.2
    settle_config(other | {"weights": [3.0], "seeds": [4]}, tmp_path)  # the grid may change
