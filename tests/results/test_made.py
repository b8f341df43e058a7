"""What a step costs, where the runs were trained, and by which commands."""

import numpy as np
import pytest

from persist_jax.results.constant import plot_constant
from persist_jax.results.cost import step_times
from persist_jax.results.made import Made, made_by
from persist_jax.results.measured import plot_measures
from persist_jax.results.report import write_report
from persist_jax.results.selection import tabulate
from persist_jax.results.weights import at_the_edge, plot_weights
from persist_jax.store import read_results, read_sweep
from persist_jax.store.notes import note_command, read_commands
from persist_jax.store.record import Origin

HERE = {"device": "cpu (AMD)", "devices": 2, "cores": 2, "versions": {"jax": "0.10.2"}}
HERE |= {"revision": "abc", "configuration": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sweeps):
    """Two seeds and weights of t1, none, and a weight that diverges."""
    folder = tmp_path_factory.mktemp("made")
    sweeps.config(folder, networks=["a"], regularisers=["none", "t1"])
    accuracies = {(0.0, 0): 0.80, (0.0, 1): 0.82, (0.1, 0): 0.84, (0.1, 1): 0.88}
    accuracies |= {(1.0, 0): 0.30, (1.0, 1): 0.30}
    for (weight, seed), test in accuracies.items():
        other = {"revision": "xyz"} if seed else {}
        fields = sweeps.record(
            "a", "t1" if weight else "none", weight, seed, validation=test + 0.01, test=test,
            origins=[HERE | other, HERE | {"configuration": "2"}], points=50,
        )  # fmt: skip
        history = {
            "validation_loss": np.ones(3),
            "train_loss": np.ones(30),
            "constant_neurons": np.array([1, 2, 5]),
            "measures/dormant": np.array([np.nan, 0.5, 0.25]) * seed,
            # The first epoch waited for something else.
            "seconds": np.array([9.0, 0.5, 0.5]) * (3 if weight else 1),
        }
        sweeps.run(folder, fields, history)
    lost = sweeps.record("a", "t1", 100.0, 0, status="diverged", reason="loss")
    sweeps.run(folder, lost | {"validation_loss": None})
    return folder


def test_places_are_counted_once_per_run(folder):
    first, second = made_by(read_results(folder))
    assert (first.runs, first.origin.revision) == (6, "abc")
    assert (second.runs, second.origin.revision) == (3, "xyz")
    assert first.machine == "cpu (AMD), 2 devices, 2 cores" and first.versions == "jax 0.10.2"


def test_a_precision_that_was_chosen_is_said():
    chosen = Origin.read(HERE | {"matmul_precision": "bfloat16"})
    assert Made(1, chosen).machine == "cpu (AMD), 2 devices, 2 cores, products at bfloat16"
    # A file that does not say it is older than the choice.
    assert Origin.read(HERE).matmul_precision == "default"


def test_the_time_of_a_step_is_that_of_the_median_epoch(folder):
    table = tabulate(read_sweep(folder))
    histories = {
        ("a", "none"): {"seconds": np.array([9.0, 0.5, 0.5]), "train_loss": np.ones(30)},
        ("a", "t1"): {"seconds": np.array([1.5]), "train_loss": np.ones(10)},
        ("a", "t2"): {},
    }
    assert [(t.regulariser, t.milliseconds, t.over_none) for t in step_times(table, histories)] == [
        ("none", 50.0, 1.0), ("t1", 150.0, 3.0),
    ]  # fmt: skip


def test_commands_are_kept_in_order_and_said_once(tmp_path):
    assert read_commands(tmp_path) == []
    for arguments in (["python", "-m", "a b"], ["python", "--x=1"], ["python", "-m", "a b"]):
        note_command(tmp_path, arguments)
    assert read_commands(tmp_path) == ["python -m 'a b'", "python --x=1"]


def test_the_page_has_them(folder):
    note_command(folder, ["python", "-m", "launch.sweep", "--config=<x>"])
    page = write_report(folder).read_text()
    assert "python -m launch.sweep &#39;--config=&lt;x&gt;&#39;" in page
    assert "revision\nabc." in page and "3.00 ×" in page and "<td>150</td>" in page
    assert "<td>+4.00</td>" in page and "<td>+9.00</td>" in page  # train - test
    assert "<h2>Measures while training</h2>" in page


