"""Format the accuracy table as CSV, Markdown and LaTeX, and the statistics as JSON."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from persist_jax.results.escape import csv_cell, latex, markdown
from persist_jax.results.evaluated import Measured, measured
from persist_jax.results.seeds import (
    Difference,
    choices_per_seed,
    interquartile_means,
    paired_differences,
    performance_profiles,
    spread,
)
from persist_jax.results.selection import Choice, Table
from persist_jax.results.statistics import Comparison, describe
from persist_jax.store import ReportOptions

COLUMNS = (
    "sweep",
    "network",
    "regulariser",
    "weight",
    "validation_accuracy",
    "validation_loss",
    "test_accuracy",
    "initial_test_accuracy",
    "best_iteration",
    "train_accuracy",
    "test_deviation",
    "seeds",
    "diverged",
    "collapsed",
    "worse_than_untrained",
    "verdict",
)


def csv_text(tables: Sequence[Table]) -> str:
    """Return a CSV row per sweep, network and regulariser, in full precision; empty if unknown."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table in tables:
        for network in table.networks:
            for regulariser in table.regularisers:
                choice = table.choices.get((network, regulariser))
                values = [None] * 8 if choice is None else list(_numbers(choice).values())
                seeds = 0 if choice is None else len(choice.seeds)
                counts = _counts(table, (network, regulariser)).values()
                verdict = None if choice is None else choice.verdict
                row = [table.title, network, regulariser, *values, seeds, *counts, verdict]
                writer.writerow(map(csv_cell, row))
    return buffer.getvalue()


def markdown_text(tables: Sequence[Table]) -> str:
    """Return the tables in Markdown: test accuracies in percent, each column's best in bold."""
    parts = []
    for table in tables:
        header = ["regulariser", *(markdown(name) for name in table.networks)]
        lines = [_markdown_row(header), _markdown_row(["---", *["---:"] * len(table.networks)])]
        for name, cells in percentages(table):
            shown = [f"**{text}**" if best else text for text, best in cells]
            lines.append(_markdown_row([markdown(name), *shown]))
        below = [text for line in footnotes(table) for text in ("", line)]
        title = f"Test accuracy in %, {markdown(table.title)}"
        parts.append("\n".join([title, "", *lines, *below, ""]))
    return "\n".join(parts)


def latex_text(tables: Sequence[Table]) -> str:
    """Return the tables for LaTeX's `\\input`; they need the package booktabs."""
    parts = ["% Needs \\usepackage{booktabs}."]
    for table in tables:
        parts.append(f"% Test accuracy in percent: {' '.join(table.title.split())}")
        parts.append(rf"\begin{{tabular}}{{l{'r' * len(table.networks)}}}")
        parts.append(r"\toprule")
        parts.append(_latex_row(["Regulariser", *(latex(name) for name in table.networks)]))
        parts.append(r"\midrule")
        for name, cells in percentages(table):
            shown = [rf"\textbf{{{text}}}" if best else text for text, best in cells]
            shown = [_latex_signs(text) for text in shown]
            parts.append(_latex_row([latex(name), *shown]))
        parts.extend([r"\bottomrule", r"\end{tabular}"])
        parts.extend([*(rf"\par {_latex_signs(line)}" for line in footnotes(table)), ""])
    return "\n".join(parts)


