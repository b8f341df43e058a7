"""What the pictures are drawn from, and that they can always be drawn."""

import io

import numpy as np
import pytest
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure
from PIL import Image

from persist_jax.results.animation import animate_deaths
from persist_jax.results.plots import (
    death_density,
    plot_deaths,
    plot_losses,
    read_histories,
    smooth,
)
from persist_jax.results.report import write_report
from persist_jax.results.selection import tabulate
from persist_jax.results.style import lines, own_style, plain_numbers
from persist_jax.results.weights import plot_weights
from persist_jax.store import read_sweep


def test_density_integrates_to_one_also_at_the_ends():
    for deaths in ([0.0], [1.0], [0.0, 0.5, 1.0], [0.3] * 7):
        density = death_density(np.array(deaths))
        assert density.mean() == pytest.approx(1)
        assert density.min() >= 0


def test_density_has_its_mode_where_the_deaths_are():
    density = death_density(np.full(10, 0.25))
    assert (np.argmax(density) + 0.5) / len(density) == pytest.approx(0.25, abs=0.01)


def test_density_leaves_out_what_is_no_distance():
    with_gaps = np.array([0.4, np.inf, np.nan, 0.6])
    np.testing.assert_array_equal(death_density(with_gaps), death_density(np.array([0.4, 0.6])))
    assert not death_density(np.array([np.inf])).any()


@pytest.mark.parametrize("length", [1, 7, 60, 1234])
def test_smoothing_keeps_the_mean_and_the_ends_inside(length):
    values = np.arange(length, dtype=float)
    places, means = smooth(values)
    assert len(means) == min(length, 60)
    assert 0 < places[0] <= places[-1] < 1
    # A straight line stays one: every mean lies on the line through the middles.
    np.testing.assert_allclose(means, places * length - 0.5)


def test_weights_of_both_signs_share_an_axis(tmp_path, sweeps):
    weights = (-1.0, -0.1, 0.1, 1.0)
    sweeps.write(tmp_path, networks=("a",), regularisers=("none", "t1"), weights=weights)
    (panel,) = plot_weights(tabulate(read_sweep(tmp_path))).axes.values()
    assert panel.get_xscale() == "symlog"
    assert [text.get_text() for text in panel.get_xticklabels()] == ["-1", "0", "1"]
    lines = [line for line in panel.lines if line.get_marker() == "o" and line.get_lw() == 1]
    places = [np.asarray(line.get_xdata(), float) for line in lines]
    np.testing.assert_allclose(places, np.outer([0.94, 1.06], weights))
    # All four are inside, and differ on the page.
    drawn = panel.transData.transform([(weight, 50) for weight in weights])[:, 0]
    low, high = panel.transData.transform([(end, 50) for end in panel.get_xlim()])[:, 0]
    assert low < drawn[0] and drawn[-1] < high and np.diff(drawn).min() > 5


def test_panels_show_the_best_runs_and_say_why_others_are_empty(tmp_path, sweeps):
    sweeps.write(tmp_path, networks=("a",), regularisers=("none", "t1", "l1"), weights=(0.1, 1.0))
    sweeps.run(
        tmp_path, sweeps.record("a", "t2", 0.1, status="diverged", reason="loss is not finite")
    )
    (tmp_path / "runs/a/l1/0.1/seed0/history.npz").unlink()
    table = tabulate(read_sweep(tmp_path))
    histories = read_histories(table)
    figure = plot_losses(table, histories).figure
    said = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert said == [[], ["weight 0.1"], ["no history"], ["no completed run,\n1 diverged"]]
    best = histories["a", "t1"]
    drawn = [line.get_ydata() for line in figure.axes[1].lines]
    assert any(np.array_equal(line, best["validation_loss"]) for line in drawn)
    entropy = best["train_loss"] - best["train_term"]
    halves = entropy.reshape(60, 2).mean(axis=1)
    assert any(len(line) == 60 and np.allclose(line, halves) for line in drawn)
    said = [
        [text.get_text() for text in axes.texts]
        for axes in plot_deaths(table, histories).axes.values()
    ]
    assert said[2:4] == [["no history"], ["no completed run,\n1 diverged"]]


def test_panels_say_of_what_collapsed_that_it_did(tmp_path, sweeps):
    sweeps.config(tmp_path)
    for name in ("none", "t1"):
        fields = sweeps.record("a", name, 0.1, chance={"share": 0.8, "examples": 100})
        sweeps.run(tmp_path, fields, sweeps.history(np.random.default_rng(0)))
    table = tabulate(read_sweep(tmp_path))
    panels = plot_losses(table, read_histories(table)).axes.values()
    said = [[text.get_text() for text in axes.texts] for axes in panels]
    assert said == [["collapsed"], ["weight 0.1\ncollapsed"]]


