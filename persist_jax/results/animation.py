"""Animate the density of the deaths during training, as a GIF."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from persist_jax.results.plots import PLACES, Histories, death_density, has_deaths
from persist_jax.results.selection import Table
from persist_jax.results.style import INK, MUTED, keys, lines

FRAMES = 36
LARGEST_GIF = 2_000_000
STRENGTHS = 8  # of every colour

Curves = dict[tuple[str, str], np.ndarray]


def animate_deaths(table: Table, histories: Histories) -> bytes | None:
    """Animate the density of the deaths of every best run over the iterations, in under 2 MB.

    Returns:
        The GIF; `None` if no run has deaths.
    """
    shown = {cell: h for cell, h in histories.items() if has_deaths(h)}
    if not shown:
        return None
    for frames, dpi in ((FRAMES, 100), (FRAMES // 2, 80), (FRAMES // 3, 60)):
        content = _animation(table, shown, frames, dpi)
        if len(content) < LARGEST_GIF:
            break
    return content


def _animation(table: Table, histories: Histories, frames: int, dpi: int) -> bytes:
    last = max(int(h["deaths_iteration"][-1]) for h in histories.values())
    moments = np.linspace(0, last, frames)
    curves = {cell: _curves(history, moments) for cell, history in histories.items()}
    networks = [name for name in table.networks if any(cell[0] == name for cell in curves)]
    figure, panels = _panels(networks, curves)
    styles = lines(table.regularisers)
    drawn = {}
    for network, name in curves:
        colour, dashes = styles[name]
        (drawn[network, name],) = panels[network].plot(
            PLACES, PLACES, color=colour, ls=dashes, lw=1.5, animated=True
        )
    used = {name for _, name in curves}
    handles = [key for key in keys(table.regularisers) if key.get_label() in used]
    legend = figure.legend(
        handles=handles, loc="outside upper center", ncols=min(len(used), 6), frameon=False,
        title=" ",
    )  # fmt: skip
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # keep the layout: nothing may move from frame to frame
    place = legend.get_title().get_window_extent().transformed(figure.transFigure.inverted())
    clock = figure.text(0.5, place.y0, "", ha="center", animated=True)
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    pictures = []
    for index, moment in enumerate(moments):
        canvas.restore_region(still)
        clock.set_text(f"iteration {moment:.0f} of {last}")
        clock.draw(canvas.get_renderer())
        for cell, line in drawn.items():
            line.set_ydata(curves[cell][index])
            line.draw(canvas.get_renderer())
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    return _encode(pictures, [INK, MUTED, *(style.colour for style in styles.values())])


def _panels(networks: Sequence[str], curves: Curves) -> tuple[Figure, dict[str, Axes]]:
    """Make a panel per network, scaled to show most of its curves in full."""
    columns = min(len(networks), 4)
    rows = -(-len(networks) // columns)
    size = (max(2.6 * columns, 5.5), 2.0 * rows + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    grid = np.ravel(figure.subplots(rows, columns, squeeze=False, sharex=True))
    for panel in grid[len(networks) :]:
        panel.set_axis_off()
    panels = dict(zip(networks, grid[: len(networks)], strict=True))
    for network, panel in panels.items():
        panel.set_title(network, size=9, weight="bold")
        panel.set_xlim(0, 1)
        panel.set_yticks([])
        panel.spines["left"].set_visible(False)
        tallest = [
            np.quantile(c.max(axis=1), 0.9) for cell, c in curves.items() if cell[0] == network
        ]
        panel.set_ylim(0, 1.08 * max(tallest))
        panel.set_xlabel("death")
    return figure, panels


def _curves(history: dict, moments: np.ndarray) -> np.ndarray:
    """Return the densities at the last snapshot before each moment; finished runs keep theirs."""
    snapshots = np.searchsorted(history["deaths_iteration"], moments, side="right") - 1
    densities = {i: death_density(history["deaths"][i]) for i in set(np.maximum(snapshots, 0))}
    return np.stack([densities[max(i, 0)] for i in snapshots])


def _encode(pictures: Sequence[Image.Image], colours: Sequence[str]) -> bytes:
    """Encode a GIF that pauses at its first and its last frame."""
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette(colours))
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [800, *[120] * (len(frames) - 2), 2000][-len(frames) :]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0,
        optimize=True,
    )  # fmt: skip
    return buffer.getvalue()


def _palette(colours: Sequence[str]) -> list[int]:
    """Return a palette with every colour mixed with white in eight steps, both ends included."""
    different = np.array([to_rgb(colour) for colour in dict.fromkeys(colours)])
    strength = np.linspace(0, 1, STRENGTHS)[:, None, None]
    return (255 * (1 - strength * (1 - different))).round().astype(int).ravel().tolist()
