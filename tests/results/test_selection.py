"""Which weight is chosen, and the table of test accuracies."""

import numpy as np
import pytest

from persist_jax.results.selection import choose, combine, tabulate
from persist_jax.results.verdict import COLLAPSED, COMPLETED, WORSE
from persist_jax.store import read_sweep, read_sweeps, write_result


@pytest.fixture
def chosen(tmp_path, sweeps):
    """The choice among runs given by their fields."""

    def choose_among(*changes):
        sweeps.config(tmp_path)
        for fields in changes:
            sweeps.run(tmp_path, sweeps.record(**fields))
        return choose(read_sweep(tmp_path).records)

    return choose_among


def test_the_best_validation_accuracy_wins_not_the_best_test(chosen):
    choice = chosen(
        dict(weight=0.1, validation=0.8, test=0.99), dict(weight=1.0, validation=0.81, test=0.5)
    )
    assert (choice.weight, choice.test) == (1.0, 0.5)


def test_a_diverged_run_never_wins(chosen):
    bad = dict(weight=1.0, validation=0.99, status="diverged", reason="loss", validation_loss=None)
    assert chosen(dict(weight=0.1, validation=0.2), bad).weight == 0.1


def test_only_diverged_runs_give_no_choice(chosen):
    assert chosen(dict(status="diverged", reason="loss")) is None


def test_ties_go_to_the_smaller_loss_then_to_the_smaller_weight(chosen):
    choice = chosen(
        dict(weight=1.0, validation_loss=0.4),
        dict(weight=0.01, validation_loss=0.5),
        dict(weight=0.1, validation_loss=0.4),
    )
    assert choice.weight == 0.1


def test_accuracies_that_differ_by_rounding_are_a_tie(chosen):
    """Of float32: 4e-8 is none, and 3e-7 is one example in three million."""
    better = dict(weight=1.0, validation_loss=0.4)
    assert chosen(dict(weight=0.1, validation=0.8 + 4e-8), better).weight == 1.0
    assert chosen(dict(weight=0.1, validation=0.8 + 3e-7), better).weight == 0.1


def test_a_tie_is_decided_by_the_mean_loss_and_one_that_is_not_finite_is_the_largest(chosen):
    two = [dict(weight=1.0, seed=seed, validation_loss=0.4) for seed in (0, 1)]
    assert chosen(dict(weight=0.1, validation_loss=0.5), *two).weight == 1.0
    assert chosen(dict(weight=0.1, validation_loss=None), *two).weight == 1.0


def test_the_order_of_the_records_does_not_matter(tmp_path, sweeps):
    sweeps.config(tmp_path)
    for seed in (0, 1, 2):
        sweeps.run(tmp_path, sweeps.record(seed=seed))
    choice = choose(read_sweep(tmp_path).records[::-1])
    assert choice.seeds == (0, 1, 2) and choice.best.run.seed == 0


def test_seeds_are_averaged_over_the_completed_ones(chosen):
    choice = chosen(
        dict(weight=0.1, seed=0, validation=0.9, test=0.1),
        dict(weight=0.1, seed=1, validation=0.5, test=0.2),
        dict(weight=1.0, seed=0, validation=0.8, test=0.3, best_iteration=10),
        dict(weight=1.0, seed=1, validation=0.7, test=0.5, best_iteration=31),
        dict(weight=1.0, seed=2, status="diverged", reason="loss"),
    )
    assert choice.weight == 1.0
    assert choice.test == pytest.approx(0.4)
    assert choice.best_iteration == 20.5
    assert (choice.initial_test, choice.validation_loss) == pytest.approx((0.1, 0.5))
    assert choice.seeds == (0, 1)
    assert choice.best.run.seed == 0


def test_the_table_counts_what_won_and_what_diverged(tmp_path, sweeps):
    table = tabulate(read_sweep(sweeps.write(tmp_path, weights=(0.01, 1.0))))
    assert table.regularisers == ("none", "t1", "t2", "min_corr", "l1", "l2")
    assert table.networks == ("mlp_0", "mlp_1", "mlp_2")
    assert np.isfinite(table.accuracies()).all()
    assert table.weight_wins()["t1"] == {0.01: 3}
    assert table.diverged["mlp_0", "l1"] == 1
    assert table.diverged.total() == 6


