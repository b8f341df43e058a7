"""Evaluations of trained networks by regulariser and weight, and their differences to no term."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from persist_jax.results.seeds import BASELINE, t_interval
from persist_jax.results.selection import Table
from persist_jax.store import Record

Moment = Literal["best", "last"]
MOMENTS: tuple[Moment, ...] = ("best", "last")
# By table of the report and measure: the column's name. A % marks shares, shown in percent.
TABLES = {
    "Accuracy and what was fitted": {
        "test": "test %",
        "train": "train %",
        "memorised": "wrong labels memorised %",
    },
    "Speed of fitting": {
        "epochs_to_loss": "epochs to the loss",
        "validation_at_loss": "validation % at the loss",
    },
    "Confidence": {
        "log_loss": "NLL",
        "calibration_error": "ECE %",
        "temperature": "temperature",
    },
    "Confidence, tempered": {"scaled_log_loss": "NLL", "scaled_calibration_error": "ECE %"},
    "Robustness": {},
    "Hidden neurons": {
        "effective_rank": "effective rank",
        "mean_correlation": "mean |corr|",
        "constant": "constant %",
    },
    "Pruned": {},
    "Pruned and fitted": {},
}
# Measures of a run as a whole, not of its best or last weights.
_OF_RUNS = ("epochs_to_loss", "validation_at_loss")
_Pair = tuple[int, float]  # what two numbers must share to be compared: the seed and a loss


class Measured(NamedTuple):
    """A measure of a weight's completed runs, and its difference to runs without a term.

    Attributes:
        network: the network.
        regulariser: the regulariser.
        weight: the regularisation weight.
        weights: "best" or "last": the epoch whose weights were measured.
        measure: a name of `persist_jax.store.record.NUMBERS`, `noise_...`, `dropped_...`,
            `pruned_...`, `epochs_to_loss` or `validation_at_loss`.
        seeds: number of runs that have the measure.
        mean: mean over these runs.
        difference: mean difference to no term, paired by seed; None with fewer than two pairs.
        low: lower end of Student's 95 % interval of the difference.
        high: upper end.
        pairs: number of pairs.
    """

    network: str
    regulariser: str
    weight: float
    weights: Moment
    measure: str
    seeds: int
    mean: float
    difference: float | None
    low: float | None
    high: float | None
    pairs: int

    @property
    def beyond_seeds(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and (self.low > 0 or self.high < 0)


def measured(table: Table) -> list[Measured]:
    """Return every measure of every weight, in the order of networks, regularisers and weights."""
    return [found for network in table.networks for found in _of_network(table, network)]


def _of_network(table: Table, network: str) -> Iterator[Measured]:
    baseline = _by_measure(table.records.get((network, BASELINE), ()))
    for name in table.regularisers:
        records = table.records.get((network, name), ())
        for weight in sorted({record.weight for record in records}):
            own = _by_measure([record for record in records if record.weight == weight])
            for (moment, measure), values in own.items():
                theirs = {} if name == BASELINE else baseline.get((moment, measure), {})
                yield _against(network, name, weight, moment, measure, values, theirs)


def _against(
    network: str,
    name: str,
    weight: float,
    moment: Moment,
    measure: str,
    ours: Mapping[_Pair, float],
    theirs: Mapping[_Pair, float],
) -> Measured:
    both = sorted(ours.keys() & theirs.keys())
    difference = low = high = None
    if len(both) > 1:
        pairs = np.array([ours[pair] - theirs[pair] for pair in both])
        difference, (low, high) = float(pairs.mean()), t_interval([pairs])
    mean = float(np.mean([*ours.values()]))
    return Measured(
        network, name, weight, moment, measure, len(ours), mean, difference, low, high, len(both)
    )


def _by_measure(records: tuple[Record, ...] | list[Record]) -> dict[tuple, dict[_Pair, float]]:
    """Return the known numbers of completed runs, by "best" or "last" and measure.

    Each has its seed and, if it is a measure at a training loss, this loss: only numbers that agree
    in both are compared.
    """
    found: dict[tuple, dict[_Pair, float]] = {}
    for record in records:
        if record.status == "completed" and record.evaluation is not None:
            for key, value in _numbers(record).items():
                if value is not None:
                    loss = record.evaluation.loss.level if key[1] in _OF_RUNS else 0.0
                    found.setdefault(key, {})[record.seed, loss] = float(value)
    return found


def _numbers(record: Record) -> dict[tuple[Moment, str], float | None]:
    evaluation = record.evaluation
    numbers = {
        (moment, name): value
        for moment in MOMENTS
        for name, value in getattr(evaluation, moment).items()
    }
    if evaluation.loss is not None:
        numbers["last", "epochs_to_loss"] = evaluation.loss.epochs
        numbers["last", "validation_at_loss"] = evaluation.loss.validation_accuracy
    return numbers


def evaluation_tables(table: Table) -> list[dict[str, Any]]:
    """Return the report's tables: for each network, those of `TABLES` that are not empty.

    Returns:
        For each table `network`, `title`, `columns` (name, and "best", "last" or "") and `rows`: a
        name, and per column a cell of a `Measured` or None and its text.
    """
    found = {(m.network, m.regulariser, m.weight, m.weights, m.measure): m for m in measured(table)}
    tables = []
    for network in table.networks:
        own = {key[1:]: m for key, m in found.items() if key[0] == network}
        rows = list(dict.fromkeys(key[:2] for key in own))
        measures = {key[3] for key in own}
        for title, names in _tables(measures).items():
            columns = [
                (name, moment)
                for name in names
                if name in measures
                for moment in (("last",) if name in _OF_RUNS else MOMENTS)
            ]
            if columns:
                tables.append({
                    "network": network,
                    "title": title,
                    "columns": [
                        (names[name], "" if name in _OF_RUNS else moment)
                        for name, moment in columns
                    ],
                    "rows": [
                        (_label(*row), [
                            _cell(own.get((*row, moment, name)), names[name])
                            for name, moment in columns
                        ])
                        for row in rows
                    ],
                })  # fmt: skip
    return tables


def _tables(measures: set[str]) -> dict[str, dict[str, str]]:
    """Return `TABLES` with a column for every strength of noise, and share dropped or kept."""
    found = {title: dict(names) for title, names in TABLES.items()}
    changed = (name for name in measures if name.startswith(("noise", "dropped", "pruned_")))
    for name in sorted(changed, key=_change):
        kind, level, fitted = _change(name)
        share = f"{100 * level:g}% " if level else ""
        if kind == "pruned":
            found["Pruned and fitted" if fitted else "Pruned"][name] = f"{share}kept"
        elif kind == "dropped":
            found["Robustness"][name] = f"{share}neurons dropped %"
        else:
            found["Robustness"][name] = f"noise {level:g} on pixels %" if level else "noise %"
    return found


def _change(name: str) -> tuple[str, float, bool]:
    """Split a name such as `pruned_0.5_fitted` into its kind, level and whether it is fitted."""
    kind, _, level = name.removesuffix("_fitted").partition("_")
    return kind, float(level or 0), name.endswith("_fitted")


def _label(regulariser: str, weight: float) -> str:
    return regulariser if regulariser == BASELINE else f"{regulariser} {weight:g}"


def _cell(found: Measured | None, column: str) -> tuple[Measured | None, str]:
    """Format a mean, or a difference to no term and half its interval; shares in percent."""
    if found is None:
        return None, "–"
    factor = 100 if "%" in column else 1
    digits = 2 if factor == 100 or abs(found.mean) < 100 else 1
    digits = 3 if factor == 1 and abs(found.mean) < 3 else digits
    if found.difference is None:
        return found, f"{factor * found.mean:.{digits}f}"
    text, half = f"{factor * found.difference:+.{digits}f}", factor * (found.high - found.low) / 2
    return found, text if math.isnan(half) else f"{text} ± {half:.{digits}f}"


def losses(table: Table) -> list[float]:
    """List the training losses for which `epochs_to_loss` was recorded."""
    runs = [run for records in table.records.values() for run in records if run.evaluation]
    return sorted({run.evaluation.loss.level for run in runs if run.evaluation.loss})
