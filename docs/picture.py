"""The picture at the top of README.md, from a small network on scikit-learn's digits.

python docs/picture.py  # half a minute, writes picture_light.png and picture_dark.png beside it
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import linen
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

import persist_jax as pj
from persist_jax.data import load_images
from persist_jax.training import Options, train

WEIGHT = 0.02
FARTHEST = 0.75  # the largest death that is drawn
CLOSE_TO_FAR = LinearSegmentedColormap.from_list(
    "deaths", ["#e8301c", "#e8301c", "#b052c0", "#3f86e0", "#2f9bd8"]
)
# Text, lesser text and ground, as GitHub has them.
THEMES = {"light": ("#1f2328", "#59636e", "#ffffff"), "dark": ("#f0f6fc", "#9198a1", "#0d1117")}


class Perceptron(linen.Module):
    """With tanh no neuron dies, so that every edge is a correlation."""

    @linen.compact
    def __call__(self, x, train=False):
        first = linen.tanh(linen.Dense(32)(x.reshape(len(x), -1)))
        second = linen.tanh(linen.Dense(16)(first))
        logits = linen.Dense(10)(second)
        return logits, [first, second, logits]


class Cloud(NamedTuple):
    name: str
    accuracy: float
    points: np.ndarray  # (n, b)
    edges: np.ndarray  # (n - 1, 2)
    deaths: np.ndarray  # (n - 1,), ascending


def measure() -> list[Cloud]:
    digits = load_images("digits")
    network = pj.models.linen(Perceptron())
    sgd = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}
    options = Options(batch_size=64, epochs=40, patience=None, optimiser=sgd)
    runs = train(network, digits, options, regulariser="t1", weights=(0.0, WEIGHT), devices=1)
    initial = network.init(jax.random.key(0), digits.train.x[:1])
    return [
        cloud("before training", network, initial, digits.validation),
        cloud("trained", network, runs[0].variables, digits.validation),
        cloud("trained with the term", network, runs[1].variables, digits.validation),
    ]


def cloud(name, network, variables, examples) -> Cloud:
    logits, activations = network.apply(variables, examples.x)
    points = pj.sample_neurons(activations, 1.0)
    distances = pj.correlation_distance(points)
    edges = np.asarray(pj.minimum_spanning_tree(distances))
    deaths = np.asarray(distances)[edges[:, 0], edges[:, 1]]
    accuracy = float(np.mean(logits.argmax(1) == examples.y))
    print(f"{name}: accuracy {accuracy:.3f}, deaths from {deaths[0]:.2f}, mean {deaths.mean():.2f}")
    return Cloud(name, accuracy, np.asarray(points), edges, deaths)


def places_of(edges, lengths):
    """Vertices in the plane: edges as long as they are, and none across another (equal angles)."""
    neighbours = [[] for _ in range(len(edges) + 1)]
    for (i, j), length in zip(edges.tolist(), lengths.tolist(), strict=True):
        neighbours[i].append((j, length))
        neighbours[j].append((i, length))

    def parents_first(root):
        found = [(root, -1, 0.0)]
        for vertex, parent, _ in found:
            found += [(child, vertex, far) for child, far in neighbours[vertex] if child != parent]
        return found

    def depth(root):
        away = {-1: 0.0}
        for vertex, parent, length in parents_first(root):
            away[vertex] = away[parent] + length
        return max(away.values())

    order = parents_first(min(range(len(neighbours)), key=depth))
    leaves, places = np.zeros(len(neighbours)), np.zeros((len(neighbours), 2))
    for vertex, parent, _ in reversed(order):
        leaves[vertex] = max(leaves[vertex], 1)
        if parent >= 0:
            leaves[parent] += leaves[vertex]
    free = {order[0][0]: (0.0, 2 * np.pi)}  # where the next child begins, and the whole angle
    for vertex, parent, length in order[1:]:
        start, whole = free[parent]
        angle = whole * leaves[vertex] / leaves[parent]
        free[parent], free[vertex] = (start + angle, whole), (start, angle)
        middle = start + angle / 2
        places[vertex] = places[parent] + length * np.array([np.cos(middle), np.sin(middle)])
    return places


def draw(clouds: list[Cloud], theme: str) -> None:
    ink, muted, ground = THEMES[theme]
    style = {
        "font.size": 10.5,
        "text.color": ink,
        "axes.edgecolor": muted,
        "xtick.color": muted,
        "axes.facecolor": ground,
        "figure.facecolor": ground,
    }
    places = [places_of(cloud.edges, cloud.deaths) for cloud in clouds]
    span = max(np.ptp(place, 0).max() for place in places) / 2 + 0.1
    with rc_context(style):
        figure = Figure(figsize=(10, 4.2), dpi=160)
        canvas = FigureCanvasAgg(figure)
        grid = figure.add_gridspec(
            2, 4, width_ratios=(0.8, 1, 1, 1), height_ratios=(4.4, 1),
            left=0.015, right=0.985, top=0.87, bottom=0.15, wspace=0.13, hspace=0.0,
        )  # fmt: skip
        curves = figure.add_subplot(grid[:, 0])
        draw_points(curves, clouds[1], muted)
        closest = 1 - clouds[1].deaths[0]
        title(curves, "neurons on a batch", f"two with |corr| = {closest:.2f}", muted)
        for column, (cloud, place) in enumerate(zip(clouds, places, strict=True), 1):
            above = figure.add_subplot(grid[0, column])
            draw_tree(above, cloud, place, span, ink)
            title(above, cloud.name, f"accuracy {100 * cloud.accuracy:.0f} %", muted)
            draw_deaths(figure.add_subplot(grid[1, column]), cloud)
        words = "their minimum spanning tree: its edges, 1 - |corr| long, are what a term lengthens"
        figure.text(0.615, 0.022, words, color=muted, ha="center")
        canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(128)
    picture.save(Path(__file__).with_name(f"picture_{theme}.png"), optimize=True)


def title(axes, name, below, muted):
    place = axes.get_position()
    middle = (place.x0 + place.x1) / 2
    axes.figure.text(middle, 0.94, name, ha="center", size=13, weight="bold")
    axes.figure.text(middle, 0.885, below, ha="center", color=muted)


def draw_points(axes, cloud, muted):
    pair = cloud.edges[0]
    sign = np.sign(np.corrcoef(cloud.points[pair])[0, 1])
    others = [row for row in (2, 9, 15, 21, 27, 30) if row not in pair]
    for height, row in enumerate([*pair, *others]):
        values = cloud.points[row, :40] * (sign if height == 1 else 1)
        axes.plot(values / 2.4 - height, color=CLOSE_TO_FAR(0.0) if height < 2 else muted, lw=1.4)
    axes.set_axis_off()


def draw_tree(axes, cloud, places, span, ink):
    colours = CLOSE_TO_FAR(cloud.deaths / FARTHEST)
    axes.add_collection(LineCollection(places[cloud.edges], colors=colours, linewidths=2))
    axes.plot(*places.T, "o", color=ink, markersize=3, zorder=3)
    x, y = (places.max(0) + places.min(0)) / 2
    axes.set(xlim=(x - span, x + span), ylim=(y - span, y + span), aspect="equal")
    axes.set_axis_off()


def draw_deaths(axes, cloud):
    _, ends, bars = axes.hist(cloud.deaths, bins=30, range=(0, FARTHEST))
    for bar, end in zip(bars, ends, strict=False):
        bar.set_color(CLOSE_TO_FAR((end + FARTHEST / 60) / FARTHEST))
    axes.set(xlim=(0, FARTHEST), ylim=(0, 14), yticks=[], xticks=[0, 0.2, 0.4, 0.6])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


if __name__ == "__main__":
    measured = measure()
    for name in THEMES:
        draw(measured, name)