def test_a_panel_has_every_weight_its_spread_and_the_choice(folder):
    panel = plot_weights(tabulate(read_sweep(folder))).axes["a", "t1"]
    circles = {line.get_markersize(): line.get_xydata() for line in panel.lines
               if line.get_marker() == "o"}  # fmt: skip
    np.testing.assert_allclose(circles[9], [[0.106, 86.0]])
    tests = [line for line in panel.lines if line.get_marker() == "o"][1].get_xydata()
    np.testing.assert_allclose(tests, [[0.106, 86.0], [1.06, 30.0]])
    bars = panel.containers[1].lines[2][0].get_segments()
    np.testing.assert_allclose(np.ptp(bars[0][:, 1]), 2 * 100 * np.std([0.84, 0.88], ddof=1))
    marks = [line.get_marker() for line in panel.lines]
    assert marks.count("x") == 1 and marks.count("v") == 2


def test_a_panel_shows_what_was_chosen_and_none_also_far_below_the_validation_accuracy(
    tmp_path, sweeps
):
    sweeps.config(tmp_path, networks=["a"], regularisers=["none", "t1", "l1"])
    for name, weight, validation, test in (
        ("none", 0.0, 0.99, 0.80), ("t1", 0.1, 0.99, 0.90), ("t1", 1.0, 0.98, 0.95),
        ("l1", 0.1, 0.95, 0.70), ("l1", 1.0, 0.10, 0.10),
    ):  # fmt: skip
        sweeps.run(tmp_path, sweeps.record("a", name, weight, validation=validation, test=test))
    table = tabulate(read_sweep(tmp_path))
    for (network, name), panel in plot_weights(table).axes.items():
        chosen, none = (table.choices[network, row] for row in (name, "none"))
        low, high = panel.get_ylim()
        for level in (chosen.test, chosen.validation, none.test):
            assert low < 100 * level < high
        # A network at chance would press all others into a line.
        assert low > 60
        assert [line.get_marker() for line in panel.lines].count("v") == 2 * (name == "l1")


def test_weights_at_the_edge_of_the_grid_are_said(tmp_path, sweeps):
    sweeps.config(tmp_path, networks=["a", "b"], regularisers=["none", "t1", "t2", "l1", "l2"])
    for network, name, best, weights in (
        ("a", "none", 0.0, (0.0,)), ("a", "t1", 1.0, (0.01, 0.1, 1.0)),
        ("b", "t1", 1.0, (0.01, 0.1, 1.0)), ("a", "t2", 0.1, (0.01, 0.1, 1.0)),
        ("a", "l1", 0.01, (0.01, 0.1)), ("a", "l2", 0.1, (0.1,)),
    ):  # fmt: skip
        for weight in weights:
            level = 0.8 + 0.1 * (weight == best)
            sweeps.run(tmp_path, sweeps.record(network, name, weight, validation=level))
    # The largest weight is an edge of what was tried although its runs diverge.
    sweeps.run(tmp_path, sweeps.record("a", "l2", 1.0, status="diverged", reason="loss"))
    smallest, largest = at_the_edge(tabulate(read_sweep(tmp_path)))
    assert "the smallest tried for l1 on a; l2 on a. A smaller one" in smallest
    assert "the largest tried for t1 on a, b. A larger one" in largest
    assert largest in " ".join(write_report(tmp_path).read_text().split())


def test_measures_are_drawn_by_network_and_measure(folder):
    table = tabulate(read_sweep(folder))
    histories = {("a", "t1"): {"measures/effective_rank": np.array([np.nan, 7.5])}}
    panels = list(plot_measures(table, histories).axes.values())
    assert [len(panel.lines) for panel in panels] == [0, 0, 0, 1]
    np.testing.assert_allclose(panels[3].lines[0].get_xydata(), [[1, np.nan], [2, 7.5]])
    assert plot_measures(table, {("a", "t1"): {"constant_neurons": np.zeros(2)}}) is None


def test_the_share_of_constant_neurons_is_of_the_cloud(folder):
    table = tabulate(read_sweep(folder))
    histories = {("a", "t1"): {"constant_neurons": np.array([1, 2, 5])}, ("a", "none"): {}}
    (line,) = plot_constant(table, histories).axes["", "a"].lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 2.0], [2, 4.0], [3, 10.0]])
    histories["a", "t1"]["constant_neurons"] = np.zeros(3)
    assert plot_constant(table, histories) is None