def test_the_standard_regularisers_keep_their_lines():
    colours = ("#5b6773", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7")
    found = lines(("none", "t1", "t2", "min_corr", "l1", "l2"))
    assert tuple(line.colour for line in found.values()) == colours
    assert [line.dashes for line in found.values()] == [(0, (4, 2)), *["-"] * 5]


def test_lines_follow_the_order_and_none_keeps_its_own():
    first, last = lines(("none", "a", "b")), lines(("a", "b", "none"))
    assert first == last
    swapped = lines(("b", "a"))
    assert (swapped["a"], swapped["b"]) == (first["b"], first["a"])


def test_more_regularisers_than_colours_differ_by_their_dashes():
    found = lines(("none", *(f"r{i}" for i in range(20))))
    assert len(set(found.values())) == 21
    assert len({line.colour for line in found.values()}) == 7


@pytest.mark.slow
def test_the_animation_shows_every_regulariser_in_its_colour(tmp_path, sweeps):
    names = ("mine", "none", *(f"other_{i}" for i in range(6)))
    sweeps.write(tmp_path, networks=("a",), regularisers=names, weights=(0.1,))
    table = tabulate(read_sweep(tmp_path))
    with Image.open(io.BytesIO(animate_deaths(table, read_histories(table)))) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    shown = {"#" + bytes(pixel).hex() for pixel in np.unique(pixels, axis=0)}
    assert {line.colour for line in lines(names).values()} <= shown


@pytest.mark.slow
def test_the_animation_is_small_and_moves(tmp_path, sweeps):
    sweeps.write(tmp_path, networks=("a", "b"), regularisers=("none", "t1"), weights=(0.1,))
    table = tabulate(read_sweep(tmp_path))
    content = animate_deaths(table, read_histories(table))
    assert len(content) < 2_000_000
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "GIF" and 10 < picture.n_frames <= 40
        first = np.asarray(picture.convert("RGB"))
        picture.seek(picture.n_frames - 1)
        last = np.asarray(picture.convert("RGB"))
    assert (first[0, 0] == 255).all()
    assert (first != last).any()


def test_runs_without_deaths_have_no_picture_of_them(tmp_path, sweeps):
    sweeps.config(tmp_path)
    single = {
        "validation_loss": np.ones(1),
        "deaths": np.zeros((3, 0)),
        "deaths_iteration": np.arange(3),
    }
    sweeps.run(tmp_path, sweeps.record(), single)
    table = tabulate(read_sweep(tmp_path))
    histories = read_histories(table)
    assert plot_losses(table, histories) is not None
    assert plot_deaths(table, histories) is None
    assert animate_deaths(table, histories) is None


def test_losses_that_are_not_finite_do_not_stop_the_plot(tmp_path, sweeps):
    sweeps.config(tmp_path)
    lost = {"validation_loss": np.full(3, np.nan), "train_loss": np.full(6, np.inf)}
    sweeps.run(tmp_path, sweeps.record(), lost)
    table = tabulate(read_sweep(tmp_path))
    plot_losses(table, read_histories(table)).figure.canvas.draw()


def test_a_history_of_another_number_of_epochs_is_named(tmp_path, sweeps):
    sweeps.config(tmp_path)
    arrays = sweeps.history(np.random.default_rng(0))
    folder = sweeps.run(tmp_path, sweeps.record(), arrays)
    sweeps.run(tmp_path, sweeps.record(epochs=9))
    with pytest.raises(ValueError, match=r"history\.npz: 12 epochs, but result.json .* has 9$"):
        read_histories(tabulate(read_sweep(tmp_path)))
    assert folder.is_dir()


@pytest.mark.slow
def test_pictures_do_not_inherit_a_persons_settings(tmp_path, sweeps):
    """`text.usetex` would need LaTeX; every other setting would change the file."""
    sweep = sweeps.write(tmp_path, ("a", "b"), ("none", "t1", "t2"), weights=(0.01,))
    own = write_report(sweep).parent
    theirs = {"text.usetex": True, "figure.facecolor": "red", "savefig.bbox": "tight"}
    with rc_context(theirs):
        other = write_report(sweep, tmp_path / "other").parent
        assert rcParams["text.usetex"]
    for name in ("losses.png", "critical_difference.png", "critical_difference.svg", "deaths.gif"):
        assert (own / name).read_bytes() == (other / name).read_bytes(), name


def test_logarithmic_axes_have_plain_numbers():
    """Names are drawn as they are, so that mathematical text would be too."""
    with own_style():
        figure = Figure()
        axes = figure.subplots()
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
        for low, high in ((0.01, 10.0), (0.2, 0.7)):
            axes.set_ylim(low, high)
            figure.canvas.draw()
            texts = [label.get_text() for label in axes.get_yticklabels(which="both")]
            assert any(texts) and not any("$" in text for text in texts)
