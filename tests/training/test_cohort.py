"""Runs that train together: divergence, lanes left out, and the entry that needs no folder."""

import jax
import numpy as np
import pytest

from persist_jax.training import train
from persist_jax.training.cohort import Cohort
from persist_jax.training.layout import Layout

WEIGHTS = [1e-3, 1e38, 0.1]  # the second overflows in its first step
SIZES = {"batch_size": 70, "snapshot_every": 3, "epochs": 3}


@pytest.fixture(scope="module")
def programs(perceptron, build):
    return build(perceptron, "l2", WEIGHTS, **SIZES)[0]


def _cohort(programs, weights=WEIGHTS):
    return Cohort(programs, weights, {run: programs.start(0) for run in range(len(weights))})


def _trained(cohort, epochs=3):
    rows = []
    for _ in range(epochs):
        rows.append(cohort.train_epoch())
        cohort.end([run for run, row in rows[-1].items() if row.ended])
    return rows


@pytest.fixture(scope="module")
def uninterrupted(programs):
    cohort = _cohort(programs)
    return _trained(cohort), cohort


def test_a_diverged_run_says_where_and_leaves_the_others_alone(uninterrupted):
    rows, cohort = uninterrupted
    assert [sorted(row) for row in rows] == [[0, 1, 2], [0, 2], [0, 2]]
    assert rows[0][1].ended and not rows[2][0].ended
    assert len(rows[0][1].history["train_loss"]) == 1
    assert len(rows[0][1].history["validation_loss"]) == 0
    assert len(rows[0][1].history["constant_neurons"]) == 0
    assert len(rows[0][0].history["train_loss"]) == 2
    assert len(rows[0][0].history["constant_neurons"]) == 1
    assert cohort.training == [0, 2]


def test_leaving_idle_lanes_out_changes_nothing(programs, uninterrupted, monkeypatch):
    """Where lanes share a device one after another there is nothing to gain, so it is forced."""
    monkeypatch.setattr(Layout, "later", lambda layout, lanes: [2])
    cohort = _cohort(programs)
    rows = _trained(cohort)
    assert cohort.slots == [0, 2]
    for ours, theirs in zip(rows, uninterrupted[0], strict=True):
        for run in (0, 2):
            for name, array in ours[run].history.items():
                if name != "seconds":
                    np.testing.assert_array_equal(array, theirs[run].history[name])


def test_made_again_from_its_states_it_goes_on_to_the_bit(programs, uninterrupted):
    first = _cohort(programs)
    _trained(first, 2)
    states = first.states(first.training)
    again = Cohort(programs, WEIGHTS, states, slots=first.slots, epoch=first.epoch)
    again.train_epoch()
    ours, theirs = (cohort.states([0, 2]) for cohort in (again, uninterrupted[1]))
    for run in (0, 2):
        jax.tree.map(np.testing.assert_array_equal, ours[run], theirs[run])


def _layout(strategy, devices=1, parallel="lanes"):
    return Layout(tuple(range(devices)), parallel, strategy)


def test_smaller_programs_are_quarters_together_and_any_half_one_after_another():
    assert [_layout("vmap").later(lanes) for lanes in (3, 4, 10, 15, 51)] == [
        [], [1], [2], [3], [12, 3]
    ]  # fmt: skip
    assert _layout("vmap", 4).later(40) == [8] and _layout("vmap", 4).later(12) == []
    assert _layout("vmap", 4, "batch").later(10) == [2]
    assert _layout("map").later(10) == [] and _layout("map", 4, "batch").later(10) == []
    assert _layout("map", 4).later(20) == [8, 4] and _layout("map", 4).later(4) == []


