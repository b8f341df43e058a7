"""Statistics over seeds: spread, paired differences with intervals, and choices per seed."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from persist_jax.results.selection import Table, choose, without_rounding

BASELINE = "none"
CONFIDENCE = 0.95
# The smallest difference of interest, half a percentage point, as a fraction of 1.
SMALL = 0.005
_EQUAL = 1e-6  # relative; measures are float32


class Difference(NamedTuple):
    """Test accuracy with a regulariser minus that without one, from runs of the same seeds.

    Attributes:
        network: the network; `None`: all networks, with equal weights.
        regulariser: the regulariser, at the weight chosen for each network.
        mean: mean difference, in fractions of 1.
        low: lower end of its interval.
        high: upper end.
        pairs: number of pairs of runs.
        improvement: probability that a run is better than one without a regulariser; see
            `probability_of_improvement`.
        needed: number of seeds needed to find a difference of `SMALL`; see `seeds_needed`. `None`
            for all networks.
    """

    network: str | None
    regulariser: str
    mean: float
    low: float
    high: float
    pairs: int
    improvement: float
    needed: int | None

    @property
    def beyond_seeds(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


class PerSeed(NamedTuple):
    """The weight that each seed alone would choose, and its test accuracy.

    Attributes:
        network: the network.
        regulariser: the regulariser.
        weights: per seed, the weight with the best validation accuracy of this seed.
        tests: per seed, the test accuracy at this weight.
    """

    network: str
    regulariser: str
    weights: tuple[float, ...]
    tests: tuple[float, ...]


def has_seeds(table: Table) -> bool:
    """Return whether any choice averages over more than one seed."""
    return any(len(choice.seeds) > 1 for choice in table.choices.values())


def spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation over seeds, with n - 1; `None` for fewer than two.

    Example:
        >>> round(spread([0.88, 0.9]), 4)
        0.0141
    """
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def by_network_and_seed(
    table: Table,
) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...], Float[np.ndarray, "rows columns"]]:
    """Return test accuracies of single runs, for networks and seeds that every regulariser has.

    Returns:
        The regularisers with any choice; the networks and seeds for which each of them has a run at
        its chosen weight; the accuracies.
    """
    rows = [name for name in table.regularisers if any(r == name for _, r in table.choices)]
    found = {cell: choice.tests for cell, choice in table.choices.items()}
    columns = [
        (network, seed)
        for network in table.networks
        for seed in sorted(found.get((network, rows[0]), ()) if rows else ())
        if all(seed in found.get((network, name), ()) for name in rows)
    ]
    cells = [[found[network, name][seed] for network, seed in columns] for name in rows]
    cells = np.array(cells, float).reshape(len(rows), len(columns))
    return tuple(rows), tuple(columns), without_rounding(cells)


def paired_differences(table: Table) -> list[Difference]:
    """Compare every regulariser with none, per network and over all networks.

    The difference over all networks is left out unless every network has pairs.
    """
    return [
        difference
        for name in table.regularisers
        if name != BASELINE
        for difference in _of_regulariser(table, name)
    ]


def _of_regulariser(table: Table, name: str) -> list[Difference]:
    ours, theirs = {}, {}
    for network in table.networks:
        mine, base = (table.choices.get((network, row)) for row in (name, BASELINE))
        if mine is None or base is None:
            continue
        seeds = sorted(mine.tests.keys() & base.tests.keys())
        if len(seeds) > 1:
            ours[network], theirs[network] = without_rounding(
                np.array([[choice.tests[seed] for seed in seeds] for choice in (mine, base)])
            )

    def difference(where, networks):
        pairs = [without_rounding(ours[n] - theirs[n]) for n in networks]
        improvement = probability_of_improvement(
            [ours[n] for n in networks], [theirs[n] for n in networks]
        )
        return Difference(
            where, name, float(np.mean([d.mean() for d in pairs])), *t_interval(pairs),
            sum(map(len, pairs)), improvement,
            None if where is None else seeds_needed(pairs[0], SMALL),
        )  # fmt: skip

    found = [difference(network, [network]) for network in ours]
    if len(ours) > 1 and len(ours) == len(table.networks):
        found.append(difference(None, list(ours)))
    return found