def test_what_collapsed_is_counted_and_still_chosen_by_its_accuracy(tmp_path, sweeps):
    """Of three seeds of the best weight one has more than half of its neurons dead."""
    for folder in ("a", "b"):
        sweeps.config(tmp_path / folder, folder)
        for weight, seed, level, constant in (
            (0.1, 0, 0.9, 0), (0.1, 1, 0.9, 6), (0.1, 2, 0.8, 0), (1.0, 0, 0.7, 6), (1.0, 1, 0.0, 0)
        ):  # fmt: skip
            counts = {"neurons": 10, "constant": constant, "clusters": 0, "clustered": 0}
            found = {"threshold": 0.9, "examples": 9, "initial": None}
            found |= {"trained": counts | {"deaths": []}}
            fields = sweeps.record(weight=weight, seed=seed, validation=level, redundancy=found)
            sweeps.run(tmp_path / folder, fields)
    table = tabulate(read_sweep(tmp_path / "a"))
    choice = table.choices["mlp_0", "t1"]
    assert (choice.weight, choice.best.seed) == (0.1, 0)
    assert choice.verdicts == ("completed", "collapsed", "completed")
    assert (choice.verdict, choice.suspect) == ("collapsed", True)
    assert choice.verdict_in_words == "1 of 3 collapsed"
    assert choice._replace(seeds=(1,), verdicts=(COLLAPSED,)).verdict_in_words == COLLAPSED
    others = choice._replace(verdicts=(COMPLETED, WORSE, COMPLETED))
    assert others.verdict_in_words == f"1 of 3 {WORSE}"
    assert (table.collapsed["mlp_0", "t1"], table.worse["mlp_0", "t1"]) == (2, 1)
    both = combine([table, tabulate(read_sweep(tmp_path / "b"))])
    assert (both.collapsed.total(), both.worse.total(), both.diverged.total()) == (4, 2, 0)
    assert both.collapsed["b/mlp_0", "t1"] == 2


def test_continued_runs_do_not_enter_the_table(tmp_path, sweeps):
    sweeps.config(tmp_path)
    folder = sweeps.run(tmp_path, sweeps.record(test=0.1))
    write_result(folder / "continued", sweeps.record(validation=1.0, test=1.0))
    table = tabulate(read_sweep(tmp_path))
    assert table.choices["mlp_0", "t1"].test == 0.1


def test_networks_come_in_the_order_of_their_numbers(tmp_path, sweeps):
    sweeps.config(tmp_path)
    for network in ("model_148", "model_9", "model_20"):
        sweeps.run(tmp_path, sweeps.record(network=network))
    assert read_sweep(tmp_path).networks == ("model_9", "model_20", "model_148")


def test_regularisers_of_several_sweeps_come_in_the_order_they_are_first_met(tmp_path, sweeps):
    orders = {"a": ("mine", "none", "t1"), "b": ("none", "l2", "mine", "t1")}
    for name, order in orders.items():
        sweeps.config(tmp_path / name, name, regularisers=list(order))
        for regulariser in sorted(order):
            sweeps.run(tmp_path / name, sweeps.record(regulariser=regulariser))
    tables = [tabulate(s) for s in read_sweeps([tmp_path / name for name in orders])]
    assert [table.regularisers for table in tables] == list(orders.values())
    assert combine(tables).regularisers == ("mine", "none", "t1", "l2")


def test_sweeps_of_one_name_are_told_apart_in_the_combined_table(tmp_path, sweeps):
    for folder in ("a", "b"):
        sweeps.config(tmp_path / folder, "same")
        sweeps.run(tmp_path / folder, sweeps.record(test=0.5 if folder == "a" else 0.6))
    table = combine([tabulate(s) for s in read_sweeps([tmp_path / "a", tmp_path / "b"])])
    assert table.networks == ("a/mlp_0", "b/mlp_0")
    assert table.accuracies().tolist() == [[0.5, 0.6]]
