"""Evaluations of trained networks, by regulariser and weight, and against no term."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from persist_jax.results.seeds import BASELINE, t_interval
from persist_jax.results.selection import Table
from persist_jax.store import Record

Moment = Literal["best", "last"]
MOMENTS: tuple[Moment, ...] = ("best", "last")
# Columns of the report's tables, by the table: of each measure, the name of its column. Where that
# has a %, the numbers are shares.
TABLES = {
    "Accuracy and what was fitted": {
        "test": "test %",
        "train": "train %",
        "memorised": "wrong labels memorised %",
        "epochs_to_loss": "epochs to the loss",
        "validation_at_loss": "validation % then",
    },
    "Confidence": {
        "log_loss": "negative log-likelihood",
        "calibration_error": "calibration error %",
        "temperature": "temperature",
        "scaled_log_loss": "negative log-likelihood, tempered",
        "scaled_calibration_error": "calibration error, tempered %",
    },
    "Robustness": {"noise": "noise on pixels %", "dropped": "neurons dropped %"},
    "Hidden neurons": {
        "effective_rank": "effective rank",
        "mean_correlation": "mean |corr|",
        "constant": "constant %",
    },
}
# Measured of a run as a whole and not of a set of weights.
_OF_RUNS = ("epochs_to_loss", "validation_at_loss")


class Measured(NamedTuple):
    """A measure of the completed runs of a weight, and against runs of the same seeds without term.

    Attributes:
        network: the network.
        regulariser: the regulariser.
        weight: its weight.
        weights: which of the run's: those of the "best" epoch or of the "last".
        measure: a name of `persist_jax.store.record.NUMBERS`, `pruned_...`, `epochs_to_loss` or
            `validation_at_loss`.
        seeds: how many runs have it.
        mean: over these.
        difference: mean of the paired differences to no term; None with fewer than two pairs.
        low: lower end of Student's interval of 95 %.
        high: upper end.
        pairs: how many.
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
        """Whether the interval leaves 0 out."""
        return self.low is not None and (self.low > 0 or self.high < 0)


def measured(table: Table) -> list[Measured]:
    """Every measure of every weight, in the order of networks, regularisers and weights."""
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
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
) -> Measured:
    seeds = sorted(ours.keys() & theirs.keys())
    difference = low = high = None
    if len(seeds) > 1:
        pairs = np.array([ours[seed] - theirs[seed] for seed in seeds])
        difference, (low, high) = float(pairs.mean()), t_interval([pairs])
    mean = float(np.mean([*ours.values()]))
    return Measured(
        network, name, weight, moment, measure, len(ours), mean, difference, low, high, len(seeds)
    )


def _by_measure(records: tuple[Record, ...] | list[Record]) -> dict[tuple, dict[int, float]]:
    """By weights and measure, the numbers of completed runs by seed; none that is not finite."""
    found: dict[tuple, dict[int, float]] = {}
    for record in records:
        if record.status == "completed" and record.evaluation is not None:
            for key, value in _numbers(record).items():
                if value is not None:
                    found.setdefault(key, {})[record.seed] = float(value)
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
    """The report's tables: of each network those of `TABLES` that have any number.

    Returns:
        `network`, `title`, `columns` (name, weights or "") and `rows`: a name, and a cell per
        column, which has the `Measured` or None and the text.
    """
    found = {(m.network, m.regulariser, m.weight, m.weights, m.measure): m for m in measured(table)}
    tables = []
    for network in table.networks:
        own = {key[1:]: m for key, m in found.items() if key[0] == network}
        rows = list(dict.fromkeys(key[:2] for key in own))
        measures = {key[3] for key in own}
        for title, names in _tables_with_pruning(measures).items():
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


def _tables_with_pruning(measures: set[str]) -> dict[str, dict[str, str]]:
    """`TABLES` with a column for every share of the neurons that were kept."""
    pruned = sorted((name for name in measures if name.startswith("pruned_")), key=_kept)
    names = {name: f"{_kept(name)[0]:.0%} of the neurons kept" for name in pruned}
    names = {
        name: f"{words}{', fitted' if name.endswith('_fitted') else ''}"
        for name, words in names.items()
    }
    robust = TABLES["Robustness"] | names
    return TABLES | {"Robustness": robust}


def _kept(name: str) -> tuple[float, bool]:
    share = name.removeprefix("pruned_").removesuffix("_fitted")
    return float(share), name.endswith("_fitted")


def _label(regulariser: str, weight: float) -> str:
    return regulariser if regulariser == BASELINE else f"{regulariser} {weight:g}"


def _cell(found: Measured | None, column: str) -> tuple[Measured | None, str]:
    """A mean, or a difference to no term and half its interval; shares in percent."""
    if found is None:
        return None, "–"
    factor = 100 if "%" in column else 1
    digits = 2 if factor == 100 or abs(found.mean) < 100 else 1
    digits = 3 if factor == 1 and abs(found.mean) < 3 else digits
    if found.difference is None:
        return found, f"{factor * found.mean:.{digits}f}"
    half = factor * (found.high - found.low) / 2
    return found, f"{factor * found.difference:+.{digits}f} ± {half:.{digits}f}"


def losses(table: Table) -> list[float]:
    """The training losses whose epochs were recorded."""
    runs = [run for records in table.records.values() for run in records if run.evaluation]
    return sorted({run.evaluation.loss.level for run in runs if run.evaluation.loss})
