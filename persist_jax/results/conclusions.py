"""State the conclusions from seeds and from every pair, in a sentence each."""

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
        "Test accuracy at the chosen weight minus that of the network without a term (none), for "
        "runs of the same seed, with Student's 95 % interval over the seeds within each network. "
        "The interval is about other seeds on these networks and this data, not about other data.",
        f"More accurate than none, with interval above 0: {', '.join(better) or 'none of them'}; "
        f"less accurate, with interval below 0: {', '.join(worse) or 'none of them'}.",
    ]
    return sentences


def _named(difference: Difference) -> str:
    where = "" if difference.network is None else f" on {difference.network}"
    return f"{difference.regulariser}{where} ({100 * difference.mean:+.2f} %)"


def counted(choices: Sequence[PerSeed]) -> list[dict[str, Any]]:
    """Return the rows of the table of choices per seed, with the number of seeds per weight."""
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
    """Compare every pair of regularisers, best mean rank first; `None` with too few values.

    Returns:
        `pairs` from `compare_pairs`, `unit`, `sentences`, and the options that the page shows.
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
        f"Over {units}, pairs that differ by Wilcoxon's test at {options.significance:g}: "
        f"{', '.join(found) or 'none'}.",
        f"Pairs within {100 * options.equivalence:g} % of each other, with a probability over "
        f"{_PROBABLE:g}: {len(alike)} of {len(pairs)}.",
    ]
    least = min(1.0, len(pairs) * 2.0 ** (1 - columns))
    if least >= options.significance:
        sentences.append(
            f"With {columns} columns and {len(pairs)} pairs, Wilcoxon's test cannot find any: its "
            f"smallest p-value is 2^{1 - columns}, and {least:.2g} after the correction."
        )
    if seeds:
        sentences.append(
            "Runs of one network are not independent data sets: these results hold for these "
            "networks only. Friedman's test above counts networks and generalises to others."
        )
    return sentences
