"""Compare regularisers: average ranks, Friedman's test, pairwise tests and groups."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scikit_posthocs
from jaxtyping import Bool, Float
from scipy import stats
from statsmodels.stats.multitest import multipletests

from persist_jax.results.selection import Table, without_rounding
from persist_jax.store import ReportOptions

DEFAULTS = ReportOptions()


class Friedman(NamedTuple):
    """Friedman's statistic with tie correction, its degrees of freedom and p-value."""

    statistic: float
    degrees: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """The results of the tests on a table.

    Attributes:
        options: the tests and their significance level.
        regularisers: the compared regularisers, best average rank first.
        networks: the networks in the tests.
        left_out: rows and networks left out of the tests, each with the reason, as text.
        ranks: average ranks of `regularisers`; 1 is the best. Empty without a complete column.
        friedman: Friedman's test; None if it cannot be computed.
        p_values: corrected pairwise p-values, in the order of `regularisers`; None without tests.
        critical_distance: Nemenyi's critical distance; None for Wilcoxon or without tests.
        groups: maximal sets without a significant difference, in the order of ranks.
        problem: why there are no tests; None if there are.
    """

    options: ReportOptions
    regularisers: tuple[str, ...]
    networks: tuple[str, ...]
    left_out: tuple[str, ...]
    ranks: tuple[float, ...]
    friedman: Friedman | None = None
    p_values: Float[np.ndarray, "rows rows"] | None = None
    critical_distance: float | None = None
    groups: tuple[tuple[str, ...], ...] = ()
    problem: str | None = None

    @property
    def rejected(self) -> bool:
        """Whether Friedman's test finds any difference."""
        return self.friedman is not None and self.friedman.p_value < self.options.significance


def compare(table: Table, options: ReportOptions = DEFAULTS) -> Comparison:
    """Compare the regularisers over the networks that have an accuracy for each of them.

    Regularisers are ranked on each network (1 is the best, ties share the average rank). If
    Friedman's test is significant, pairwise tests give the groups; otherwise all regularisers are
    one group.

    Args:
        table: the accuracies.
        options: the tests and their significance level.

    Returns:
        The comparison; `problem` says why there is no test, if so.

    Reference:
        Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006).
    """
    cells, rows, columns, left_out = _complete_part(table)
    if not rows or not columns:
        problem = "no network has a completed run for every regulariser"
        return Comparison(options, rows, columns, left_out, (), problem=problem)
    ranks = rank(cells)
    order = np.argsort(ranks, kind="stable")
    cells, ranks, rows = cells[order], ranks[order], tuple(rows[i] for i in order)
    means = tuple(float(value) for value in ranks)
    problem = _problem(cells)
    if problem:
        return Comparison(options, rows, columns, left_out, means, problem=problem)
    friedman = friedman_test(cells)
    p_values, distance, alike = _pairwise(cells, ranks, options)
    if friedman.p_value >= options.significance:
        alike = np.ones_like(alike)
    named = tuple(tuple(rows[i] for i in group) for group in maximal_groups(alike))
    return Comparison(options, rows, columns, left_out, means, friedman, p_values, distance, named)


def _pairwise(
    cells: Float[np.ndarray, "rows columns"],
    ranks: Float[np.ndarray, " rows"],
    options: ReportOptions,
) -> tuple[Float[np.ndarray, "rows rows"], float | None, Bool[np.ndarray, "rows rows"]]:
    """Return pairwise p-values, Nemenyi's critical distance, and which pairs do not differ."""
    if options.test == "wilcoxon":
        p_values = wilcoxon_tests(cells, options.correction)
        return p_values, None, p_values >= options.significance
    distance = critical_distance(*cells.shape, options.significance)
    p_values = scikit_posthocs.posthoc_nemenyi_friedman(cells.T).to_numpy()
    return p_values, distance, np.abs(ranks[:, None] - ranks[None, :]) < distance


def rank(accuracies: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " rows"]:
    """Return every row's average rank; a column's highest value has rank 1, ties share theirs.

    Example:
        >>> rank(np.array([[0.9, 0.8], [0.7, 0.8]])).tolist()
        [1.25, 1.75]
    """
    return stats.rankdata(-accuracies, axis=0).mean(axis=1)


def friedman_test(accuracies: Float[np.ndarray, "rows columns"]) -> Friedman:
    r"""Friedman's test of $k \ge 3$ rows on $n \ge 2$ columns, with the correction for ties."""
    statistic, p_value = stats.friedmanchisquare(*accuracies)
    return Friedman(float(statistic), len(accuracies) - 1, float(p_value))


def critical_distance(rows: int, columns: int, significance: float) -> float:
    r"""Nemenyi's critical distance of average ranks.

    $$ q_\alpha \sqrt{k (k + 1) / (6 n)} $$

    for `k` rows and `n` columns; $q_\alpha$ is the studentized range quantile over $\sqrt 2$. Rows
    differ when their ranks are at least this far apart.

    Example:
        >>> round(critical_distance(4, 14, 0.05), 2)
        1.25
    """
    quantile = stats.studentized_range.ppf(1 - significance, rows, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(rows * (rows + 1) / (6 * columns)))


