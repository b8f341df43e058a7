"""The tables of docs/study.md and docs/finding.md, from the runs of `configs/study.py`.

    python -m docs.study runs/study_40 runs/study_0 runs/study_20 runs/study_cnn

prints them, and draws `finding.png` of the first folder beside itself. Every figure is a mean over
seeds; after it the difference to no term, paired by seed, with Student's interval of 95 %. It reads
`result.json` alone and shares no statistics with the report.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy import stats

from persist_jax.results.style import FONT, GRID, MUTED, PALETTE

ORDER = ("none", "t1", "t2", "min_corr", "l1", "l2", "dropout")
# Column, weights of the run, name of the measure, and what a unit of it is.
COLUMNS = [
    ("test, best", "best", "test", 100),
    ("test, last", "last", "test", 100),
    ("train, last", "last", "train", 100),
    ("wrong labels memorised, last", "last", "memorised", 100),
    ("log loss, best", "best", "log_loss", 1),
    ("the same at its temperature", "best", "scaled_log_loss", 1),
    ("calibration error, best", "best", "calibration_error", 100),
    ("mean corr, best", "best", "mean_correlation", 1),
    ("constant neurons, best", "best", "constant", 100),
    ("effective rank, best", "best", "effective_rank", 1),
    ("pixel noise, best", "best", "noise_0.8", 100),
    ("a tenth of the neurons dropped, best", "best", "dropped_0.1", 100),
    ("35 % kept, best", "best", "pruned_0.35", 100),
    ("35 % kept and fitted, best", "best", "pruned_0.35_fitted", 100),
    ("epochs to the loss", "loss", "epochs", 1),
]


def read(folder: Path) -> dict[tuple[str, float], dict[int, dict]]:
    """The evaluations by (regulariser, weight) and seed."""
    runs: dict = defaultdict(dict)
    for path in sorted(folder.rglob("result.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["status"] != "completed":
            raise SystemExit(f"{path}: {run['status']}")
        runs[run["regulariser"], run["weight"]][run["seed"]] = run["evaluation"]
    return dict(sorted(runs.items(), key=lambda item: (ORDER.index(item[0][0]), item[0][1])))


def values(seeds: dict[int, dict], weights: str, name: str, unit: float) -> dict[int, float]:
    found = {seed: one[weights].get(name) for seed, one in seeds.items()}
    return {seed: unit * value for seed, value in found.items() if value is not None}


def interval(differences: list[float]) -> tuple[float, float]:
    """The mean, and half the length of Student's interval of 95 %."""
    n = len(differences)
    spread = np.std(differences, ddof=1) / np.sqrt(n)
    return float(np.mean(differences)), float(stats.t.ppf(0.975, n - 1) * spread)


def differences(runs: dict, row: tuple[str, float], column: tuple) -> list[float]:
    own, none = (values(runs[key], *column[1:]) for key in (row, ("none", 0.0)))
    return [own[seed] - none[seed] for seed in sorted(own.keys() & none.keys())]


def table(runs: dict) -> list[str]:
    """Rows are regularisers at their weights; bold is an interval without 0."""
    columns = [c for c in COLUMNS if any(values(one, *c[1:]) for one in runs.values())]
    lines = [f"| | {' | '.join(column[0] for column in columns)} |"]
    lines.append(f"|---|{'---:|' * len(columns)}")
    for row, seeds in runs.items():
        cells = []
        for column in columns:
            own = list(values(seeds, *column[1:]).values())
            digits = 1 if column[3] == 100 or column[2] in ("epochs", "effective_rank") else 3
            mean = f"{np.mean(own):.{digits}f}" if own else "-"
            if len(own) < len(seeds):
                mean += f" ({len(own)} of {len(seeds)} runs)"
            found = differences(runs, row, column) if row[0] != "none" else []
            if len(found) > 1:
                centre, half = interval(found)
                change = f"{centre:+.{digits}f} ± {half:.{digits}f}"
                mean += f", **{change}**" if abs(centre) > half else f", {change}"
            cells.append(mean)
        name = row[0] if row[0] == "none" else f"{row[0]} {row[1]:g}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def draw(runs: dict) -> Figure:
    """Differences to no term with their intervals: test accuracy, and wrong labels memorised."""
    rows = [row for row in runs if row[0] != "none"]
    panels = {
        "test accuracy minus no term, points": (("best", "test"), ("last", "test")),
        "wrong labels memorised minus no term, points": (("last", "memorised"),),
    }
    with rc_context(FONT):
        figure = Figure(figsize=(8, 0.3 * len(rows) + 1.3), layout="constrained")
        for axes, (title, shown) in zip(
            figure.subplots(1, 2, sharey=True), panels.items(), strict=True
        ):
            axes.axvline(0, color=MUTED, lw=0.8, ls=(0, (4, 2)))
            axes.grid(axis="x", color=GRID, lw=0.6)
            axes.set_axisbelow(True)
            axes.set_xlabel(title)
            for k, (weights, name) in enumerate(shown):
                y = np.arange(len(rows)) + 0.24 * (k - (len(shown) - 1) / 2)
                found = [interval(differences(runs, row, ("", weights, name, 100))) for row in rows]
                centres, halves = zip(*found, strict=True)
                last = weights == "last"
                axes.errorbar(
                    centres, y, xerr=halves, fmt="s" if last else "o", ms=4, lw=1.3,
                    color=PALETTE[3] if last else PALETTE[0], label=f"{weights} epoch",
                )  # fmt: skip
        first = figure.axes[0]
        first.set_yticks(range(len(rows)), [f"{name} {weight:g}" for name, weight in rows])
        first.invert_yaxis()
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=2,
                      frameon=False)  # fmt: skip
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    for folder in arguments.folders:
        runs = read(folder)
        print(f"\n{folder.name}: {sum(map(len, runs.values()))} runs\n")
        print("\n".join(table(runs)))
    draw(read(arguments.folders[0])).savefig(arguments.output / "finding.png", dpi=150)


if __name__ == "__main__":
    main()
