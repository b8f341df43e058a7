"""What several seeds say."""

import numpy as np
import pytest
from scipy import stats

from persist_jax.results.conclusions import counted, pairwise_matrix, seed_sentences
from persist_jax.results.seeds import (
    bootstrap_interval,
    by_network_and_seed,
    choices_per_seed,
    has_seeds,
    paired_differences,
    spread,
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
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    np.testing.assert_allclose(bootstrap_interval([values]), theirs, atol=0.03)


def test_strata_are_resampled_apart_and_count_the_same():
    """Within a stratum nothing varies here; with its values thrown together it would."""
    low, high = bootstrap_interval([np.full(3, 1.0), np.full(50, 2.0)])
    assert (low, high) == (1.5, 1.5)
    # Variance of a mean of means: that of each, over 4.
    generator = np.random.default_rng(0)
    parts = [generator.normal(size=40), generator.normal(size=60)]
    error = np.sqrt(sum(part.var() / len(part) for part in parts)) / 2
    low, high = bootstrap_interval(parts)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_differences_pair_runs_of_one_seed(table):
    found = paired_differences(
        table(
            # Seed 9 has no partner.
            *_runs("a", {0: 0.70, 1: 0.50, 9: 0.1}, {0: 0.71, 1: 0.53}),
            *_runs("b", {0: 0.60, 1: 0.60}, {0: 0.60, 1: 0.56}),
        )
    )
    assert [(d.network, d.regulariser, d.pairs) for d in found] == [
        ("a", "t1", 2), ("b", "t1", 2), (None, "t1", 4),
    ]  # fmt: skip
    np.testing.assert_allclose([d.mean for d in found], [0.02, -0.02, 0.0], atol=1e-9)
    np.testing.assert_allclose((found[0].low, found[0].high), (0.01, 0.03), atol=1e-9)
    assert [d.beyond_seeds for d in found] == [True, False, False]
    sentences = seed_sentences(found)
    assert "beyond the seeds: none of them" in sentences[1] and "too narrow" in sentences[2]


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
    assert matrix["names"] == ("t1", "none") and matrix["unit"] == "network and seed"
    (_, (nothing, pair)), (_, (turned, _)) = matrix["rows"]
    assert nothing is None and (pair.wins, pair.ties, pair.losses) == (2, 1, 1)
    assert (turned.wins, turned.losses, turned.effect) == (1, 2, -pair.effect)
    assert turned.probabilities == pair.probabilities[::-1]
    assert any("cannot find any" in sentence for sentence in matrix["sentences"])
    assert pairwise_matrix(table(*_runs("c", {0: 0.1}, {0: 0.2})), ReportOptions()) is not None
