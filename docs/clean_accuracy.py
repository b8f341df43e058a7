"""The tables and pictures of docs/clean_accuracy.md, from its sweeps' folders.

    python docs/clean_accuracy.py runs/fashion_study_1000 runs/fashion_study_6000 ...

Prints Markdown: accuracies, differences to no regulariser, what becomes of the neurons, and in how
many steps the term acts. Draws `clean_accuracy.png` and `clean_accuracy_neurons.png` beside itself.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from persist_jax.results.seeds import BASELINE, paired_differences, spread
from persist_jax.results.selection import Choice, Table, combine, tabulate
from persist_jax.results.style import FONT, GRID, MUTED, lines
from persist_jax.results.verdict import COMPLETED, verdict
from persist_jax.store import Record, SweepFolder, read_history, read_sweeps

TOPOLOGICAL = ("t1", "t2", "min_corr", "t1_living", "t2_living")
MARKERS = "os^D"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ruler, *rows))


def accuracies(table: Table) -> str:
    """Test accuracy at the chosen weights: mean, spread over seeds, and the weight."""

    def cell(name, network, choice):
        values = [100 * test for test in choice.tests.values()]
        weight = f" ({choice.weight:g})" if name != BASELINE else ""
        return f"{np.mean(values):.2f} ± {spread(values) or 0:.2f}{weight}"

    return _of_choices("test accuracy in % (weight)", table, cell)


def _of_choices(title: str, table: Table, cell: Callable[[str, str, Choice], str]) -> str:
    rows = []
    for name in table.regularisers:
        chosen = {network: table.choices.get((network, name)) for network in table.networks}
        rows.append([name, *(cell(name, *pair) if pair[1] else "–" for pair in chosen.items())])
    return markdown([title, *table.networks], rows)


def differences(table: Table) -> str:
    """To no regulariser, paired by seed, with Student's intervals over the seeds."""
    found = {(d.regulariser, d.network): d for d in paired_differences(table)}
    columns = [*table.networks, *([None] if len(table.networks) > 1 else [])]
    rows = []
    for name in table.regularisers:
        own = [found.get((name, column)) for column in columns]
        if any(own):
            rows.append([name, *("" if d is None else _interval(d) for d in own)])
    return markdown(["minus none, in %", *(column or "mean" for column in columns)], rows)


def _interval(difference) -> str:
    ends = f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    text = f"{100 * difference.mean:+.2f}"
    return f"**{text}** ({ends})" if difference.beyond_seeds else f"{text} ({ends})"


def chosen_neurons(table: Table) -> str:
    """At the chosen weights: constant neurons in percent, and mean |corr| of the others."""

    def cell(name, network, choice):
        own = [r for r in _known(table, name, network) if r.weight == choice.weight]
        if not own:
            return "–"
        return f"{np.mean([_constant(record) for record in own]):.1f}, {_correlation(own):.3f}"

    return _of_choices("constant %, mean abs corr", table, cell)


def neurons(table: Table) -> str:
    """What each weight does to the neurons, over all networks and seeds."""
    baseline = {(r.network, r.seed): r for r in _known(table, BASELINE)}
    rows = []
    for name in table.regularisers:
        records = _known(table, name)
        for weight in sorted({record.weight for record in records}):
            own = [record for record in records if record.weight == weight]
            more = [
                _constant(record) > _constant(baseline[record.network, record.seed])
                for record in own
                if (record.network, record.seed) in baseline
            ]
            rows.append([
                f"{name} {weight:g}" if name != BASELINE else name,
                f"{np.mean([_constant(r) for r in own]):.1f}",
                f"{sum(more)} of {len(more)}" if name != BASELINE else "",
                f"{_correlation(own):.3f}",
                f"{np.mean([r.redundancy.trained.deaths[2] for r in own]):.3f}",
                f"{100 * np.mean([r.accuracy.trained.test for r in own]):.2f}",
                str(sum(verdict(r).status != COMPLETED for r in own) or ""),
            ])  # fmt: skip
    header = ["term and weight", "constant neurons %", "more than none in", "mean abs corr",
              "median death", "test %", "collapsed"]  # fmt: skip
    return markdown(header, rows)


def _known(table: Table, name: str, network: str | None = None) -> list[Record]:
    return [
        record
        for (column, regulariser), records in table.records.items()
        for record in records
        if regulariser == name and network in (None, column)
        if record.status == "completed" and record.redundancy
    ]


def _constant(record: Record) -> float:
    found = record.redundancy.trained
    return 100 * found.constant / found.neurons


def acting(tables: Sequence[Table]) -> str:
    """In how many steps a term is there, and in how many epochs neurons are constant."""
    rows = []
    for name in TOPOLOGICAL:
        records = [r for t in tables for (_, row), rs in t.records.items() if row == name
                   for r in rs]  # fmt: skip
        runs = steps = zero = epochs = constant = 0
        for record in records:
            history = read_history(record.folder)
            if "train_term" not in history:
                continue
            runs += 1
            term = history["train_term"]
            steps, zero = steps + len(term), zero + int(np.sum(~(np.abs(term) > 0)))
            epochs += len(history["constant_neurons"])
            constant += int(np.sum(history["constant_neurons"] > 0))
        if steps:
            share = f"{100 * constant / epochs:.1f}"
            rows.append([name, str(runs), str(steps), str(zero), str(epochs), share])
    header = ["term", "runs", "steps", "of them term 0 or not finite", "epochs",
              "with a constant neuron, %"]  # fmt: skip
    return markdown(header, rows)


