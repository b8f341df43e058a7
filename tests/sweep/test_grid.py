import shutil

import pytest

from configs import fashion_study, study
from persist_jax.store.configuration import grid
from persist_jax.store.groups import has_failed, note_failure
from persist_jax.store.locks import locked
from persist_jax.store.run import CONTINUED, Run
from persist_jax.sweep.grid import form_groups, open_groups
from persist_jax.sweep.reading import evaluate_of, read_configuration
from tests.sweep.conftest import finish, groups_of


@pytest.fixture(scope="module")
def config(small):
    return small(
        networks=["mlp", "other"],
        regularisers=["none", "t1"],
        weights=[1e-6, 1.0, 5.0],
        seeds=[0, 1],
    )


@pytest.mark.parametrize(("examples", "runs"), [("all", 220), ("6000", 290), ("1000", 290)])
def test_the_study_has_the_runs_that_it_says(examples, runs):
    config, _ = read_configuration(fashion_study.get_config(examples))
    assert len(grid(config)) == runs and len({run.seed for run in grid(config)}) == 5
    for name, weights in config.weights_of.items():
        assert {run.weight for run in grid(config) if run.regulariser == name} == set(weights)


@pytest.mark.parametrize(
    ("which", "wrong", "runs"),
    [("40", 0.4, 100), ("0", 0.0, 100), ("20", 0.2, 100), ("cnn", 0.4, 60)],
)
def test_the_study_of_wrong_labels_has_the_runs_that_it_says(which, wrong, runs):
    config, _ = read_configuration(study.get_config(which))
    assert len(grid(config)) == runs and len({run.seed for run in grid(config)}) == 10
    assert config.dataset["draw"] == "per_seed"
    assert config.dataset["label_noise"] == wrong
    assert evaluate_of(config).pruning == (0.75, 0.5, 0.35)


def test_none_is_there_once_per_network_and_seed(config):
    runs = grid(config)
    assert len(runs) == 2 * (1 + 3) * 2
    assert runs[:2] == [Run("mlp", "none", 0.0, 0), Run("mlp", "none", 0.0, 1)]
    assert len(set(runs)) == len(runs)


def test_a_regulariser_may_have_weights_of_its_own(small):
    config = small(regularisers=["none", "t1", "l2"], weights_of={"t1": [0.1, 1.0]})
    weights = {name: set() for name in config.regularisers}
    for run in grid(config):
        weights[run.regulariser].add(run.weight)
    assert weights == {"none": {0.0}, "t1": {0.1, 1.0}, "l2": set(config.weights)}
    with pytest.raises(ValueError, match="^weights_of.t1: 1 is there more than once$"):
        small(weights_of={"t1": [1.0, 1.0]})
    with pytest.raises(ValueError, match="^weights_of: 't9' is not one of none, t1"):
        small(weights_of={"t9": [1.0]})


def test_runs_of_a_network_and_regulariser_are_lanes_of_one_program(config, tmp_path):
    formed = groups_of(config, tmp_path)
    assert [len(group.runs) for group in formed] == [2, 6, 2, 6]
    assert len({group.path(tmp_path) for group in formed}) == 4
    assert [group.label for group in formed[:2]] == ["mlp none", "mlp t1"]
    formed = groups_of(config.replace(max_lanes=4), tmp_path)
    assert [len(group.runs) for group in formed] == [2, 4, 2, 2, 4, 2]


def test_finished_runs_are_left_out(config, tmp_path):
    finish(Run("mlp", "t1", 1.0, 0), tmp_path)
    group = groups_of(config, tmp_path)[1]
    assert len(group.runs) == 5 and Run("mlp", "t1", 1.0, 0) not in group.runs


