"""Conclusions in a sentence each: from seeds, and from every pair."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from persist_jax.results.pairwise import Pair, compare_pairs
from persist_jax.results.seeds import (
    Difference,
    PerSeed,
    by_network_and_seed,
    has_seeds,
)
from persist_jax.results.selection import Table
from persist_jax.results.statistics import rank
from persist_jax.store import ReportOptions

_PROBABLE = 0.95


def seed_sentences(differences: Sequence[Difference]) -> list[str]:
    """State the conclusion from paired differences, and its limits."""
    everywhere = [d for d in differences if d.network is None] or list(differences)
    better = [_named(d) for d in everywhere if d.low > 0]
    worse = [_named(d) for d in everywhere if d.high < 0]
    sentences = [
        "Test accuracy at the chosen weight minus that of none, of runs with the same seed; the "
        "interval is Student's, 95 % over the seeds within each network. It says what another seed "
        "would give on these networks and this data, and nothing of other data.",
        f"More accurate than none beyond the seeds: {', '.join(better) or 'none of them'}; less "
        f"accurate: {', '.join(worse) or 'none of them'}.",
    ]
    return sentences


def _named(difference: Difference) -> str:
    where = "" if difference.network is None else f" on {difference.network}"
    return f"{difference.regulariser}{where} ({100 * difference.mean:+.2f} %)"


def counted(choices: Sequence[PerSeed]) -> list[dict[str, Any]]:
    """The rows of the table of choices per seed, each weight with how many seeds chose it."""
    return [
        {
            "network": c.network,
            "regulariser": c.regulariser,
            "tests": c.tests,
            "counts": sorted(Counter(c.weights).items()),
        }
        for c in choices
    ]


def pairwise_matrix(table: Table, options: ReportOptions) -> dict[str, Any] | None:
    """Every pair of regularisers, best mean rank first; `None` where there are too few values.

    Returns:
        `pairs` as `compare_pairs` gives them, `unit` in words, `sentences`, and the options that
        the page names.
    """
    names, columns, cells = by_network_and_seed(table)
    if len(names) < 2 or len(columns) < 3:
        return None
    order = rank(cells).argsort(kind="stable")
    names, cells = tuple(names[i] for i in order), cells[order]
    pairs = compare_pairs(
        names, cells, equivalence=options.equivalence, correction=options.correction
    )
    networks = len({network for network, _ in columns})
    seeds = has_seeds(table)
    return {
        "pairs": pairs,
        "unit": "network and seed" if seeds else "network",
        "sentences": _sentences(pairs, len(columns), networks, seeds, options),
        "correction": options.correction,
        "significance": options.significance,
    }


def _sentences(
    pairs: Sequence[Pair], columns: int, networks: int, seeds: bool, options: ReportOptions
) -> list[str]:
    units = f"{columns} runs of {networks} network{'s' * (networks > 1)}, paired by seed"
    if not seeds:
        units = f"{networks} networks"
    found = [f"{p.first} and {p.second}" for p in pairs if p.p_value < options.significance]
    alike = [p for p in pairs if p.probabilities.equivalent > _PROBABLE]
    sentences = [
        f"Over {units}: Wilcoxon's test finds {', '.join(found) or 'no two regularisers'} to "
        f"differ at {options.significance:g}.",
        f"Within {100 * options.equivalence:g} % of each other, with a probability over "
        f"{_PROBABLE:g}: {len(alike)} of {len(pairs)} pairs.",
    ]
    least = min(1.0, len(pairs) * 2.0 ** (1 - columns))
    if least >= options.significance:
        sentences.append(
            f"Of {columns} columns and {len(pairs)} pairs Wilcoxon's test cannot find any: its "
            f"least p-value is 2^{1 - columns}, {least:.2g} when it is corrected."
        )
    if seeds:
        sentences.append(
            "Runs of one network are no independent data sets: this holds for these networks, as "
            "Friedman's test above, which counts networks, would have it for others."
        )
    return sentences
