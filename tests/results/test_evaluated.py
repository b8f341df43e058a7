"""What was measured beside accuracy, against no term: recomputed from the records by pandas."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from persist_jax.results import report
from persist_jax.results.evaluated import evaluation_tables, losses, measured
from persist_jax.results.report import write_report
from persist_jax.results.seeds import performance_profiles
from persist_jax.results.selection import tabulate
from persist_jax.results.statistics import compare
from persist_jax.results.tables import statistics_json
from persist_jax.store import read_sweep

SEEDS = range(5)


def _evaluation(generator, regulariser, weight):
    off = 0.05 * weight
    numbers = {
        "test": 0.7 - off, "train": 0.9, "memorised": 0.4 + off, "log_loss": 1.2,
        "effective_rank": 300.0, "pruned_0.35": 0.5 + off, "pruned_0.35_fitted": 0.69,
        "pruned_0.75": 0.6,
    }  # fmt: skip
    last = {name: value * generator.uniform(0.98, 1.02) for name, value in numbers.items()}
    best = {name: value * generator.uniform(0.98, 1.02) for name, value in numbers.items()}
    reached = None if regulariser == "l2" else 40 + int(5 * generator.random() - 10 * weight)
    loss = {"level": 0.9, "epochs": reached, "validation_accuracy": reached and 0.6}
    return {"best": best, "last": last, "loss": loss}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sweeps):
    folder, generator = tmp_path_factory.mktemp("evaluated"), np.random.default_rng(0)
    sweeps.config(folder, "study", networks=["a"], regularisers=["none", "t1", "l2"])
    for name, weights in {"none": [0.0], "t1": [-1.0, 1.0], "l2": [0.5]}.items():
        for weight in weights:
            for seed in SEEDS:
                fields = sweeps.record("a", name, weight, seed, test=0.7 + 0.01 * seed)
                fields["evaluation"] = _evaluation(generator, name, weight)
                # One run diverged, one has no number: neither counts.
                if (name, weight, seed) == ("t1", 1.0, 4):
                    fields |= {"status": "diverged", "reason": "why"}
                if (name, weight, seed) == ("t1", -1.0, 0):
                    fields["evaluation"]["last"]["log_loss"] = None
                sweeps.run(folder, fields)
    return folder


@pytest.fixture(scope="module")
def table(folder):
    return tabulate(read_sweep(folder))


def test_differences_are_paired_by_seed_with_students_interval(folder, table):
    rows = []
    for path in folder.rglob("result.json"):
        record = json.loads(path.read_text())
        if record["status"] == "completed":
            key = {name: record[name] for name in ("regulariser", "weight", "seed")}
            for weights in ("best", "last"):
                for name, value in record["evaluation"][weights].items():
                    rows.append(key | {"weights": weights, "measure": name, "value": value})
            for name, field in (
                ("epochs_to_loss", "epochs"), ("validation_at_loss", "validation_accuracy")
            ):  # fmt: skip
                value = record["evaluation"]["loss"][field]
                rows.append(key | {"weights": "last", "measure": name, "value": value})
    frame = pd.DataFrame(rows).dropna()
    found = measured(table)
    none = frame[frame.regulariser == "none"].set_index(["weights", "measure", "seed"]).value
    none = none.sort_index()
    wanted = frame.groupby(["regulariser", "weight", "weights", "measure"])
    assert len(found) == len(wanted)
    for one in found:
        own = wanted.get_group((one.regulariser, one.weight, one.weights, one.measure))
        assert one.seeds == len(own) and one.mean == pytest.approx(own.value.mean())
        if one.regulariser == "none":
            assert (one.difference, one.pairs, one.beyond_seeds) == (None, 0, False)
            continue
        pairs = own.set_index("seed").value - none[one.weights, one.measure]
        pairs = pairs.dropna()
        test = stats.ttest_1samp(pairs, 0)
        ends = test.confidence_interval(0.95)
        assert (one.pairs, one.difference) == (len(pairs), pytest.approx(pairs.mean()))
        if np.ptp(pairs) < 1e-12:  # says nothing of other seeds
            assert np.isnan([one.low, one.high]).all() and not one.beyond_seeds
            continue
        assert (one.low, one.high) == (pytest.approx(ends.low), pytest.approx(ends.high))
        assert one.beyond_seeds == (test.pvalue < 0.05)
    assert {m.pairs for m in found if m.regulariser == "t1" and m.weight == 1.0} == {4}
    assert not [m for m in found if m.regulariser == "l2" and m.measure == "epochs_to_loss"]


def test_tables_have_a_row_for_every_weight_and_a_column_for_both_sets(table):
    accuracy, speed, confidence, neurons, pruned, fitted = evaluation_tables(table)
    assert [name for name, _ in accuracy["rows"]] == ["none", "t1 -1", "t1 1", "l2 0.5"]
    assert accuracy["columns"][:2] == [("test %", "best"), ("test %", "last")]
    names = ["epochs to the loss", "validation % at the loss"]
    assert speed["columns"] == [(name, "") for name in names]
    shares = [name for name, moment in pruned["columns"] if moment == "best"]
    assert shares == ["35% kept", "75% kept"]
    assert fitted["columns"] == [("35% kept", "best"), ("35% kept", "last")]
    by_name = {m[1:5]: m for m in measured(table)}
    best = by_name["t1", 1.0, "best", "test"]
    half = 100 * (best.high - best.low) / 2
    assert dict(accuracy["rows"])["t1 1"][0][1] == f"{100 * best.difference:+.2f} ± {half:.2f}"
    none = by_name["none", 0.0, "last", "effective_rank"]
    assert dict(neurons["rows"])["none"][1][1] == f"{none.mean:.1f}"
    assert dict(speed["rows"])["l2 0.5"][-1] == (None, "–")
    assert confidence["columns"] == [("NLL", "best"), ("NLL", "last")]


def test_numbers_of_other_levels_are_not_compared(tmp_path, sweeps):
    """Between two commands on one folder, the fields of `evaluate` may change."""
    sweeps.config(tmp_path, "study", networks=["a"], regularisers=["none", "t1"])
    for name, weight, level, loss in (("none", 0.0, 0.1, 0.9), ("t1", 1.0, 3.0, 0.5)):
        for seed in SEEDS:
            fields = sweeps.record("a", name, weight, seed)
            numbers = {f"noise_{level:g}": 0.5, "pruned_0.001": 0.4, "dropped": 0.3}
            reached = {"level": loss, "epochs": 3 + seed, "validation_accuracy": 0.5}
            fields["evaluation"] = {"best": numbers, "last": numbers, "loss": reached}
            sweeps.run(tmp_path, fields)
    table = tabulate(read_sweep(tmp_path))
    pairs = {m.measure: m.pairs for m in measured(table) if m.regulariser == "t1"}
    assert pairs == {
        "noise_3": 0, "pruned_0.001": 5, "dropped": 5, "epochs_to_loss": 0, "validation_at_loss": 0
    }  # fmt: skip
    columns = {part["title"]: part["columns"][::2] for part in evaluation_tables(table)}
    shown = ["neurons dropped %", "noise 0.1 on pixels %", "noise 3 on pixels %"]
    assert [name for name, _ in columns["Robustness"]] == shown
    assert columns["Pruned"] == [("0.1% kept", "best")]


def test_the_page_and_the_statistics_have_them(table):
    parts = evaluation_tables(table)
    environment = report._template().environment
    page = environment.get_template("page/evaluation.html.j2").render(
        table=table, evaluations=parts, losses=losses(table)
    )
    assert "Beyond accuracy" in page and "at most\n0.9;" in page
    for part in parts:
        for name, cells in part["rows"]:
            assert f"<tr><td>{name}</td>" in page
            assert all(text in page for _, text in cells)
    shaded = [found for part in parts for _, cells in part["rows"] for found, _ in cells if found]
    assert page.count('class="beyond"') == sum(found.beyond_seeds for found in shaded) > 0
    entry = json.loads(statistics_json([table], [compare(table)], [None]))["tables"][0]
    assert "NaN" not in json.dumps(entry)
    for ours, theirs in zip(entry["evaluation"], measured(table), strict=True):
        assert all(v == getattr(theirs, n) for n, v in ours.items() if v is not None)
    profile = entry["performance_profiles"]["t1"]
    tests = np.array([0.7, 0.71, 0.72, 0.73, 0.74])  # of the weight -1, which a tie chooses
    shares = [np.mean(tests > threshold) for threshold in profile["thresholds"]]
    assert profile["shares"] == pytest.approx(shares) and shares[0] == 1 and shares[-1] == 0
    assert performance_profiles(table).keys() == {"none", "t1", "l2"}


@pytest.mark.slow
def test_a_whole_report_shows_them(folder):
    page = write_report(folder).read_text()
    assert "Beyond accuracy" in page and "Performance profiles" in page


def test_records_without_an_evaluation_have_no_table(tmp_path, sweeps):
    sweeps.write(tmp_path, networks=("a",), regularisers=("none", "t1"), weights=(0.1,))
    old = tabulate(read_sweep(tmp_path))
    assert evaluation_tables(old) == [] and measured(old) == []
    assert performance_profiles(old) == {}
