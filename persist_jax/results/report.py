"""The report of one sweep or several: tables, statistics, pictures, and a page that shows them."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from persist_jax.results import page
from persist_jax.results.diagram import draw, tikz
from persist_jax.results.folders import Sweep, read_sweeps
from persist_jax.results.plots import animate_deaths, plot_deaths, plot_losses, read_histories
from persist_jax.results.records import Record, replace_file
from persist_jax.results.selection import Table, combine, tabulate
from persist_jax.results.statistics import Comparison, check_options, compare, describe
from persist_jax.results.tables import (
    csv_text,
    latex_text,
    markdown_text,
    percentages,
    statistics_json,
)


def write_report(
    workdirs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    alpha: float = 0.05,
    test: str = "nemenyi",
    correction: str = "holm",
) -> Path:
    """Writes the report from what the sweeps left on disk.

    Several sweeps are shown one by one and combined into one table, whose statistics are over the
    networks of all of them.

    Args:
        workdirs: the sweeps' folders.
        output: the report's folder; `report` in the first of `workdirs` by default.
        alpha: the significance level.
        test: "nemenyi" or "wilcoxon".
        correction: "holm" or "bonferroni", for Wilcoxon's test.

    Returns:
        The path of `index.html`.

    Raises:
        ValueError: one line that names the folder, file or option that does not hold.
    """
    check_options(alpha, test, correction)
    sweeps = read_sweeps([workdirs] if isinstance(workdirs, str | os.PathLike) else list(workdirs))
    folder = Path(output) if output is not None else sweeps[0].workdir / "report"
    tables = [tabulate(sweep) for sweep in sweeps]
    everything = combine(tables) if len(tables) > 1 else tables[0]
    shown = [*tables, everything] if len(tables) > 1 else tables
    comparisons = [compare(t, alpha=alpha, test=test, correction=correction) for t in shown]
    files = _texts(tables, shown, comparisons) | _pictures(everything, shown, comparisons)
    for name, content in files.items():
        replace_file(folder / name, content)
    title = f"{everything.title}: report"
    body = _body(sweeps, shown, comparisons, everything, files, folder)
    return replace_file(folder / "index.html", page.page(title, body).encode())


def _texts(
    tables: list[Table], shown: list[Table], comparisons: list[Comparison]
) -> dict[str, bytes]:
    texts = {
        "accuracies.csv": csv_text(tables),
        "accuracies.md": markdown_text(shown),
        "accuracies.tex": latex_text(shown),
        "statistics.json": statistics_json(shown, comparisons),
        "critical_difference.tex": tikz(_diagrams(shown, comparisons)),
    }
    return {name: text.encode() for name, text in texts.items()}


def _pictures(table: Table, shown: list[Table], comparisons: list[Comparison]) -> dict[str, bytes]:
    histories = read_histories(table)
    diagram = draw(_diagrams(shown, comparisons))
    return {
        "critical_difference.png": _file(diagram, "png"),
        "critical_difference.svg": _file(diagram, "svg"),
        "losses.png": _file(plot_losses(table, histories), "png"),
        "deaths.png": _file(plot_deaths(table, histories), "png"),
        "deaths.gif": animate_deaths(table, histories),
    }


def _diagrams(shown: list[Table], comparisons: list[Comparison]) -> list[tuple[str, Comparison]]:
    titles = [table.title if len(shown) > 1 else "" for table in shown]
    return list(zip(titles, comparisons, strict=True))


def _file(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    dated = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 150}
    with rc_context({"svg.hashsalt": "persist_jax"}):  # the same report gives the same file
        figure.savefig(buffer, format=kind, **dated)
    return buffer.getvalue()


def _body(
    sweeps: list[Sweep],
    shown: list[Table],
    comparisons: list[Comparison],
    everything: Table,
    files: dict[str, bytes],
    folder: Path,
) -> list[str]:
    body = [page.heading(everything.title, 1), *_head(sweeps, folder)]
    body.append(page.heading("Test accuracy"))
    for table, comparison in zip(shown, comparisons, strict=True):
        if len(shown) > 1:
            body.append(page.heading(table.title, 3))
        body.append(_accuracies(table))
        body.extend(page.paragraph(sentence) for sentence in describe(comparison))
    body.append(page.heading("Critical difference"))
    body.append(
        page.picture(
            files["critical_difference.png"], "png", "Critical difference diagram",
            "Average ranks; 1 is the best. A bar joins regularisers that are not significantly "
            "different.", size="small",
        )
    )  # fmt: skip
    body.append(page.heading("Chosen weights"))
    body.extend(_choices(everything))
    body.append(page.heading("Losses of the best runs"))
    body.append(page.picture(files["losses.png"], "png", "Losses of the best runs"))
    body.append(page.heading("Deaths of the best runs"))
    body.append(
        page.picture(
            files["deaths.png"], "png", "Densities of the deaths from initial to trained",
            "Density of the deaths of a batch, from the first snapshot (back) to the last (front); "
            "each panel has its own height. 0: perfectly correlated neurons, 1: uncorrelated.",
        )
    )  # fmt: skip
    body.append(page.picture(files["deaths.gif"], "gif", "The densities while training goes on"))
    body.append(page.heading("All runs"))
    body.extend(_runs(sweeps))
    for sweep in sweeps:
        text = json.dumps(sweep.config, indent=2, ensure_ascii=False)
        body.append(page.folded(f"Configuration of {sweep.title}", text))
    return body


def _head(sweeps: list[Sweep], folder: Path) -> list[str]:
    ended = [record for sweep in sweeps for record in sweep.grid_records]
    diverged = sum(record.status == "diverged" for record in ended)
    seconds = sum(record.seconds for sweep in sweeps for record in sweep.records)
    units = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
    size, unit = next((unit for unit in units if seconds >= unit[0]), units[-1])
    time = f"{seconds / size:.1f} {unit}"
    lines = []
    if not ended:
        lines.append(page.paragraph("No run has finished yet: there is nothing to compare."))
    else:
        text = f"{len(ended)} runs, {diverged} of them diverged; {time} of training in all."
        lines.append(page.paragraph(text, "muted"))
    if len(sweeps) > 1:
        folders = ", ".join(f"{sweep.title} ({sweep.workdir})" for sweep in sweeps)
        text = f"Combined from {len(sweeps)} sweeps: {folders}. This report lies in {folder}."
        lines.append(page.paragraph(text, "muted"))
    return lines + [_banner(sweep) for sweep in sweeps if _dataset(sweep).get("sample") is True]


def _dataset(sweep: Sweep) -> dict:
    dataset = sweep.config.get("dataset")
    return dataset if isinstance(dataset, dict) else {}


def _banner(sweep: Sweep) -> str:
    note = _dataset(sweep).get("note")
    if not isinstance(note, str) or not note:
        note = "For the real data give --config.dataset.root=DIR or set PGDL_ROOT=DIR."
    what = f"{sweep.title}: these are figures of the embedded sample, not the paper's."
    lines = [what, note]
    return f'<div class="banner">{"".join(page.paragraph(line) for line in lines)}</div>'


def _accuracies(table: Table) -> str:
    if not table.networks:
        return page.paragraph("No network has a run that has ended.")
    rows = [
        [name, *[(text, "best" if best else "") for text, best in cells]]
        for name, cells in percentages(table)
    ]
    return page.table(["test accuracy in %", *table.networks], rows)


def _choices(table: Table) -> list[str]:
    if not table.choices:
        return [page.paragraph("No run has completed.")]
    header = [
        "network", "regulariser", "weight", "validation %", "test %", "untrained test %",
        "best iteration", "seeds", "diverged",
    ]  # fmt: skip
    rows = [
        [
            network, (name, "text"), f"{c.weight:g}", f"{100 * c.validation:.2f}",
            f"{100 * c.test:.2f}", f"{100 * c.initial_test:.2f}", f"{c.best_iteration:.0f}",
            len(c.seeds), table.diverged[network, name] or "",
        ]
        for network in table.networks
        for name in table.regularisers
        if (c := table.choices.get((network, name)))
    ]  # fmt: skip
    wins = table.weight_wins()
    names = [name for name in table.regularisers if name != "none" and wins[name]]
    weights = sorted({weight for name in names for weight in wins[name]})
    counts = [[name, *(wins[name].get(weight, "") for weight in weights)] for name in names]
    lines = [
        page.paragraph(
            "For every network and regulariser the weight with the best validation accuracy among "
            "the completed runs, averaged over seeds; its test accuracy enters the table above."
        ),
        page.table(header, rows, box="tall"),
    ]
    if names:
        lines.append(page.heading("On how many networks each weight was the best", 3))
        lines.append(page.table(["weight", *(f"{weight:g}" for weight in weights)], counts))
    return lines


def _runs(sweeps: list[Sweep]) -> list[str]:
    records = [(sweep, record) for sweep in sweeps for record in sweep.records]
    if not records:
        return [page.paragraph("None has ended.")]
    records.sort(key=lambda entry: entry[1].status != "diverged")
    header = ["run", "status", "epochs", "validation %", "test %", "seconds", "reason"]
    rows = [_run_row(sweep.title if len(sweeps) > 1 else "", record) for sweep, record in records]
    kinds = ["bad" if record.status == "diverged" else "" for _, record in records]
    return [
        page.paragraph("Diverged runs come first; they never enter the comparison.", "muted"),
        page.table(header, rows, kinds=kinds, box="tall"),
    ]


def _run_row(title: str, record: Record) -> list:
    trained = record.accuracy["trained"]
    shown = [
        "–" if trained[part] is None else f"{100 * trained[part]:.2f}"
        for part in ("validation", "test")
    ]
    label = " ".join([title, record.run.label, "continued" * record.continued]).strip()
    return [
        label, (record.status, "text"), record.epochs, *shown, f"{record.seconds:.1f}",
        (record.reason or "", "text reason"),
    ]  # fmt: skip