def t_interval(
    strata: Sequence[Float[np.ndarray, "_"]], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    r"""Return Student's interval of the mean of the strata's means.

    With $K$ strata of $n_k$ values, their means $m_k$ and variances $s_k^2$,

    $$ \frac1K \sum_k m_k \pm t_\nu \sqrt{\frac{1}{K^2} \sum_k v_k},\qquad
       v_k = \frac{s_k^2}{n_k},\qquad
       \nu = \Bigl(\sum_k v_k\Bigr)^2 \Big/ \sum_k \frac{v_k^2}{n_k - 1}. $$

    With five values, a nominal 95 % interval covers the mean in 95 % of all cases if they are
    normal or differences of accuracies, and in 93 % if they are skewed; a percentile bootstrap
    covers it in 82 to 84 % (`python -m benchmarks.coverage`).

    Args:
        strata: two or more values in each, as differences per seed on each network.
        confidence: confidence level in (0, 1).

    Returns:
        Lower and upper end; NaN if the values of every stratum are equal up to rounding, which says
        nothing of their spread.

    Example:
        >>> [round(end, 3) for end in t_interval([np.array([1.0, 2.0, 3.0])])]
        [-0.484, 4.484]

    Reference:
        Welch, The generalization of "Student's" problem when several different population variances
        are involved, Biometrika 34 (1947).
    """
    mean = float(np.mean([values.mean() for values in strata]))
    if all(np.ptp(values) <= _EQUAL * np.abs(values).max() for values in strata):
        return math.nan, math.nan
    parts = np.array([values.var(ddof=1) / len(values) for values in strata])
    beyond_one = np.array([len(values) - 1 for values in strata])
    freedom = parts.sum() ** 2 / np.sum(parts**2 / beyond_one)
    half = stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(parts.sum()) / len(strata)
    return mean - float(half), mean + float(half)


def seeds_needed(
    differences: Float[np.ndarray, " seeds"],
    difference: float,
    *,
    power: float = 0.8,
    confidence: float = CONFIDENCE,
) -> int | None:
    """Return how many seeds a paired t-test needs to find a difference, given the spread of some.

    Args:
        differences: differences of two or more pairs of runs.
        difference: the difference to find, in the same unit; not 0.
        power: the probability to find it.
        confidence: one minus the level of the two-sided test.

    Returns:
        The smallest number of pairs, at least 2; None if all differences are equal.

    Example:
        >>> seeds_needed(np.array([-0.01, 0.01]), 0.01)
        18

    Reference:
        The noncentral t distribution: Cohen, Statistical power analysis (1988), chapter 2.
    """
    deviation = float(np.std(differences, ddof=1))
    if not deviation:
        return None
    enough = 2
    while _power(abs(difference) / deviation, enough, 1 - confidence) < power:
        enough *= 2
    few = enough // 2
    while enough - few > 1:
        middle = (few + enough) // 2
        if _power(abs(difference) / deviation, middle, 1 - confidence) < power:
            few = middle
        else:
            enough = middle
    return enough


def _power(effect: float, count: int, significance: float) -> float:
    """Return the power of the paired t-test for a mean of `effect` standard deviations."""
    border, shift = stats.t.ppf(1 - significance / 2, count - 1), effect * np.sqrt(count)
    return float(
        stats.nct.sf(border, count - 1, shift) + stats.nct.cdf(-border, count - 1, shift)
    )


def interquartile_mean(values: Float[np.ndarray, "..."]) -> float:
    """Return the mean of the middle half of all values, which is robust to single runs.

    Example:
        >>> interquartile_mean(np.array([0.0, 1.0, 2.0, 100.0]))
        1.5

    Reference:
        Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice,
        NeurIPS 2021.
    """
    return float(stats.trim_mean(np.ravel(values), 0.25))


def interquartile_means(table: Table) -> list[tuple[str, float]]:
    """Return each regulariser's interquartile mean of test accuracies, best first.

    It is over the networks and seeds that every regulariser has.
    """
    rows, columns, cells = by_network_and_seed(table)
    if not columns:
        return []
    found = [(name, interquartile_mean(values)) for name, values in zip(rows, cells, strict=True)]
    return sorted(found, key=lambda pair: -pair[1])


def performance_profile(
    strata: Sequence[Float[np.ndarray, "_"]], thresholds: Float[np.ndarray, " t"]
) -> Float[np.ndarray, " t"]:
    r"""Return the share of runs whose value is above each threshold.

    $$ \frac1K \sum_k \frac1{n_k} \sum_i [x_{ki} > \tau] $$

    over the $K$ networks, which have equal weights.

    Example:
        >>> runs = [np.array([0.7, 0.8]), np.array([0.9])]
        >>> performance_profile(runs, np.array([0.7, 0.85])).tolist()
        [0.75, 0.5]

    Reference:
        Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice,
        NeurIPS 2021: score distributions.
    """
    return np.mean([np.mean(x[:, None] > thresholds[None], axis=0) for x in strata], axis=0)


def performance_profiles(
    table: Table,
) -> dict[str, tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]]:
    """Return each regulariser's performance profile: thresholds and shares of runs.

    The runs are those of the networks and seeds that every regulariser has. The thresholds are all
    accuracies, between which no profile changes, and one below them. The result is empty with fewer
    than three runs of each regulariser.
    """
    rows, columns, cells = by_network_and_seed(table)
    if len(columns) < 3:
        return {}
    thresholds = np.unique(cells)
    thresholds = np.append(thresholds[0] - 0.1 * np.ptp(thresholds), thresholds)
    networks = np.array([network for network, _ in columns])
    found = {}
    for name, values in zip(rows, cells, strict=True):
        strata = [values[networks == network] for network in dict.fromkeys(networks)]
        found[name] = thresholds, performance_profile(strata, thresholds)
    return found