def test_a_group_that_has_begun_stays_and_new_runs_form_their_own(config, tmp_path):
    old = (Run("mlp", "t1", 1e-6, 0), Run("mlp", "t1", 1.0, 0))
    config = config.replace(networks=["mlp"], regularisers=["t1"])
    two = config.replace(weights=[1e-6, 1.0], seeds=[0])
    (before,) = groups_of(two, tmp_path)
    assert before.runs == old
    (before.path(tmp_path) / "3").mkdir()
    finish(old[0], tmp_path)
    new, after = groups_of(config, tmp_path)  # in the order of the grid
    assert after == before
    assert len(new.runs) == 4 and not set(new.runs) & set(old)
    assert new.path(tmp_path) != after.path(tmp_path)
    # It is trained if the grid still wants one of its unfinished runs.
    assert open_groups(config.replace(weights=[5.0]), tmp_path) == [new]


def test_a_weight_that_has_the_folder_of_another_is_refused(small, tmp_path):
    words = "^weights: 0.1000000001 has the folder of 0.1, which was trained there; weights must"
    near = small(weights=[0.1000000001])
    form_groups(small(weights=[0.1]), tmp_path)
    with pytest.raises(ValueError, match=words):
        form_groups(near, tmp_path)
    finish(Run("mlp", "l2", 0.1, 0), tmp_path)
    with pytest.raises(ValueError, match=words):
        form_groups(near, tmp_path)


def test_a_group_that_another_process_has_claimed_stays(config, tmp_path):
    config = config.replace(networks=["mlp"], regularisers=["t1"])
    (claimed,) = groups_of(config, tmp_path)
    with locked(claimed.lock(tmp_path)):
        finish(claimed.runs[0], tmp_path)
        assert groups_of(config.replace(max_lanes=2), tmp_path) == [claimed]
    smaller = groups_of(config.replace(networks=["mlp"], max_lanes=2), tmp_path)
    assert smaller == [claimed]  # a run of it has ended: its programs depend on all


@pytest.mark.parametrize("left", [("lock", "lock.holder"), ("lock",), ()])
def test_nothing_stays_of_a_group_whose_process_was_killed_while_it_discarded_it(
    config, tmp_path, left
):
    (group,) = groups_of(config.replace(networks=["mlp"], regularisers=["t1"]), tmp_path)
    folder = group.path(tmp_path)
    (folder / "group.json").unlink()
    for name in left:
        (folder / name).touch()
    form_groups(config.replace(networks=["other"]), tmp_path)
    assert not folder.exists()


def test_runs_to_continue_form_groups_by_the_epoch_that_they_go_on_from(config, tmp_path):
    for run in grid(config):
        finish(run, tmp_path, best_epoch=2 + run.seed)
        if run.seed:
            (run.folder(tmp_path) / "checkpoint" / "2").mkdir(parents=True)
    form_groups(config, tmp_path, continued=True)
    formed = open_groups(config, tmp_path, continued=True)
    assert [(group.network, group.continued_at, len(group.runs)) for group in formed] == [
        ("mlp", 0, 3), ("mlp", 2, 3), ("other", 0, 3), ("other", 2, 3)
    ]  # fmt: skip
    finish(formed[0].runs[0], tmp_path, folder=CONTINUED)
    assert len(formed[0].unfinished(tmp_path)) == 2 and open_groups(config, tmp_path) == []
    run = Run("mlp", "t1", 1.0, 0)
    finish(run, tmp_path, best_epoch=30)
    shutil.rmtree(tmp_path / "groups")
    words = f"^continued: {run.folder(tmp_path)} was trained with continued=False and kept no state"
    with pytest.raises(ValueError, match=words):
        form_groups(config, tmp_path, continued=True)


def test_a_group_that_failed_is_tried_again_by_the_next_command(config, tmp_path):
    group = groups_of(config, tmp_path)[0]
    note_failure(group, tmp_path, "no memory")
    assert has_failed(group, tmp_path)
    groups_of(config, tmp_path)
    assert not has_failed(group, tmp_path)


def test_the_largest_group_of_a_grid(small):
    changes = dict(weights=[0.1, 0.2, 0.3], seeds=[0, 1])
    config = small(regularisers=["none", "l2"], **changes)
    assert (config.lanes_of("none"), config.lanes_of("l2")) == (2, 6)
    assert small(regularisers=["l2"], max_lanes=4, **changes).lanes_of("l2") == 4
