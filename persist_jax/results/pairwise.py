"""Compare every pair of regularisers: difference, wins, Wilcoxon's test, effect, probabilities.

A column of the compared table is a network, or a network and a seed; see
`persist_jax.results.seeds`.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from persist_jax.results.selection import ROUNDING, without_rounding
from persist_jax.results.statistics import wilcoxon_tests

DRAWS = 50_000
_CHUNK = 2_000  # draws whose weights are in memory at a time


class Probabilities(NamedTuple):
    """Probabilities that the first row is better, equivalent or worse."""

    better: float
    equivalent: float
    worse: float


class Pair(NamedTuple):
    """The comparison of two rows.

    Attributes:
        first: name of the first row.
        second: name of the second row.
        difference: mean of the first minus the second, in fractions of 1.
        wins: number of columns in which the first is higher.
        ties: number of columns in which both are equal.
        losses: number of columns in which the first is lower.
        p_value: p-value of Wilcoxon's signed-rank test, corrected for the number of pairs.
        effect: matched-pairs rank-biserial correlation, in [-1, 1].
        probabilities: probabilities by the Bayesian signed-rank test.
    """

    first: str
    second: str
    difference: float
    wins: int
    ties: int
    losses: int
    p_value: float
    effect: float
    probabilities: Probabilities


def compare_pairs(
    names: Sequence[str],
    cells: Float[np.ndarray, "rows columns"],
    *,
    equivalence: float,
    correction: str = "holm",
) -> list[Pair]:
    """Compare every two rows of a table, as in a multiple comparison matrix.

    Args:
        names: names of the rows.
        cells: a value per row and column.
        equivalence: smaller differences count as equivalent; see `signed_rank_probabilities`.
        correction: correction of Wilcoxon's tests, "holm" or "bonferroni".

    Returns:
        A pair for every two rows, the earlier one first.

    Example:
        >>> cells = np.array([[0.9, 0.8, 0.7], [0.8, 0.7, 0.7]])
        >>> (pair,) = compare_pairs(("a", "b"), cells, equivalence=0.01)
        >>> round(pair.difference, 4), pair.wins, pair.ties, pair.losses, pair.effect
        (0.0667, 2, 1, 0, 1.0)

    Reference:
        Ismail-Fawaz et al., An approach to multiple comparison benchmark evaluations that is
        stable under manipulation of the comparate set, arXiv:2305.11921.
    """
    p_values = wilcoxon_tests(cells, correction) if len(cells) > 1 else None
    pairs = []
    for i, j in itertools.combinations(range(len(cells)), 2):
        differences = without_rounding(cells[i] - cells[j])
        pairs.append(
            Pair(
                names[i],
                names[j],
                float(differences.mean()),
                int((differences > 0).sum()),
                int((differences == 0).sum()),
                int((differences < 0).sum()),
                float(p_values[i, j]),
                rank_biserial(differences),
                signed_rank_probabilities(differences, equivalence),
            )
        )
    return pairs


def rank_biserial(differences: Float[np.ndarray, " n"]) -> float:
    r"""Matched-pairs rank-biserial correlation, the effect size of Wilcoxon's signed-rank test.

    $$ \frac{R_+ - R_-}{R_+ + R_-} $$

    where $R_\pm$ are the sums of the ranks of $|d_i|$ over positive and negative differences;
    differences of 0 do not count. It is 1 if all are positive, -1 if all are negative, and 0 if
    none counts.

    Example:
        >>> rank_biserial(np.array([3.0, 2.0, -1.0, 0.0]))
        0.6666666666666666

    Reference:
        Kerby, The simple difference formula, Comprehensive Psychology 3 (2014).
    """
    counted = differences[differences != 0]
    if not len(counted):
        return 0.0
    ranks = stats.rankdata(np.abs(counted))
    return float(np.sum(ranks * np.sign(counted)) / ranks.sum())


def signed_rank_probabilities(
    differences: Float[np.ndarray, " n"], equivalence: float, *, draws: int = DRAWS, seed: int = 0
) -> Probabilities:
    r"""The Bayesian signed-rank test with a region of practical equivalence.

    The prior, a difference $d_0 = 0$, and the differences $d_1, \ldots, d_n$ have weights
    $(w_0, \ldots, w_n) \sim \mathrm{Dirichlet}(1/2, 1, \ldots, 1)$. In each draw the largest of

    $$ \sum_{ij} w_i w_j [d_i + d_j > 2 r],\quad \sum_{ij} w_i w_j [|d_i + d_j| < 2 r],\quad
       \sum_{ij} w_i w_j [d_i + d_j < -2 r] $$

    decides whether the first is better, both are equivalent, or the first is worse. A pair on the
    border of the region counts half on either side.

    Args:
        differences: the first minus the second.
        equivalence: the region's half width $r$, at least 0; at 0 nothing is equivalent.
        draws: number of draws.
        seed: seed of the draws.

    Returns:
        The shares of the draws, which add up to 1; with 50 000 draws, their standard error is at
        most 0.0022.

    Example:
        >>> probabilities = signed_rank_probabilities(np.array([0.03, 0.02, 0.04]), 0.01)
        >>> probabilities.better > 0.9 > probabilities.equivalent > probabilities.worse
        True

    Reference:
        Benavoli et al., Time for a change: a tutorial for comparing multiple classifiers through
        Bayesian analysis, JMLR 18 (2017).
    """
    values = np.append(0.0, differences)
    sums = np.add.outer(values, values)
    above, below = (_over(part, 2 * equivalence) for part in (sums, -sums))
    generator = np.random.default_rng(seed)
    alpha = np.append(0.5, np.ones(len(differences)))
    counts = np.zeros(3)
    for start in range(0, draws, _CHUNK):
        weights = generator.dirichlet(alpha, min(_CHUNK, draws - start))
        better, worse = (np.sum(weights @ part * weights, axis=1) for part in (above, below))
        # At 0 the two add up to 1.
        equivalent = 1 - better - worse if equivalence else np.zeros_like(better)
        largest = np.argmax([better, equivalent, worse], axis=0)
        counts += np.bincount(largest, minlength=3)
    return Probabilities(*(counts / draws).tolist())


def _over(sums: np.ndarray, border: float) -> np.ndarray:
    return (sums > border + ROUNDING) + 0.5 * (np.abs(sums - border) <= ROUNDING)