def probability_of_improvement(
    ours: Sequence[Float[np.ndarray, "_"]], theirs: Sequence[Float[np.ndarray, "_"]]
) -> float:
    r"""Return the probability that a run of ours is better than one of theirs; a tie counts half.

    $$ \frac1K \sum_k \Bigl(P(x_k > y_k) + \tfrac12 P(x_k = y_k)\Bigr) $$

    over the $K$ networks; $P$ is over all pairs of runs of a network.

    Args:
        ours: the values of our runs, per network.
        theirs: the values of their runs, per network in the same order.

    Example:
        >>> probability_of_improvement([np.array([3.0, 1.0])], [np.array([2.0, 1.0])])
        0.625

    Reference:
        Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice,
        NeurIPS 2021.
    """
    shares = [
        (np.mean(x[:, None] > y[None]) + np.mean(x[:, None] == y[None]) / 2)
        for x, y in zip(ours, theirs, strict=True)
    ]
    return float(np.mean(shares))


def choices_per_seed(table: Table) -> list[PerSeed]:
    """Return the choices of each seed alone, for regularisers with more than one weight."""
    found = []
    for network in table.networks:
        for name in table.regularisers:
            records = table.records.get((network, name), ())
            seeds = sorted({record.seed for record in records})
            if len(seeds) < 2 or len({record.weight for record in records}) < 2:
                continue
            alone = [choose([r for r in records if r.seed == seed]) for seed in seeds]
            alone = [choice for choice in alone if choice is not None]
            weights, tests = (tuple(c.weight for c in alone), tuple(c.test for c in alone))
            found.append(PerSeed(network, name, weights, tests))
    return found
