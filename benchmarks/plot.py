"""Growth with n on logarithmic axes, the floor drawn in."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def plot_growth(results: dict, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for axes, rows, title in (
        (left, results["matrix"], "from a given matrix"),
        (right, results["points"], "from points, b = 256"),
    ):
        for name in dict.fromkeys(name for row in rows.values() for name in row):
            sizes = [n for n in rows if name in rows[n]]
            axes.loglog(sizes, [rows[n][name] * 1e3 for n in sizes], "o-", label=name)
        axes.set(xlabel="points n", ylabel="milliseconds", title=f"Deaths {title}")
    floor = results["floor"]
    reads = [row["read"] * 1e3 for row in floor.values()]
    products = [row["product"] * 1e3 for row in floor.values()]
    left.loglog(list(floor), reads, "k:", label="floor: one read of the matrix")
    right.loglog(list(floor), products, "k:", label="floor: the product")
    left.legend()
    right.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
