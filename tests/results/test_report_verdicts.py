"""What a report says of runs that collapsed, or that did worse than untrained."""

import csv
import html
import io
import json
import re

import pytest

from persist_jax.results.report import write_report


def _counts(constant):
    counts = {"neurons": 60, "constant": constant, "clusters": 2, "clustered": 7}
    return counts | {"deaths": [0.1, 0.2, 0.3, 0.4, 1.0]}


def _text(page):
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory, sweeps):
    """One seed: t1 died at its best weight, t2 at a larger one, l2 unlearned, l1 diverged."""
    workdir = tmp_path_factory.mktemp("collapsed")
    sweeps.config(workdir, networks=["mlp_0"], regularisers=["none", "t1", "t2", "l1", "l2"])
    found = {"threshold": 0.9, "examples": 43, "initial": _counts(3)}
    chance = {"share": 0.1, "examples": 1000}
    for name, weight, level, constant, status in (
        ("none", 0.0, 0.8, 4, "completed"),
        ("t1", 0.1, 0.7, 5, "completed"),
        ("t1", 5.0, 0.79, 47, "completed"),
        ("t2", 1.0, 0.8, 4, "completed"),
        ("t2", 100.0, 0.11, 58, "completed"),
        ("l1", 5.0, 0.1, 0, "diverged"),
        ("l2", 1.0, 0.4, 0, "completed"),
    ):
        redundancy = found | {"trained": _counts(constant)}
        known = {"points": 60, "chance": chance, "redundancy": redundancy, "status": status}
        fields = sweeps.record("mlp_0", name, weight, validation=level, test=level, **known)
        if name == "l2":
            fields["accuracy"]["initial"]["validation"] = 0.5
        if status == "diverged":
            fields["reason"] = "the loss is not finite at iteration 7"
        sweeps.run(workdir, fields)
    return workdir


@pytest.fixture(scope="module")
def page(collapsed):
    return write_report(collapsed).read_text()


def _rows(page, begin, end):
    section = page[page.index(begin) : page.index(end)]
    rows = [row.partition("</tr>")[0] for row in section.split("<tr")]
    cells = [re.findall("<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in rows[2:]]
    return [[_text(cell) for cell in row] for row in cells]


def test_what_went_wrong_stands_before_what_did_not(page):
    rows = {row[0]: row[1:] for row in _rows(page, ">All runs<", "<details")}
    assert list(rows) == [
        "mlp_0 l1 5 seed0", "mlp_0 t1 5 seed0", "mlp_0 t2 100 seed0", "mlp_0 l2 1 seed0",
        "mlp_0 none 0 seed0", "mlp_0 t1 0.1 seed0", "mlp_0 t2 1 seed0",
    ]  # fmt: skip
    assert [(row[0], row[4]) for row in rows.values()] == [
        ("diverged", "0 of 60"), ("collapsed", "47 of 60"), ("collapsed", "58 of 60"),
        ("worse than untrained", "0 of 60"), ("completed", "4 of 60"), ("completed", "5 of 60"),
        ("completed", "4 of 60"),
    ]  # fmt: skip
    reasons = [row[6] for row in rows.values()]
    assert reasons[:4] == [
        "the loss is not finite at iteration 7",
        "dead neurons (47 of 60; untrained 3)",
        "accuracy at chance (up to 13.00 %) dead neurons (58 of 60; untrained 3)",
        "accuracy below untrained (50.00 %)",
    ]
    assert reasons[4:] == ["", "", ""]
    first = "7 runs, 1 of them diverged, 2 collapsed, 1 worse than untrained; "
    assert first in _text(page)
    assert "before 0.2" not in page


def test_a_chosen_weight_that_collapsed_is_marked_where_it_is_chosen(page, collapsed):
    rows = {row[0]: row for row in _rows(page, ">Chosen weights<", "<h3>") if row}
    assert {name: (row[1], row[9], row[10]) for name, row in rows.items()} == {
        "none": ("0", "", ""), "t1": ("5", "1", "collapsed"), "t2": ("1", "1", ""),
        "l2": ("1", "", "worse than untrained"),
    }  # fmt: skip
    test = dict(_rows(page, ">Test accuracy<", ">Chosen weights<"))
    assert test == {"none": "80.00", "t1": "† 79.00", "t2": "80.00", "l1": "–", "l2": "† 40.00"}
    text = _text(page)
    assert "2 of the trained networks collapsed or are worse than untrained" in text
    assert "small because neurons died, not because they are decorrelated" in text
    assert "t1_living or t2_living (docs/weights.md)" in text


def test_tables_on_disk_say_what_collapsed(page, collapsed):
    text = (collapsed / "report" / "accuracies.csv").read_text()
    rows = {row["regulariser"]: row for row in csv.DictReader(io.StringIO(text))}
    names = ("weight", "diverged", "collapsed", "worse_than_untrained", "verdict")
    assert {name: tuple(row[n] for n in names) for name, row in rows.items()} == {
        "none": ("0.0", "0", "0", "0", "completed"),
        "t1": ("5.0", "0", "1", "0", "collapsed"),
        "t2": ("1.0", "0", "1", "0", "completed"),
        "l1": ("", "1", "0", "0", ""),
        "l2": ("1.0", "0", "0", "1", "worse than untrained"),
    }
    (entry,) = json.loads((collapsed / "report" / "statistics.json").read_text())["tables"]
    totals = ("diverged_runs", "collapsed_runs", "worse_than_untrained_runs")
    assert [entry[name] for name in totals] == [1, 2, 1]
    chosen = entry["best_runs"]["t1"]["mlp_0"]
    assert (chosen["weight"], chosen["collapsed"], chosen["verdict"]) == (5.0, 1, "collapsed")


def test_records_of_an_older_version_are_reported_and_said_to_be_unjudged(tmp_path, sweeps):
    sweeps.config(tmp_path)
    for weight in (0.1, 1.0):
        sweeps.run(tmp_path, sweeps.record(weight=weight))
    sweeps.run(tmp_path, sweeps.record(weight=9.0, status="diverged", reason="the loss"))
    page = write_report(tmp_path).read_text()
    assert "It is not known whether 2 of the completed runs collapsed" in _text(page)
    assert "3 runs, 1 of them diverged, 0 collapsed; " in _text(page)
    assert "†" not in page
