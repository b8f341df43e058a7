"""The numbers of a report's files once more from the files alone, by pandas and SciPy."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from persist_jax.results.conclusions import pairwise_matrix
from persist_jax.results.selection import tabulate
from persist_jax.results.statistics import DEFAULTS, compare
from persist_jax.results.tables import csv_text, statistics_json
from persist_jax.store import read_sweep

RUN = ["network", "regulariser"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sweeps):
    """Three seeds of a sweep on three networks; the largest weight of l1 and l2 diverges."""
    folder = sweeps.write(
        tmp_path_factory.mktemp("seeds"),
        networks=tuple("abc"),
        weights=(0.01, 1.0),
        seeds=(0, 1, 2),
    )
    return folder


@pytest.fixture(scope="module")
def table(folder):
    return tabulate(read_sweep(folder))


@pytest.fixture(scope="module")
def runs(folder):
    """A row per `result.json`."""
    rows = []
    for path in folder.glob("runs/*/*/*/seed*/result.json"):
        fields = json.loads(path.read_text())
        kept = ("network", "regulariser", "weight", "seed", "status", "validation_loss")
        rows.append({name: fields[name] for name in kept} | fields["accuracy"]["trained"])
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def chosen(runs):
    """The runs of the weight with the best mean validation accuracy, per cell."""
    done = runs[runs.status == "completed"]
    means = done.groupby([*RUN, "weight"], as_index=False)[["validation", "validation_loss"]].mean()
    means["validation"] = -means.validation.round(7)
    best = means.sort_values(["validation", "validation_loss", "weight"]).groupby(RUN).first()
    return done.merge(best.reset_index()[[*RUN, "weight"]])


@pytest.fixture(scope="module")
def said(table):
    matrix = pairwise_matrix(table, DEFAULTS)
    return json.loads(statistics_json([table], [compare(table)], [matrix]))["tables"][0]


def test_the_table(table, chosen):
    rows = csv.DictReader(io.StringIO(csv_text([table])))
    ours = pd.DataFrame(list(rows)).set_index(RUN)
    theirs = chosen.groupby(RUN).agg(
        weight=("weight", "first"), validation_accuracy=("validation", "mean"),
        train_accuracy=("train", "mean"), test_accuracy=("test", "mean"),
        test_deviation=("test", "std"), seeds=("seed", "count"),
    )  # fmt: skip
    assert len(ours) == len(theirs) == 18
    for name in theirs.columns:
        found = ours.loc[theirs.index, name].astype(float)
        np.testing.assert_allclose(found, theirs[name], rtol=1e-12, err_msg=name)


def test_friedmans_test_and_the_ranks(said, chosen):
    means = chosen.groupby(RUN).test.mean().round(7).unstack("regulariser")
    statistic, p_value = stats.friedmanchisquare(*(means[name] for name in means))
    assert said["friedman"]["statistic"] == pytest.approx(statistic)
    assert said["friedman"]["p_value"] == pytest.approx(p_value)
    ranks = means.rank(axis=1, ascending=False).mean()
    assert said["average_ranks"] == pytest.approx(ranks.to_dict())


def test_every_pair(said, chosen):
    cells = chosen.pivot_table("test", ["network", "seed"], "regulariser").round(7)
    assert said["pairs"]["unit"] == "network and seed" and len(cells) == 9
    pairs = pd.DataFrame(said["pairs"]["pairs"])
    assert len(pairs) == 15
    raw = []
    for pair in pairs.itertuples():
        d = cells[pair.first] - cells[pair.second]
        assert pair.difference == pytest.approx(d.mean(), abs=1e-7)
        assert (pair.wins, pair.ties, pair.losses) == ((d > 0).sum(), (d == 0).sum(), (d < 0).sum())
        raw.append(stats.wilcoxon(cells[pair.first], cells[pair.second]).pvalue)
    held = stats.false_discovery_control(raw)  # another correction: never above Holm's
    assert (np.array(held) <= pairs.p_value + 1e-12).all()
    order = np.argsort(raw)
    holm = np.maximum.accumulate(np.sort(raw) * np.arange(len(raw), 0, -1)).clip(max=1)
    np.testing.assert_allclose(pairs.p_value.to_numpy()[order], holm)


def test_differences_to_none(said, chosen):
    tests = chosen.set_index([*RUN, "seed"]).test
    for found in said["paired_differences"]:
        part = tests.xs(found["regulariser"], level="regulariser") - tests.xs(
            "none", level="regulariser"
        )
        if found["network"] is not None:
            part = part.xs(found["network"], level="network", drop_level=False)
        assert found["mean"] == pytest.approx(part.groupby("network").mean().mean())
        assert found["pairs"] == len(part) and found["low"] < found["mean"] < found["high"]
        if found["network"] is not None:
            theirs = stats.ttest_1samp(part.to_numpy(), 0).confidence_interval()
            np.testing.assert_allclose((found["low"], found["high"]), theirs, atol=1e-9)


def test_what_each_seed_would_have_chosen(said, runs):
    done = runs[runs.status == "completed"].assign(rounded=lambda r: -r.validation.round(7))
    order = [*RUN, "seed", "rounded", "validation_loss", "weight"]
    best = done.sort_values(order).groupby([*RUN, "seed"]).first()
    assert len(said["choices_per_seed"]) == 15
    for found in said["choices_per_seed"]:
        own = best.loc[found["network"], found["regulariser"]].sort_index()
        assert found["weights"] == own.weight.tolist()
        np.testing.assert_allclose(found["tests"], own.test)
