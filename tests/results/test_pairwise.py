"""Pairs of regularisers against SciPy, baycomp and examples worked by hand."""

import numpy as np
import pytest
from scipy import stats

from persist_jax.results.pairwise import (
    compare_pairs,
    rank_biserial,
    signed_rank_probabilities,
)
from tests.results.test_statistics import DEMSAR


def test_the_effect_size_is_that_of_wilcoxons_statistic():
    """SciPy's W+ is the sum of the ranks of the positive differences."""
    differences = np.random.default_rng(0).normal(0.3, 1, size=(5, 9)).round(1)
    for values in differences:
        counted = values[values != 0]
        total = len(counted) * (len(counted) + 1) / 2
        plus = stats.wilcoxon(values, alternative="greater").statistic
        assert rank_biserial(values) == pytest.approx((2 * plus - total) / total)


def test_the_effect_size_by_hand():
    # |d| 2 2 5 6 have ranks 1.5 1.5 3 4: 1.5 + 3 + 4 above, 1.5 below.
    assert rank_biserial(np.array([2.0, -2.0, 0.0, 5.0, 6.0])) == pytest.approx(7 / 10)
    assert rank_biserial(np.zeros(3)) == 0 and rank_biserial(np.array([-1.0])) == -1


# Better, equivalent, worse of baycomp 1.0.3, which is not installed here: it has a package `tests`.
# SignedRankTest.probs(D[i], D[j], 10_000 * rope, nsamples=400_000, random_state=1) with
# D = np.rint(10_000 * DEMSAR): in whole numbers ties and the border of the rope are exact.
BAYCOMP = {
    (0, 1, 0.0): (0.0009, 0, 0.9991), (0, 1, 0.01): (0.0, 0.3286, 0.6714),
    (0, 3, 0.0): (0.0029, 0, 0.9971), (0, 3, 0.01): (0.0004, 0.0345, 0.9651),
    (1, 2, 0.0): (0.9844, 0, 0.0156), (1, 2, 0.01): (0.4646, 0.5285, 0.0069),
    (2, 3, 0.0): (0.0095, 0, 0.9905), (2, 3, 0.01): (0.0008, 0.2185, 0.7807),
}  # fmt: skip


@pytest.mark.parametrize(("i", "j", "equivalence"), BAYCOMP)
def test_probabilities_are_those_of_baycomp(i, j, equivalence):
    """To three standard errors of ours and of theirs."""
    ours = signed_rank_probabilities(DEMSAR[i] - DEMSAR[j], equivalence)
    np.testing.assert_allclose(ours, BAYCOMP[i, j, equivalence], atol=0.0075)
    assert sum(ours) == pytest.approx(1)


def test_probabilities_of_the_extremes():
    assert signed_rank_probabilities(np.full(20, 0.1), 0.01).better > 0.999
    assert signed_rank_probabilities(np.zeros(20), 0.01).equivalent > 0.999
    # The prior's difference of 0 alone is on neither side.
    assert signed_rank_probabilities(np.full(20, -0.1), 0.0).worse == 1
    # Differences on the border count half on both sides.
    border = signed_rank_probabilities(np.full(40, 0.01), 0.01)
    assert border.better == pytest.approx(0, abs=0.01) and border.equivalent > 0.9


def test_every_pair_once_and_the_earlier_one_first():
    pairs = compare_pairs(("a", "b", "c", "d"), DEMSAR, equivalence=0.01)
    assert [(p.first, p.second) for p in pairs] == [*zip("aaabbc", "bcdcdd", strict=True)]
    first = pairs[0]
    differences = DEMSAR[0] - DEMSAR[1]
    assert first.difference == pytest.approx(differences.mean())
    assert (first.wins, first.ties, first.losses) == (2, 2, 10)
    raw = [stats.wilcoxon(DEMSAR[i], DEMSAR[j]).pvalue for i in range(4) for j in range(i + 1, 4)]
    # Holm by hand: sorted, times 6, 5, ..., 1, never falling, at most 1.
    order = np.argsort(raw)
    held = np.maximum.accumulate(np.sort(raw) * np.arange(6, 0, -1)).clip(max=1)
    np.testing.assert_allclose(np.array([p.p_value for p in pairs])[order], held)


def test_ties_are_those_of_the_numbers_of_right_examples():
    """Accuracies as a record has them, of 1000 examples, against the counts themselves."""
    counts = np.array([[903, 700, 611, 507, 813, 402, 920], [901, 702, 607, 511, 805, 402, 915]])
    cells = (counts / 1000).astype(np.float32).astype(float)
    (pair,) = compare_pairs(("a", "b"), cells, equivalence=0.002)
    d = (counts[0] - counts[1]).astype(float)
    assert pair.p_value == stats.wilcoxon(d).pvalue
    assert pair.effect == rank_biserial(d)
    assert (pair.wins, pair.ties, pair.losses) == (4, 1, 2)
    assert pair.probabilities == signed_rank_probabilities(d, 2.0)


def test_a_difference_of_exactly_the_equivalence_is_on_the_border():
    border = np.array([[0.9, 0.8, 0.3] * 8, [0.89, 0.79, 0.29] * 8])
    (pair,) = compare_pairs(("a", "b"), border, equivalence=0.01)
    assert pair.probabilities.equivalent > 0.5 > pair.probabilities.better