def wilcoxon_tests(
    accuracies: Float[np.ndarray, "rows columns"], correction: str
) -> Float[np.ndarray, "rows rows"]:
    """Wilcoxon's signed-rank test of every pair of rows, corrected for their number.

    Args:
        accuracies: one row per method.
        correction: "holm" or "bonferroni".

    Returns:
        Corrected p-values, 1 on the diagonal and for equal rows.
    """
    k = len(accuracies)
    pairs = np.triu_indices(k, 1)
    differences = map(without_rounding, accuracies[pairs[0]] - accuracies[pairs[1]])
    raw = [stats.wilcoxon(d).pvalue if d.any() else 1.0 for d in differences]
    p_values = np.ones((k, k))
    p_values[pairs] = multipletests(raw, method=correction)[1]
    return np.minimum(p_values, p_values.T)


def maximal_groups(alike: Bool[np.ndarray, "rows rows"]) -> list[tuple[int, ...]]:
    """Return the maximal sets of rows in which every pair is alike; a set may skip a row.

    It is Bron and Kerbosch's search for the maximal cliques of a graph.

    Example:
        >>> near = np.abs(np.subtract.outer([1, 2, 3, 9], [1, 2, 3, 9])) < 2
        >>> maximal_groups(near)
        [(0, 1), (1, 2), (3,)]
    """
    rows = range(len(alike))
    near = [{j for j in rows if j != i and alike[i, j]} for i in rows]
    groups: list[tuple[int, ...]] = []

    def search(group: set[int], possible: set[int], tried: set[int]) -> None:
        if not possible and not tried:
            groups.append(tuple(sorted(group)))
            return
        pivot = max(possible | tried, key=lambda row: len(near[row] & possible))
        for row in possible - near[pivot]:
            search(group | {row}, possible & near[row], tried & near[row])
            possible, tried = possible - {row}, tried | {row}

    search(set(), set(rows), set())
    return sorted(groups)


def _complete_part(
    table: Table,
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the rows with any value and, of these, the columns without a gap."""
    cells, fewer = table.comparable(), table.fewer_seeds()
    row_kept = ~np.isnan(cells).all(axis=1)
    rows = tuple(name for name, kept in zip(table.regularisers, row_kept, strict=True) if kept)
    cells = cells[row_kept]
    column_kept = ~np.isnan(cells).any(axis=0)
    left_out = [
        f"{name}: no completed run on any network"
        if not any(cell[1] == name for cell in table.choices)
        else f"{name}: fewer seeds than others on every network"
        for name, kept in zip(table.regularisers, row_kept, strict=True)
        if not kept
    ]
    for column, network in enumerate(table.networks):
        gaps = [name for name, gap in zip(rows, np.isnan(cells[:, column]), strict=True) if gap]
        short = [name for name in gaps if (network, name) in fewer]
        none = [name for name in gaps if name not in short]
        if none:
            left_out.append(f"{network}: no completed run of {', '.join(none)}")
        if short:
            left_out.append(f"{network}: fewer seeds of {', '.join(short)} than of others")
    networks = tuple(n for n, kept in zip(table.networks, column_kept, strict=True) if kept)
    return cells[:, column_kept], rows, networks, tuple(left_out)


def _problem(cells: Float[np.ndarray, "rows columns"]) -> str | None:
    rows, columns = cells.shape
    if columns < 2:
        return f"the tests need at least 2 networks with every regulariser, there is {columns}"
    if rows < 3:
        return f"the tests need at least 3 regularisers, there {_are(rows)}"
    if (cells == cells[0]).all():
        return "all regularisers have the same accuracy on every network"
    return None


def _are(count: int) -> str:
    return f"is {count}" if count == 1 else f"are {count}"


def describe(comparison: Comparison) -> list[str]:
    """Describe the comparison in sentences."""
    c = comparison
    sentences = [f"Left out of the tests: {reason}." for reason in c.left_out]
    if c.problem:
        sentences.append(f"No test was possible: {c.problem}.")
    if c.ranks:
        ranks = ", ".join(f"{n} {r:.2f}" for n, r in zip(c.regularisers, c.ranks, strict=True))
        sentences.append(f"Average ranks over {_networks(c.networks)} (1 is best): {ranks}.")
    if c.friedman is None:
        return sentences
    verdict = "differ" if c.rejected else "do not differ significantly"
    sentences.append(
        f"Friedman's test (tie-corrected): χ²({c.friedman.degrees}) = {c.friedman.statistic:.3f}, "
        f"p = {c.friedman.p_value:.3g}: the regularisers {verdict} at "
        f"α = {c.options.significance:g}."
    )
    if c.options.test == "nemenyi":
        name = f"Nemenyi's critical distance is {c.critical_distance:.3f} ranks"
    else:
        name = f"Pairwise Wilcoxon tests are corrected by {c.options.correction.capitalize()}"
    if c.rejected:
        sets = [f"{{{', '.join(group)}}}" for group in c.groups if len(group) > 1]
        groups = " and ".join(sets)
        sentences.append(f"{name}; not significantly different: {groups or 'no two of them'}.")
    else:
        sentences.append(f"{name}; without a significant Friedman test all are one group.")
    if len(c.networks) <= 10:
        count = _networks(c.networks)
        sentences.append(f"With {count} these large-sample tests are rough and have little power.")
    return sentences


def _networks(networks: Sequence[str]) -> str:
    return f"{len(networks)} network{'s' * (len(networks) != 1)}"
