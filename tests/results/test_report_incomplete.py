"""What a report says of a sweep that has not ended, or some of whose seeds diverged."""

import json

import pytest

from persist_jax.results.report import write_report
from persist_jax.results.selection import tabulate
from persist_jax.results.statistics import compare
from persist_jax.store import read_sweep
from tests.results.test_report_verdicts import _text

NAMES = ("none", "t1", "t2")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, sweeps):
    """The best weight of T1 has one of three seeds left; two runs of T2 have not ended."""
    folder = tmp_path_factory.mktemp("incomplete")
    sweeps.config(
        folder, dataset={"kind": "images", "name": "digits"}, networks=["a", "b"],
        regularisers=list(NAMES), seeds=[0, 1, 2], weights=[0.1],
        weights_of={"t1": [0.1, 1.0]},
    )  # fmt: skip
    for network in ("a", "b"):
        for seed in range(3):
            bad = seed > 0 and network == "a"
            lost = {"status": "diverged", "reason": "the loss"} if bad else {}
            for name, weight, level, more in (
                ("none", 0.0, 0.7, {}), ("t1", 0.1, 0.71, {}), ("t1", 1.0, 0.9, lost),
                ("t2", 0.1, 0.72, {}),
            ):  # fmt: skip
                if name == "t2" and network == "b" and seed > 0:
                    continue
                level += 0.001 * seed
                fields = dict(seed=seed, validation=level, test=level, **more)
                sweeps.run(folder, sweeps.record(network, name, weight, **fields))
    return folder


def test_the_first_line_says_how_many_runs_are_missing(sweep):
    page = _text(write_report(sweep).read_text())
    assert "22 of 24 runs finished, 2 of them diverged" in page


def test_a_mean_over_fewer_seeds_is_marked_and_never_the_best(sweep):
    folder = write_report(sweep).parent
    page, rows = _text((folder / "index.html").read_text()), (folder / "accuracies.md").read_text()
    assert "| t1 | ‡§ 90.00 | **90.10 ± 0.10** |" in rows
    assert "| t2 | **72.10 ± 0.10** | ‡ 72.00 |" in rows
    latex = (folder / "accuracies.tex").read_text()
    assert r"t1 & \ddag{}\S{} 90.00 & \textbf" in latex and "‡" not in latex
    for text in (page, rows):
        assert "‡ Mean over fewer seeds than others on this network: not ranked" in text
        assert "§ Other seeds of the chosen weight diverged." in text
    assert "1 of 3" in page


def test_a_mean_over_fewer_seeds_is_not_ranked(sweep):
    result = compare(tabulate(read_sweep(sweep)))
    assert result.networks == () and result.ranks == ()
    assert "a: fewer seeds of t1 than of others" in result.left_out
    (entry,) = json.loads((write_report(sweep).parent / "statistics.json").read_text())["tables"]
    assert entry["average_ranks"] == {}


def test_a_folder_without_a_grid_counts_what_it_has(tmp_path, sweeps):
    sweeps.config(tmp_path, networks=3, regularisers=[], weights=None, seeds=[0])
    sweeps.run(tmp_path, sweeps.record())
    assert "1 runs, 0 of them diverged" in _text(write_report(tmp_path).read_text())
