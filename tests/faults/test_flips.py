"""Single bits of a sweep's folder turned around; many more by `python -m tests.faults.flips`."""

import random

import pytest

from tests.faults import flips, small_sweep

ALLOWED = {"identical", "identical, said", "one line, nothing lost"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, code_of_users):
    """The configuration, an interrupted sweep of it, and what a whole one leaves."""
    folder = tmp_path_factory.mktemp("flips")
    config = small_sweep.configuration()
    assert small_sweep.train(config, folder / "whole")
    flips.interrupted(config, folder / "interrupted")
    return config, folder / "interrupted", small_sweep.left_by(config, folder / "whole")


@pytest.mark.slow
def test_a_flipped_bit_changes_no_result_unseen(sweep):
    dice = random.Random(50)
    trials = [flips.trial(*sweep, dice) for _ in range(20)]
    assert not [trial for trial in trials if trial[2] not in ALLOWED]
    assert len({ended for _, _, ended in trials}) > 1