def percentages(table: Table) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Yield the rows of a table: cells of text in percent, and whether it is the column's best.

    With several seeds a cell has their mean and standard deviation. A mean that lacks seeds has the
    `marks`, and is never the best if another regulariser has these seeds on the network.
    """
    cells, ranked = (np.round(100 * part, 2) for part in (table.accuracies(), table.comparable()))
    best = np.max(ranked, axis=0, where=~np.isnan(ranked), initial=-1.0)
    for i, name in enumerate(table.regularisers):
        yield (
            name,
            [
                (
                    marks(table, (network, name))
                    + _with_spread(cells[i, j], table.choices.get((network, name))),
                    bool(ranked[i, j] == best[j]),
                )
                for j, network in enumerate(table.networks)
            ],
        )


FOOTNOTES = {
    "‡": "Mean over fewer seeds than others on this network: not ranked, and never the best.",
    "§": "Other seeds of the chosen weight diverged.",
}


def marks(table: Table, cell: tuple[str, str]) -> str:
    """Return the signs of `FOOTNOTES` that apply to a cell, and a space; "" if none does."""
    choice = table.choices.get(cell)
    fewer = "‡" if cell in table.fewer_seeds() else ""
    signs = fewer + ("§" if choice is not None and choice.diverged else "")
    return signs and f"{signs} "


def footnotes(table: Table) -> list[str]:
    """Return the footnotes of a table of `percentages`."""
    used = {sign for cell in table.choices for sign in marks(table, cell)}
    return [f"{sign} {words}" for sign, words in FOOTNOTES.items() if sign in used]


def _with_spread(value: float, choice: Choice | None) -> str:
    if math.isnan(value):
        return "–"
    deviation = None if choice is None else spread(list(choice.tests.values()))
    return f"{value:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def statistics_json(
    tables: Sequence[Table],
    comparisons: Sequence[Comparison],
    matrices: Sequence[dict[str, Any] | None],
) -> str:
    """Return all figures of the report as JSON, with null for a missing number.

    Args:
        tables: the tables.
        comparisons: the comparison of each table.
        matrices: the `pairwise_matrix` of each table.
    """
    entries = [_entry(*parts) for parts in zip(tables, comparisons, matrices, strict=True)]
    return json.dumps({"tables": entries}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _entry(
    table: Table, comparison: Comparison, matrix: dict[str, Any] | None
) -> dict[str, Any]:
    c = comparison
    best: dict[str, dict[str, Any]] = {name: {} for name in table.regularisers}
    for (network, regulariser), choice in table.choices.items():
        best[regulariser][network] = {
            **_numbers(choice),
            "seeds": list(choice.seeds),
            **_counts(table, (network, regulariser)),
            "verdict": choice.verdict,
        }
    return {
        "title": table.title,
        "regularisers": list(table.regularisers),
        "networks": list(table.networks),
        "best_runs": best,
        "weight_wins": {
            name: {f"{weight:g}": count for weight, count in wins.items()}
            for name, wins in table.weight_wins().items()
        },
        "diverged_runs": table.diverged.total(),
        "collapsed_runs": table.collapsed.total(),
        "worse_than_untrained_runs": table.worse.total(),
        "significance": c.options.significance,
        "test": c.options.test,
        "correction": c.options.correction if c.options.test == "wilcoxon" else None,
        "compared_networks": list(c.networks),
        "left_out": list(c.left_out),
        "problem": c.problem,
        "average_ranks": dict(zip(c.regularisers, c.ranks, strict=False)),
        "friedman": None if c.friedman is None else c.friedman._asdict(),
        "p_values": None if c.p_values is None else _named_matrix(c.regularisers, c.p_values),
        "critical_distance": c.critical_distance,
        "groups": [list(group) for group in c.groups],
        "paired_differences": [_plain(difference) for difference in paired_differences(table)],
        "performance_profiles": {
            name: {"thresholds": thresholds.tolist(), "shares": shares.tolist()}
            for name, (thresholds, shares) in performance_profiles(table).items()
        },
        "evaluation": [_plain(found) for found in measured(table)],
        "interquartile_means": dict(interquartile_means(table)),
        "choices_per_seed": [choice._asdict() for choice in choices_per_seed(table)],
        "pairs": matrix and _pairs(matrix, c.options),
        "sentences": describe(c),
    }


def _plain(row: Difference | Measured) -> dict[str, Any]:
    """Return a row's fields, None in place of a NaN."""
    return {name: None if value != value else value for name, value in row._asdict().items()}


def _pairs(matrix: dict[str, Any], options: ReportOptions) -> dict[str, Any]:
    pairs = [
        pair._asdict() | {"probabilities": pair.probabilities._asdict()} for pair in matrix["pairs"]
    ]
    return {
        "unit": matrix["unit"],
        "equivalence": options.equivalence,
        "correction": options.correction,
        "pairs": pairs,
        "sentences": matrix["sentences"],
    }


def _numbers(choice: Choice) -> dict[str, float | None]:
    """Return the numbers of a choice by column."""
    numbers = {
        "weight": choice.weight,
        "validation_accuracy": choice.validation,
        "validation_loss": choice.validation_loss,
        "test_accuracy": choice.test,
        "initial_test_accuracy": choice.initial_test,
        "best_iteration": choice.best_iteration,
        "train_accuracy": choice.train,
        "test_deviation": spread(list(choice.tests.values())),
    }
    return {
        name: value if value is not None and math.isfinite(value) else None
        for name, value in numbers.items()
    }


def _counts(table: Table, cell: tuple[str, str]) -> dict[str, int]:
    """Return the numbers of bad runs of a cell by column."""
    return {
        "diverged": table.diverged[cell],
        "collapsed": table.collapsed[cell],
        "worse_than_untrained": table.worse[cell],
    }


def _named_matrix(names: Sequence[str], matrix: np.ndarray) -> dict[str, dict[str, float]]:
    rows = zip(names, matrix.tolist(), strict=True)
    return {name: dict(zip(names, row, strict=True)) for name, row in rows}


def _latex_signs(text: str) -> str:
    signs = {"±": r"$\pm$", "‡": r"\ddag{}", "§": r"\S{}"}
    return "".join(signs.get(sign, sign) for sign in text)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
