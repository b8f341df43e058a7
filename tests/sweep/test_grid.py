import pytest

from configs import fashion_study
from persist_jax.store.group_file import write_group
from persist_jax.store.record import Accuracy, write_result
from persist_jax.store.run import Run
from persist_jax.sweep.grid import grid, groups, most_lanes
from persist_jax.sweep.reading import read_configuration

NOTHING = Accuracy(train=0.5, validation=0.5, test=0.5)


@pytest.fixture(scope="module")
def config(small):
    return small(
        networks=["mlp", "other"],
        regularisers=["none", "t1"],
        weights=[1e-6, 1.0, 5.0],
        seeds=[0, 1],
    )


def _finish(run, workdir):
    accuracy = NOTHING.plain()
    write_result(
        run.folder(workdir),
        {
            "network": run.network, "regulariser": run.regulariser, "weight": run.weight,
            "seed": run.seed, "status": "completed", "reason": None, "epochs": 1, "best_epoch": 1,
            "best_iteration": 1, "validation_loss": 1.0, "seconds": 1.0,
            "accuracy": {"initial": accuracy, "trained": accuracy},
        },
    )  # fmt: skip


@pytest.mark.parametrize(("examples", "runs"), [("all", 220), ("6000", 290), ("1000", 290)])
def test_the_study_has_the_runs_that_it_says(examples, runs):
    config, _ = read_configuration(fashion_study.get_config(examples))
    assert len(grid(config)) == runs and len({run.seed for run in grid(config)}) == 5
    for name, weights in config.weights_of.items():
        assert {run.weight for run in grid(config) if run.regulariser == name} == set(weights)


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
    formed = groups(config, tmp_path)
    assert [len(group.runs) for group in formed] == [2, 6, 2, 6]
    assert len({group.file for group in formed}) == 4
    assert [group.label for group in formed[:2]] == ["mlp none", "mlp t1"]
    formed = groups(config.replace(max_lanes=4), tmp_path)
    assert [len(group.runs) for group in formed] == [2, 4, 2, 2, 4, 2]


def test_finished_runs_are_left_out(config, tmp_path):
    _finish(Run("mlp", "t1", 1.0, 0), tmp_path)
    group = groups(config, tmp_path)[1]
    assert len(group.runs) == 5 and Run("mlp", "t1", 1.0, 0) not in group.runs


def test_an_interrupted_group_goes_on_as_it_was_and_new_runs_form_their_own(config, tmp_path):
    old = (Run("mlp", "t1", 1e-6, 0), Run("mlp", "t1", 1.0, 0))
    config = config.replace(networks=["mlp"], regularisers=["t1"])
    two = config.replace(weights=[1e-6, 1.0], seeds=[0])
    (before,) = groups(two, tmp_path)
    assert before.runs == old
    write_group(before.path(tmp_path), 3, old, [0, 1], [NOTHING, NOTHING])
    _finish(old[0], tmp_path)
    first, second = groups(config, tmp_path)
    assert first == before
    assert len(second.runs) == 4 and not set(second.runs) & set(old)
    assert second.file != first.file


def test_the_largest_group_of_a_grid(small):
    changes = dict(weights=[0.1, 0.2, 0.3], seeds=[0, 1])
    assert most_lanes(small(regularisers=["none", "l2"], **changes)) == 6
    assert most_lanes(small(regularisers=["none"], **changes)) == 2
    assert most_lanes(small(regularisers=["l2"], max_lanes=4, **changes)) == 4
