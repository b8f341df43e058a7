"""The tables of docs/clean_accuracy.md are counted from the sweeps' folders."""

import re

import pytest

from docs import clean_accuracy
from persist_jax.results.selection import tabulate
from persist_jax.store import read_sweep


@pytest.fixture
def folder(tmp_path, sweeps):
    """Two seeds of `none`, T1 at two weights, the larger with many constant neurons."""
    sweeps.config(tmp_path, "study", networks=["mlp_0"], regularisers=["none", "t1"])
    for seed in (0, 1):
        for name, weight, test, constant in (
            ("none", 0.0, 0.80, 5),
            ("t1", 0.01, 0.81 + 0.01 * seed, 4),
            ("t1", 0.1, 0.70, 30 * seed),
        ):
            counts = {"neurons": 50, "constant": constant, "clusters": 0, "clustered": 0,
                      "deaths": [0.1, 0.2, 0.3, 0.4, 1.0],
                      "mean_correlation": 0.2 + weight}  # fmt: skip
            before = counts | {"constant": 0}
            found = {"threshold": 0.9, "examples": 256, "initial": before, "trained": counts}
            fields = sweeps.record(
                "mlp_0", name, weight, seed, validation=test, test=test, redundancy=found
            )
            term = [0.0, -1.0, float("nan"), -2.0] if name == "t1" else [0.0] * 4
            arrays = {"validation_loss": [0.5, 0.4], "train_loss": [1.0] * 4,
                      "train_term": term, "constant_neurons": [0, constant]}  # fmt: skip
            sweeps.run(tmp_path, fields, arrays)
    return tmp_path


def test_tables(folder):
    table = tabulate(read_sweep(folder))
    assert clean_accuracy.accuracies(table).splitlines()[2:] == [
        "| none | 80.00 ± 0.00 |", "| t1 | 81.50 ± 0.71 (0.01) |",
    ]  # fmt: skip
    assert clean_accuracy.differences(table).splitlines()[2:] == ["| t1 | +1.50 (-4.85 to +7.85) |"]
    assert clean_accuracy.chosen_neurons(table).splitlines()[2:] == [
        "| none | 10.0, 0.200 |", "| t1 | 8.0, 0.210 |",
    ]  # fmt: skip
    # Of the larger weight one run has fewer constant neurons than none; the dead one collapsed.
    assert clean_accuracy.neurons(table).splitlines()[2:] == [
        "| none | 10.0 |  | 0.200 | 0.300 | 80.00 |  |",
        "| t1 0.01 | 8.0 | 0 of 2 | 0.210 | 0.300 | 81.50 |  |",
        "| t1 0.1 | 30.0 | 1 of 2 | 0.300 | 0.300 | 70.00 | 1 |",
    ]
    # 4 runs of 4 steps, a term of 0 and one that is no number in each; 8 epochs.
    assert clean_accuracy.acting([table]).splitlines()[2:] == ["| t1 | 4 | 16 | 8 | 8 | 37.5 |"]


def test_the_command_draws_both_pictures(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["clean_accuracy", str(folder), "--output", str(tmp_path)])
    clean_accuracy.main()
    assert re.match(r"6 runs, \d\.\d hours", capsys.readouterr().out)
    for name in ("clean_accuracy.png", "clean_accuracy_neurons.png"):
        assert (tmp_path / name).stat().st_size > 10_000
