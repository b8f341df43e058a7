"""Plot times against n on logarithmic axes, with lower bounds."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

# Wong's palette, which colour-blind readers can tell apart; our curves get the strongest colours.
COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#56B4E9", "#CC79A7", "#999999", "#8C6D31")


def plot_growth(results: dict, path: Path) -> None:
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _curves(left, results["matrix"], "Deaths of a given matrix")
    _curves(right, results["points"], "Deaths of points, b = 256")
    floor = results["floor"]
    for axes, name, label in (
        (left, "read", "floor: one read of the matrix"),
        (right, "product", "floor: one product of the points"),
    ):
        times = [row[name] * 1e3 for row in floor.values()]
        axes.plot([int(n) for n in floor], times, "k:", label=label)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    figure.savefig(path, dpi=110)


def _curves(axes, rows: dict, title: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    names = dict.fromkeys(name for row in rows.values() for name in row)
    for name, colour in zip(names, COLOURS, strict=False):
        sizes = [n for n in rows if name in rows[n]]
        times = [rows[n][name] * 1e3 for n in sizes]
        ours = name.startswith("ours")
        axes.plot(
            [int(n) for n in sizes],
            times,
            "o-" if ours else "o--",
            color=colour,
            linewidth=2.4 if ours else 1.3,
            markersize=5,
            label=name,
        )
    ticks: list[int] = []
    for n in map(int, rows):
        # Labels of closer sizes would overlap.
        if not ticks or n >= 1.6 * ticks[-1]:
            ticks.append(n)
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
    axes.set(xlabel="points n", ylabel="milliseconds", title=title)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
