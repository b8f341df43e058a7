"""Tests of significance against tables, scipy and examples worked by hand."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from persist_jax.results.selection import Choice, Table
from persist_jax.results.statistics import (
    Comparison,
    Friedman,
    compare,
    critical_distance,
    describe,
    friedman_test,
    maximal_groups,
    rank,
    wilcoxon_tests,
)
from persist_jax.store import ReportOptions

ROWS = ("none", "t1", "t2", "min_corr", "l1", "l2")
# Demšar 2006, table 6: C4.5 with neither, m, cf, m and cf tuned, on 14 data sets.
DEMSAR = np.array(
    """
    .763 .599 .954 .628 .882 .936 .661 .583 .775 1 .940 .619 .972  .957
    .768 .591 .971 .661 .888 .931 .668 .583 .838 1 .962 .666 .981  .978
    .771 .590 .968 .654 .886 .916 .609 .563 .866 1 .965 .614 .9751 .946
    .798 .569 .967 .657 .898 .931 .685 .625 .875 1 .962 .669 .975  .970
    """.split(),
    float,
).reshape(4, 14)


def table(cells, rows=ROWS):
    networks = tuple(f"n{i}" for i in range(np.shape(cells)[1]))
    choices = {
        (network, row): Choice(0.1, value, 0.5, value, 0.1, 10.0, (0,), None)
        for row, line in zip(rows, cells, strict=False)
        for network, value in zip(networks, line, strict=True)
        if not np.isnan(value)
    }
    return Table("t", tuple(rows[: len(cells)]), networks, choices, Counter())


def test_demsars_example():
    ranks = rank(DEMSAR)
    np.testing.assert_allclose(ranks, [3.143, 2.000, 2.893, 1.964], atol=6e-4)
    # His 9.28 leaves the correction for ties out; with it the statistic can only grow.
    plain = 12 * 14 / (4 * 5) * (np.sum(ranks**2) - 4 * 5**2 / 4)
    assert plain == pytest.approx(9.28, abs=0.01)
    assert friedman_test(DEMSAR).statistic > plain


def test_friedman_with_ties_by_hand():
    # Ranks per column (best 1): (1.5, 1.5, 3), (1, 2, 3), (1, 2.5, 2.5); sums 3.5, 6, 8.5.
    cells = np.array([[0.9, 0.9, 0.9], [0.9, 0.8, 0.5], [0.1, 0.7, 0.5]])
    np.testing.assert_allclose(rank(cells), [3.5 / 3, 2, 8.5 / 3])
    # Plain: 12 / (3 * 3 * 4) * (3.5² + 6² + 8.5²) - 3 * 3 * 4 = 25 / 6; ties: 1 - 12 / (3 * 24).
    expected = (25 / 6) / (1 - 12 / 72)
    result = friedman_test(cells)
    assert result.statistic == pytest.approx(expected)
    assert result.degrees == 2
    assert result.p_value == pytest.approx(np.exp(-expected / 2))


@pytest.mark.parametrize(
    ("alpha", "quantiles"),
    [
        (0.05, [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]),
        (0.10, [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]),
    ],
)
def test_nemenyi_against_demsars_table(alpha, quantiles):
    for k, quantile in zip(range(2, 11), quantiles, strict=True):
        distance = critical_distance(k, 14, alpha)
        assert distance == pytest.approx(quantile * np.sqrt(k * (k + 1) / (6 * 14)), rel=7e-4)


def test_nemenyi_p_values_cross_alpha_at_the_critical_distance():
    generator = np.random.default_rng(1)
    cells = np.linspace(0.7, 0.8, 6)[:, None] + 0.03 * generator.normal(size=(6, 20))
    result = compare(table(cells))
    ranks = np.array(result.ranks)
    apart = np.abs(ranks[:, None] - ranks[None, :]) >= result.critical_distance
    assert apart.any() and not apart[np.triu_indices(6, 1)].all()
    np.testing.assert_array_equal(result.p_values < 0.05, apart)
    joined = np.zeros((6, 6), bool)
    for group in result.groups:
        places = [result.regularisers.index(name) for name in group]
        joined[np.ix_(places, places)] = True
    np.testing.assert_array_equal(joined, ~apart)


def test_wilcoxon_corrections_by_hand():
    # 8 networks: signed ranks all of one sign give p = 2 / 2^8; equal rows give 1.
    step = np.arange(1, 9) / 100
    cells = np.stack([0.5 + step, 0.5 - step, 0.5 - step])
    raw = 2 / 2**8
    holm = wilcoxon_tests(cells, "holm")
    bonferroni = wilcoxon_tests(cells, "bonferroni")
    np.testing.assert_allclose(holm[0, 1:], 3 * raw)
    np.testing.assert_allclose(holm[1, 2], 1)
    np.testing.assert_allclose(bonferroni[0, 1:], 3 * raw)
    np.testing.assert_array_equal(holm, holm.T)


def test_pairs_are_compared_by_the_test_and_the_correction_of_the_options():
    cells = np.array([0.0, 0.2, 0.9])[:, None] + 0.1 * np.random.default_rng(0).random((3, 8))
    for correction in ("holm", "bonferroni"):
        result = compare(table(cells), ReportOptions(test="wilcoxon", correction=correction))
        assert result.regularisers == ("t2", "t1", "none") and result.critical_distance is None
        np.testing.assert_array_equal(result.p_values, wilcoxon_tests(cells[::-1], correction))
    assert result.groups == (("t2",), ("t1",), ("none",))


def test_holm_steps_down():
    generator = np.random.default_rng(0)
    cells = np.array([0.0, 0.2, 0.25, 0.9])[:, None] + 0.2 * generator.normal(size=(4, 12))
    pairs = np.triu_indices(4, 1)
    raw = np.array([stats.wilcoxon(cells[i], cells[j]).pvalue for i, j in zip(*pairs, strict=True)])
    expected, running = np.zeros(6), 0.0
    for step, index in enumerate(np.argsort(raw, kind="stable")):
        running = max(running, min(1, (6 - step) * raw[index]))
        expected[index] = running
    np.testing.assert_allclose(wilcoxon_tests(cells, "holm")[pairs], expected)
    np.testing.assert_allclose(wilcoxon_tests(cells, "bonferroni")[pairs], np.minimum(1, 6 * raw))


def test_groups_are_maximal_runs():
    def groups(places, reach):
        return maximal_groups(np.abs(np.subtract.outer(places, places)) < reach)

    assert groups([1, 1.5, 2, 4, 4.5], 1.1) == [(0, 1, 2), (3, 4)]
    assert groups([1, 2, 3, 4], 2.5) == [(0, 1, 2), (1, 2, 3)]
    assert groups([1, 3, 5], 1) == [(0,), (1,), (2,)]
    assert groups([1, 1, 1], 1) == [(0, 1, 2)]


def test_a_run_needs_every_pair_alike():
    alike = np.ones((3, 3), bool)
    alike[0, 2] = alike[2, 0] = False
    assert maximal_groups(alike) == [(0, 1), (1, 2)]


def test_without_a_friedman_difference_all_are_one_group():
    # Friedman p = 0.0503, and yet the outer average ranks are a critical distance apart.
    cells = np.array(
        [[1, 0, 3, 1, 3, 3], [3, 3, 2, 2, 2, 2], [2, 2, 1, 3, 0, 1], [0, 1, 0, 0, 1, 0]]
    )
    result = compare(table(cells / 4))
    assert result.friedman.p_value > 0.05 and result.p_values.min() < 0.05
    assert result.groups == (result.regularisers,)
    assert compare(table(cells / 4), ReportOptions(significance=0.06)).groups != result.groups


def test_accuracies_that_differ_by_rounding_share_a_rank():
    cells = np.array([[0.3, 0.5], [0.1 + 0.2, 0.5], [0.2, 0.4]])
    result = compare(table(cells))
    assert dict(zip(result.regularisers, result.ranks, strict=True)) == {
        "none": 1.5, "t1": 1.5, "t2": 3.0,
    }  # fmt: skip
    # Three rows and two columns are the least that can be tested.
    assert result.problem is None and result.friedman.degrees == 2


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (np.zeros((0, 0)), "no network has a completed run"),
        (np.full((3, 2), np.nan), "no network has a completed run"),
        (np.array([[0.1], [0.2], [0.3]]), "at least 2 networks"),
        (np.array([[0.1, 0.2], [0.2, 0.1]]), "at least 3 regularisers, there are 2"),
        (np.array([[0.1, 0.2]]), "at least 3 regularisers, there is 1"),
        (np.full((4, 3), 0.5), "same accuracy"),
    ],
)
def test_too_small_a_table_says_so(cells, words):
    result = compare(table(cells))
    assert words in result.problem
    assert result.friedman is None and result.p_values is None and result.groups == ()
    assert len(result.networks) == cells.shape[1]
    assert any(words in sentence for sentence in describe(result))


def test_only_complete_columns_enter_and_the_others_are_named():
    cells = np.random.default_rng(0).random((5, 6))
    cells[1, 2] = np.nan
    cells[4] = np.nan
    result = compare(table(cells))
    assert result.networks == ("n0", "n1", "n3", "n4", "n5")
    assert set(result.regularisers) == {"none", "t1", "t2", "min_corr"}
    kept = cells[:4, [0, 1, 3, 4, 5]]
    assert result.friedman.statistic == pytest.approx(stats.friedmanchisquare(*kept).statistic)
    assert "l1: no completed run on any network" in result.left_out
    assert "n2: no completed run of t1" in result.left_out


FRIEDMAN = Friedman(9.1234, 2, 0.0104)
ROUGH = "With 8 networks these large-sample tests are rough and have little power."
RANKS = "Average ranks over 8 networks (1 is best): t1 1.25, none 2.00, l1 2.75."
TESTED = (
    "Friedman's test (tie-corrected): χ²(2) = 9.123, p = 0.0104: the regularisers differ at "
    "α = 0.05."
)


def _comparison(networks=8, friedman=FRIEDMAN, groups=(("t1", "none"), ("l1",)), **changes):
    options = changes.pop("options", ReportOptions())
    names = tuple(f"n{i}" for i in range(networks))
    rows = ("t1", "none", "l1")
    fields = dict(friedman=friedman, critical_distance=1.17155, groups=groups) | changes
    return Comparison(options, rows, names, ("l2: none",), (1.25, 2.0, 2.75), **fields)


def test_a_comparison_in_sentences():
    out = "Left out of the tests: l2: none."
    assert describe(_comparison()) == [
        out,
        RANKS,
        TESTED,
        "Nemenyi's critical distance is 1.172 ranks; not significantly different: {t1, none}.",
        ROUGH,
    ]
    problem = describe(_comparison(1, None, problem="too few"))
    ranks = RANKS.replace("8 networks", "1 network")
    assert problem == [out, "No test was possible: too few.", ranks]


@pytest.mark.parametrize("networks", [10, 11])
def test_other_sentences_of_a_comparison(networks):
    def sentences(**changes):
        return describe(_comparison(networks, **changes))

    options = ReportOptions(test="wilcoxon", correction="bonferroni")
    wilcoxon = "Pairwise Wilcoxon tests are corrected by Bonferroni; not significantly different: "
    both = sentences(options=options, groups=(("t1", "none"), ("none", "l1")))
    assert both[3] == wilcoxon + "{t1, none} and {none, l1}."
    none = sentences(options=options, groups=(("t1",), ("none",), ("l1",)))
    assert none[3] == wilcoxon + "no two of them."
    assert len(none) == (5 if networks == 10 else 4)
    alike = sentences(friedman=FRIEDMAN._replace(p_value=0.05))
    assert alike[2].endswith("p = 0.05: the regularisers do not differ significantly at α = 0.05.")
    assert alike[3] == (
        "Nemenyi's critical distance is 1.172 ranks; without a significant Friedman test all are "
        "one group."
    )


def test_means_over_seeds_that_differ_by_rounding_share_a_rank():
    """1 / 256 lies between two numbers of seven decimals: rounding would part the two."""
    fine = 1 / 256
    result = compare(table([[fine + 1e-9, 0.5, 0.5], [fine - 1e-9, 0.5, 0.5], [0.1, 0.2, 0.1]]))
    assert result.ranks[0] == result.ranks[1] < result.ranks[2]


def test_alike_rows_are_a_group_whatever_lies_between_them():
    alike = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 1], [0, 0, 1, 1]], bool)
    assert maximal_groups(alike) == [(0, 2), (1,), (2, 3)]
