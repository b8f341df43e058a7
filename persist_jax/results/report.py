"""Write the report of one or several sweeps: tables, statistics, pictures, and a page of them."""

import base64
import functools
import json
import os
from collections import ChainMap, Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from persist_jax.results.animation import animate_deaths
from persist_jax.results.conclusions import counted, pairwise_matrix, seed_sentences
from persist_jax.results.constant import plot_constant
from persist_jax.results.cost import step_times
from persist_jax.results.diagram import draw, latex_figure
from persist_jax.results.escape import html_text
from persist_jax.results.evaluated import evaluation_tables, losses
from persist_jax.results.grid import missing_runs
from persist_jax.results.made import made_by
from persist_jax.results.measured import plot_measures
from persist_jax.results.plots import Histories, plot_deaths, plot_losses, read_histories
from persist_jax.results.profiles import plot_profiles
from persist_jax.results.redundant import redundant_rows, threshold
from persist_jax.results.seeds import (
    choices_per_seed,
    interquartile_means,
    paired_differences,
)
from persist_jax.results.selection import Table, combine, tabulate
from persist_jax.results.statistics import DEFAULTS, Comparison, compare, describe
from persist_jax.results.style import Panels, own_style
from persist_jax.results.svg import figure_file, picture
from persist_jax.results.tables import (
    csv_text,
    footnotes,
    latex_text,
    markdown_text,
    percentages,
    statistics_json,
)
from persist_jax.results.verdict import COMPLETED, VERDICTS, judged, notice, verdict
from persist_jax.results.weights import at_the_edge, plot_weights
from persist_jax.store import (
    ReportOptions,
    SweepFolder,
    read_results,
    read_sweeps,
    report_folder,
)
from persist_jax.store.files import discard_unfinished, replace_file
from persist_jax.store.locks import locked_folder
from persist_jax.store.notes import read_commands
from persist_jax.store.record import result_files

# Alternative texts of the pictures' panels.
DESCRIPTIONS = {
    "critical_difference": "Critical difference diagram",
    "profiles": "Share of runs above each test accuracy",
    "weights": "Accuracy against weight",
    "losses": "Losses of the best run per epoch",
    "deaths": "Densities of the deaths from initial to trained",
    "constant": "Share of constant neurons per epoch",
    "measures": "Measures of the sampled neurons per epoch",
}


def write_report(
    workdirs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    options: ReportOptions = DEFAULTS,
) -> Path:
    """Write the report of one or several sweeps from their files.

    Several sweeps are shown one by one, and combined into one table with statistics over all their
    networks.

    Args:
        workdirs: the sweeps' folders.
        output: the report's folder; by default `report` in the sweep's folder, or, for several
            sweeps, `report-<names>` beside the first sweep's folder.
        options: the tests and their significance level.

    Returns:
        The path of `index.html`.

    Raises:
        ValueError: a folder or file is missing or wrong; one line that names it.
    """
    sweeps = read_sweeps([workdirs] if isinstance(workdirs, str | os.PathLike) else list(workdirs))
    folder = _default_folder(sweeps) if output is None else Path(output)
    tables = [tabulate(sweep) for sweep in sweeps]
    shown = [*tables, combine(tables)] if len(tables) > 1 else tables
    comparisons = [compare(table, options) for table in shown]
    matrices = [pairwise_matrix(table, options) for table in shown]
    histories = read_histories(shown[-1])
    with own_style():
        pictures = _pictures(shown, comparisons, histories)
        animation = animate_deaths(shown[-1], histories)
        page = _page(
            sweeps, shown, comparisons, matrices[-1], pictures, animation, folder, histories
        )
        files = _texts(tables, shown, comparisons, matrices) | _files(pictures)
    if "critical_difference" in pictures:
        files["critical_difference.tex"] = latex_figure(options).encode()
    if animation is not None:
        files["deaths.gif"] = animation
    for name, content in files.items():
        replace_file(folder / name, content)
    return replace_file(folder / "index.html", page.encode())


def refresh_report(workdir: Path, options: ReportOptions, since: float) -> list[str]:
    """Write a sweep's report, unless another process wrote it after the last result and `since`.

    Returns:
        Lines to print: the report's path, and the number of bad runs, if any.
    """
    path = report_folder(workdir) / "index.html"
    with locked_folder(workdir):
        newest = max(file.stat().st_mtime for file in result_files(workdir))
        if not path.exists() or path.stat().st_mtime < max(newest, since):
            discard_unfinished(path.parent, ".+")
            path = write_report([workdir], options=options)
    line = notice(read_results(workdir))
    return [f"Report: {path}", *([line] if line else [])]


def _default_folder(sweeps: Sequence[SweepFolder]) -> Path:
    """Return the report's default folder; a combined report has its own, to keep the sweeps'."""
    if len(sweeps) == 1:
        return report_folder(sweeps[0].path)
    paths = [sweep.path.resolve() for sweep in sweeps]
    return paths[0].parent / f"report-{'-'.join(path.name for path in paths)}"[:100]


