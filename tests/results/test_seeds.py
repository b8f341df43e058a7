"""What several seeds say."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from persist_jax.results.conclusions import counted, pairwise_matrix, seed_sentences
from persist_jax.results.seeds import (
    by_network_and_seed,
    choices_per_seed,
    has_seeds,
    interquartile_mean,
    paired_differences,
    probability_of_improvement,
    seeds_needed,
    spread,
    t_interval,
)
from persist_jax.results.selection import tabulate
from persist_jax.store import ReportOptions, read_sweep


@pytest.fixture
def table(tmp_path, sweeps):
    """The table of runs given by their fields."""

    def of(*runs):
        sweeps.config(tmp_path, networks=["a", "b"], regularisers=["none", "t1"])
        for fields in runs:
            sweeps.run(tmp_path, sweeps.record(**fields))
        return tabulate(read_sweep(tmp_path))

    return of


def _runs(network, none, t1, weight=0.1):
    return [
        *(dict(network=network, regulariser="none", weight=0.0, seed=k, test=v)
          for k, v in none.items()),
        *(dict(network=network, regulariser="t1", weight=weight, seed=k, test=v)
          for k, v in t1.items()),
    ]  # fmt: skip


def test_an_interval_of_one_stratum_is_scipys():
    values = np.random.default_rng(0).normal(size=7)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    np.testing.assert_allclose(t_interval([values], 0.9), theirs)


def test_an_interval_of_two_strata_is_welchs():
    """The mean of two means is half of the difference between one and the other's opposite."""
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=4), generator.normal(3, 5, size=9)
    theirs = stats.ttest_ind(one, -other, equal_var=False).confidence_interval()
    np.testing.assert_allclose(np.multiply(2, t_interval([one, other])), theirs)


def test_equal_values_have_no_interval():
    rounded = np.array([0.1 + 0.2, 0.3])
    assert np.isnan(t_interval([np.full(3, 1.0), rounded])).all()
    assert not np.isnan(t_interval([np.full(3, 1.0), np.array([2.0, 2.1])])).any()


@pytest.mark.slow
@pytest.mark.parametrize("strata", [1, 3])
def test_an_interval_of_five_seeds_holds_what_it_says(strata):
    scales = np.arange(1, strata + 1)[:, None]
    draws = np.random.default_rng(1).normal(size=(4000, strata, 5)) * scales
    ends = np.array([t_interval(list(draw)) for draw in draws])
    assert np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0)) > 0.94


def test_seeds_needed_find_the_difference_as_often_as_they_say():
    some = np.random.default_rng(2).normal(0, 0.01, 30)
    for difference in (0.02, 0.005, 0.0003):
        theirs = TTestPower().solve_power(difference / some.std(ddof=1), alpha=0.05, power=0.8)
        assert seeds_needed(some, difference) == np.ceil(theirs)
    assert seeds_needed(np.zeros(3), 0.01) is None


def test_interquartile_means_and_probabilities_of_improvement():
    values = np.random.default_rng(3).normal(size=(5, 8))
    middle = np.sort(values.ravel())[10:30].mean()
    assert interquartile_mean(values) == pytest.approx(middle)
    ours, theirs = np.round(values[:, :4] * 2) / 2, np.round(values[:, 4:] * 2) / 2
    expected = [stats.mannwhitneyu(x, y).statistic / 16 for x, y in zip(ours, theirs, strict=True)]
    found = probability_of_improvement(list(ours), list(theirs))
    assert found == pytest.approx(np.mean(expected))


def test_differences_pair_runs_of_one_seed(table):
    found = paired_differences(
        table(
            # Seed 9 has no partner.
            *_runs("a", {0: 0.70, 1: 0.50, 9: 0.1}, {0: 0.71, 1: 0.53}),
            # A tie is one, though two programs round it to different bits.
            *_runs("b", {0: 0.60, 1: 0.60}, {0: 0.60 + 1e-9, 1: 0.56}),
        )
    )
    assert [(d.network, d.regulariser, d.pairs) for d in found] == [
        ("a", "t1", 2), ("b", "t1", 2), (None, "t1", 4),
    ]  # fmt: skip
    np.testing.assert_allclose([d.mean for d in found], [0.02, -0.02, 0.0], atol=1e-9)
    # Two values of 0.01 and 0.03: t of one degree of freedom times half of their distance.
    half = stats.t.ppf(0.975, 1) * 0.01
    np.testing.assert_allclose((found[0].low, found[0].high), (0.02 - half, 0.02 + half))
    assert [d.beyond_seeds for d in found] == [False, False, False]
    assert [d.improvement for d in found] == [0.75, 0.25, 0.5]
    assert found[0].needed == seeds_needed(np.array([0.01, 0.03]), 0.005)
    assert found[2].needed is None
    assert "above 0: none of them" in seed_sentences(found)[1]


def test_a_single_seed_is_no_difference(table):
    one = table(*_runs("a", {0: 0.7}, {0: 0.71}))
    assert paired_differences(one) == [] and not has_seeds(one) and choices_per_seed(one) == []
    assert spread([0.5]) is None


def test_each_seed_chooses_by_its_own_validation_accuracy(table):
    runs = [
        dict(network="a", weight=weight, seed=seed, validation=validation, test=test)
        for weight, seed, validation, test in (
            (0.1, 0, 0.8, 0.5), (1.0, 0, 0.7, 0.9), (0.1, 1, 0.6, 0.4), (1.0, 1, 0.75, 0.3),
            (0.1, 2, 0.6, 0.2), (1.0, 2, 0.5, 0.1),
        )
    ]  # fmt: skip
    (choice,) = choices_per_seed(table(*runs))
    assert choice.weights == (0.1, 1.0, 0.1) and choice.tests == (0.5, 0.3, 0.2)
    assert counted([choice])[0]["counts"] == [(0.1, 2), (1.0, 1)]


def test_columns_are_networks_and_seeds_that_every_regulariser_has(table):
    found = table(
        *_runs("a", {0: 0.70, 1: 0.50, 2: 0.6}, {0: 0.71, 1: 0.53}),
        *_runs("b", {0: 0.60, 3: 0.60}, {0: 0.60, 3: 0.56}),
    )
    rows, columns, cells = by_network_and_seed(found)
    assert rows == ("none", "t1") and columns == (("a", 0), ("a", 1), ("b", 0), ("b", 3))
    np.testing.assert_allclose(cells, [[0.7, 0.5, 0.6, 0.6], [0.71, 0.53, 0.6, 0.56]])
    matrix = pairwise_matrix(found, ReportOptions())
    # t1 is first: its mean rank is (1 + 1 + 1.5 + 2) / 4.
    (pair,) = matrix["pairs"]
    assert (pair.first, pair.second) == ("t1", "none") and matrix["unit"] == "network and seed"
    assert (pair.wins, pair.ties, pair.losses) == (2, 1, 1)
    assert any("cannot find any" in sentence for sentence in matrix["sentences"])
    assert pairwise_matrix(table(*_runs("c", {0: 0.1}, {0: 0.2})), ReportOptions()) is not None