def draw_differences(tables: Sequence[Table]) -> Figure:
    """Differences to none with their intervals: a panel a sweep, a marker a network."""
    names = [name for name in tables[0].regularisers if name != BASELINE]
    styles = lines(tables[0].regularisers)
    with rc_context(FONT):
        size = (2.5 * len(tables) + 0.9, 0.33 * len(names) + 1.3)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(tables), sharex=True, sharey=True, squeeze=False)[0]
        networks = list(dict.fromkeys(n for table in tables for n in table.networks))
        for table, panel in zip(tables, panels, strict=True):
            panel.axvline(0, color=MUTED, lw=0.8, ls=(0, (4, 2)))
            panel.grid(axis="x", color=GRID, lw=0.6)
            panel.set_axisbelow(True)
            for difference in paired_differences(table):
                if difference.network is not None:
                    _bar(panel, difference, names, networks, styles)
            panel.set_title(table.title, size=9, weight="bold")
            panel.set_xlabel("test accuracy minus none, %")
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        for marker, network in zip(MARKERS, networks, strict=False):
            panels[0].plot([], [], marker, color=MUTED, ms=4, label=network)
        figure.legend(loc="outside lower center", ncols=len(networks), frameon=False)
    return figure


def _bar(panel, difference, names, networks, styles) -> None:
    which = networks.index(difference.network)
    y = names.index(difference.regulariser) + 0.26 * (which - (len(networks) - 1) / 2)
    mean, low, high = (100 * v for v in (difference.mean, difference.low, difference.high))
    panel.errorbar(
        mean, y, xerr=[[mean - low], [high - mean]], fmt=MARKERS[which % len(MARKERS)], ms=4,
        lw=1.3, color=styles[difference.regulariser].colour,
        mfc=None if difference.beyond_seeds else "white",
    )  # fmt: skip


def draw_neurons(tables: Sequence[Table]) -> Figure:
    """Constant neurons and correlation of the others, along the weights of each term."""
    styles = lines(tables[0].regularisers)
    with rc_context(FONT):
        size = (2.9 * len(tables) + 0.5, 3.0)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(tables), sharey=True, sharex=True, squeeze=False)[0]
        for table, panel in zip(tables, panels, strict=True):
            panel.grid(color=GRID, lw=0.6)
            for name, x, y in _paths(table):
                style = {"color": styles[name].colour, "ls": styles[name].dashes, "label": name}
                panel.plot(x, y, marker="o", ms=3.5, lw=1.1, **style)
            base = _known(table, BASELINE)
            panel.plot(np.mean([_constant(r) for r in base]), _correlation(base), "*",
                       color=styles[BASELINE].colour, ms=11, label=BASELINE)  # fmt: skip
            panel.set_title(table.title, size=9, weight="bold")
            panel.set_xlabel("constant neurons, %")
            panel.set_xscale("symlog", linthresh=10)
            panel.set_xticks([0, 2, 5, 10, 20, 50, 100], ["0", "2", "5", "10", "20", "50", "100"])
        panels[0].set_ylabel("mean |corr| of the others")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3 * len(tables),
                      frameon=False)  # fmt: skip
    return figure


def _paths(table: Table) -> Iterator[tuple[str, list[float], list[float]]]:
    """Per term its means over networks and seeds, at each weight, of runs that did not collapse."""
    for name in table.regularisers:
        records = [r for r in _known(table, name) if verdict(r).status == COMPLETED]
        if name not in TOPOLOGICAL or not records:
            continue
        weights = sorted({record.weight for record in records})
        groups = [[r for r in records if r.weight == weight] for weight in weights]
        constant = [float(np.mean([_constant(r) for r in group])) for group in groups]
        yield name, constant, [_correlation(group) for group in groups]


def _correlation(records: Sequence[Record]) -> float:
    return float(np.mean([r.redundancy.trained.mean_correlation for r in records]))


def _examples(sweep: SweepFolder) -> str:
    """A sweep of the study by what sets it apart, another by its name."""
    dataset = sweep.config.get("dataset", {})
    if "train_examples" not in dataset:
        return sweep.title
    return f"{dataset['train_examples'] or 'all'} examples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweeps", nargs="+", help="folders of finished sweeps")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    flags = parser.parse_args()
    sweeps = read_sweeps(flags.sweeps)
    tables = [replace(tabulate(sweep), title=_examples(sweep)) for sweep in sweeps]
    records = [record for sweep in sweeps for record in sweep.records]
    hours = sum(record.seconds for record in records) / 3600
    print(f"{len(records)} runs, {hours:.1f} hours of training\n")
    whole = combine(tables) if len(tables) > 1 else tables[0]
    print(f"{accuracies(whole)}\n\n{differences(whole)}\n\n{chosen_neurons(whole)}\n")
    for table in tables:
        print(f"{table.title}\n\n{neurons(table)}\n")
    print(acting(tables))
    draw_differences(tables).savefig(flags.output / "clean_accuracy.png", dpi=150)
    draw_neurons(tables).savefig(flags.output / "clean_accuracy_neurons.png", dpi=150)


if __name__ == "__main__":
    main()
