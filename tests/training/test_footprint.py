"""The memory of training by shapes, beside what XLA says of the compiled program."""

import jax
import pytest

from persist_jax import models
from persist_jax.training.layout import Layout
from persist_jax.training.memory import Footprint, footprint

WIDE = {"hidden": (400, 300), "dropout": 0.5}


def _of(network, dataset, options, strategy="vmap", parallel="lanes", devices=1):
    layout = Layout(tuple(range(devices)), parallel, strategy)
    return footprint(network, dataset, options, layout)


@pytest.fixture(scope="module")
def sampled_whole(options):
    return options.replace(sampling=1.0, batch_size=70)


@pytest.mark.slow
@pytest.mark.parametrize("regulariser", ["min_corr", "none"])
def test_a_lane_takes_what_the_program_says(dataset, sampled_whole, build, regulariser):
    """Of the most demanding term: without one it is less, but never more."""
    network = models.mlp((8, 8, 1), **WIDE)
    changes = sampled_whole.plain() | {"lane_strategy": "vmap"}
    programs, _, _ = build(network, regulariser, [0.0], **changes)

    def taken(lanes):
        of = programs.compile(lanes).memory_analysis()
        held = of.argument_size_in_bytes + of.output_size_in_bytes - of.alias_size_in_bytes
        return held + of.temp_size_in_bytes

    lane = (taken(6) - taken(2)) / 4
    ratio = _of(network, dataset, programs.options).lane / lane
    print(f"{regulariser}: {ratio:.2f} of what the program takes")
    assert 0.9 < ratio < (1.6 if regulariser == "min_corr" else 3.5)


def test_lanes_one_after_another_share_a_step(dataset, sampled_whole):
    network = models.mlp((8, 8, 1), **WIDE)
    together, one_by_one = (
        _of(network, dataset, sampled_whole, strategy) for strategy in ("vmap", "map")
    )
    assert together.once + together.lane == one_by_one.once + one_by_one.lane
    data = sum(leaf.nbytes for leaf in jax.tree.leaves([dataset.train, dataset.validation,
                                                        dataset.test]))  # fmt: skip
    assert together.once == data
    # n = 710 neurons: three matrices of them are in the step.
    assert one_by_one.once > data + 3 * 4 * 710**2
    assert one_by_one.lane > 2 * 3 * 4 * (64 * 400 + 400 * 300 + 300 * 10)


def test_no_matrix_is_counted_where_none_is_made(dataset, sampled_whole):
    """30 000 neurons: a matrix would take 3.6 GB, the points of 70 examples 8 MB."""
    network = models.mlp((8, 8, 1), hidden=(30_000,))
    weights = 3 * 4 * (64 + 10) * 30_000
    assert _of(network, dataset, sampled_whole).lane < 2 * weights + 300e6


def test_a_shared_batch_shares_the_activations(dataset, sampled_whole):
    network = models.mlp((8, 8, 1), **WIDE)
    shared = _of(network, dataset, sampled_whole, parallel="batch", devices=2)
    alone = _of(network, dataset, sampled_whole)
    assert alone.lane - shared.lane == 8 * 4 * 35 * 710


def test_lanes_fit_beside_what_is_there_once():
    assert [Footprint(100, 10).lanes(limit) for limit in (99, 109, 110, 200)] == [0, 0, 1, 10]