def _texts(
    tables: list[Table],
    shown: list[Table],
    comparisons: list[Comparison],
    matrices: list[dict[str, Any] | None],
) -> dict[str, bytes]:
    texts = {
        "accuracies.csv": csv_text(tables),
        "accuracies.md": markdown_text(shown),
        "accuracies.tex": latex_text(shown),
        "statistics.json": statistics_json(shown, comparisons, matrices),
    }
    return {name: text.encode() for name, text in texts.items()}


def _pictures(
    shown: list[Table], comparisons: list[Comparison], histories: Histories
) -> dict[str, Panels]:
    """Draw all pictures; leave out empty ones."""
    table = shown[-1]
    titles = [table.title if len(shown) > 1 else "" for table in shown]
    drawn = {
        "critical_difference": draw(list(zip(titles, comparisons, strict=True))),
        "profiles": plot_profiles(table),
        "weights": plot_weights(table),
        "losses": plot_losses(table, histories),
        "deaths": plot_deaths(table, histories),
        "constant": plot_constant(table, histories),
        "measures": plot_measures(table, histories),
    }
    return {name: panels for name, panels in drawn.items() if panels is not None}


def _files(pictures: dict[str, Panels]) -> dict[str, bytes]:
    kinds = {name: ("png",) for name in pictures} | {"critical_difference": ("png", "svg", "pdf")}
    return {
        f"{name}.{kind}": figure_file(panels.figure, kind)
        for name, panels in pictures.items()
        for kind in kinds[name]
    }


def _page(
    sweeps: list[SweepFolder],
    shown: list[Table],
    comparisons: list[Comparison],
    matrix: dict[str, Any] | None,
    pictures: dict[str, Panels],
    animation: bytes | None,
    folder: Path,
    histories: Histories,
) -> str:
    """Render the page; the template decides on text, order and layout."""
    embedded = {name: picture(panels, DESCRIPTIONS[name]) for name, panels in pictures.items()}
    everything = shown[-1]
    differences = paired_differences(everything)
    wins = {name: won for name, won in everything.weight_wins().items() if won and name != "none"}
    runs = [(sweep, record) for sweep in sweeps for record in sweep.records]
    ended = [record for sweep in sweeps for record in sweep.grid_records]
    rows = [(sweep, record, verdict(record)) for sweep, record in runs]
    rows.sort(key=lambda row: VERDICTS.index(row[2].status))
    return _template().render(
        sweeps=sweeps,
        folder=folder,
        table=everything,
        parts=[
            _part(table, comparison) for table, comparison in zip(shown, comparisons, strict=True)
        ],
        ended=len(ended),
        missing=sum(map(missing_runs, sweeps)),
        counts=Counter(verdict(record).status for record in ended),
        time=_time(sum((record.seconds for _, record in runs), start=0.0)),
        differences=differences,
        middle=interquartile_means(everything),
        seed_sentences=seed_sentences(differences) if differences else [],
        per_seed=counted(choices_per_seed(everything)),
        evaluations=evaluation_tables(everything),
        losses=losses(everything),
        matrix=matrix,
        times=step_times(everything, histories),
        made=made_by(record for _, record in runs),
        commands=[command for sweep in sweeps for command in read_commands(sweep.path)],
        wins=wins,
        won_weights=sorted({weight for won in wins.values() for weight in won}),
        redundant=redundant_rows(everything),
        threshold=threshold(everything),
        suspect=[(c, choice) for c, choice in everything.choices.items() if choice.suspect],
        runs=rows,
        unjudged=sum(found.status == COMPLETED and not judged(run) for _, run, found in rows),
        animation=animation and base64.b64encode(animation).decode(),
        edges=at_the_edge(everything),
        pictures=embedded,
        definitions=dict(ChainMap(*(shown.definitions for shown in embedded.values()))),
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("persist_jax.results", ""),
        autoescape=True,
        finalize=html_text,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["indented"] = functools.partial(json.dumps, indent=2, ensure_ascii=False)
    return environment.get_template("report.html.j2")


def _part(table: Table, comparison: Comparison) -> dict[str, Any]:
    return {
        "title": table.title,
        "networks": table.networks,
        "rows": [(name, _marked(table, name, cells)) for name, cells in percentages(table)],
        "suspect": any(choice.suspect for choice in table.choices.values()),
        "footnotes": footnotes(table),
        "sentences": describe(comparison),
    }


def _marked(
    table: Table, regulariser: str, cells: list[tuple[str, bool]]
) -> list[tuple[str, bool, bool]]:
    """Return the cells of a row: text, whether it is the best, whether its network is suspect."""
    choices = [table.choices.get((network, regulariser)) for network in table.networks]
    return [
        (text, best, choice is not None and choice.suspect)
        for (text, best), choice in zip(cells, choices, strict=True)
    ]


def _time(seconds: float) -> str:
    """Format seconds in the largest unit of which there is at least one.

    Example:
        >>> _time(90.0)
        '1.5 minutes'
    """
    units = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
    size, unit = next((unit for unit in units if seconds >= unit[0]), units[-1])
    return f"{seconds / size:.1f} {unit}"