@pytest.mark.slow
def test_together_the_last_quarter_goes_on_in_a_program_of_known_size(
    perceptron, build, uninterrupted
):
    """Eight lanes, of which seven diverge at once: the last one has two lanes, one of them idle."""
    weights = [1e38] * 3 + [0.1] + [1e38] * 4
    programs = build(perceptron, "l2", weights, **SIZES, lane_strategy="vmap")[0]
    cohort = _cohort(programs, weights)
    _trained(cohort, 1)
    assert (cohort.slots, cohort.training) == ([3, None], [3])
    again = Cohort(programs, weights, cohort.states([3]), slots=cohort.slots, epoch=cohort.epoch)
    for each in (cohort, again):
        _trained(each, 2)
    assert programs._compiled.keys() == {(False, 8), (False, 2)}
    jax.tree.map(np.testing.assert_array_equal, cohort.states([3])[3], again.states([3])[3])
    ours, theirs = cohort.states([3])[3].params, uninterrupted[1].states([2])[2].params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), ours, theirs)


def test_accuracies_are_those_of_the_best_weights(uninterrupted, perceptron, dataset):
    cohort = uninterrupted[1]
    accuracies = cohort.accuracies([2])
    assert list(accuracies) == [2]
    logits, _ = perceptron.apply(cohort.states([2])[2].best.variables, dataset.test.x)
    right = np.mean(np.asarray(logits).argmax(axis=1) == dataset.test.y)
    np.testing.assert_allclose(accuracies[2]["test"], right, rtol=1e-6)
    assert cohort.accuracies([]) == {}


def test_train_needs_no_folder(perceptron, dataset, options, uninterrupted):
    """Every weight with every seed, in one program, with what a sweep would record."""
    seen = []
    runs = train(
        perceptron,
        dataset,
        options.replace(**SIZES),
        regulariser="l2",
        weights=(0.1, 1e38),
        seeds=(0, 1),
        devices=1,
        report=lambda epoch, rows: seen.append((epoch, sorted(rows))),
    )
    assert [(run.weight, run.seed) for run in runs] == [(0.1, 0), (0.1, 1), (1e38, 0), (1e38, 1)]
    assert [run.outcome["status"] for run in runs] == ["completed"] * 2 + ["diverged"] * 2
    assert runs[2].outcome["reason"] == "the loss is not finite at iteration 0"
    assert seen == [(1, [0, 1, 2, 3]), (2, [0, 1]), (3, [0, 1])]
    for name in ("train_loss", "deaths", "validation_loss", "constant_neurons"):
        expected = np.concatenate([row[2].history[name] for row in uninterrupted[0]])
        np.testing.assert_array_equal(runs[0].history[name], expected)
    assert not np.array_equal(runs[0].history["train_loss"], runs[1].history["train_loss"])
    logits, _ = perceptron.apply(runs[0].variables, dataset.test.x)
    right = np.mean(np.asarray(logits).argmax(axis=1) == dataset.test.y)
    np.testing.assert_allclose(runs[0].accuracy["trained"]["test"], right, rtol=1e-6)
    assert runs[0].accuracy["initial"] != runs[0].accuracy["trained"]


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"weights": (-1.0,), "regulariser": "l2"}, "weights: -1 of l2 must not be below 0"),
        ({"weights": (float("nan"),)}, "weights: (nan,) must be finite"),
        ({"seeds": (0, -1)}, "seeds: (0, -1) must be whole numbers from 0 to 2147483647"),
        ({"lane_strategy": "x"}, "lane_strategy: 'x' is not one of auto, vmap, map"),
    ],
)
def test_train_refuses_wrong_runs_in_one_line(perceptron, dataset, options, wrong, words):
    with pytest.raises(ValueError) as error:
        train(perceptron, dataset, options, **wrong)
    assert str(error.value) == words


@pytest.mark.slow
def test_the_term_ends_after_its_epochs(perceptron, build):
    programs = build(perceptron, "l2", [0.1], **SIZES, term_epochs=2)[0]
    rows = _trained(_cohort(programs, [0.1]))
    term = np.concatenate([row[0].history["train_term"] for row in rows])
    assert np.all(term[:4] > 0) and np.all(term[4:] == 0)
