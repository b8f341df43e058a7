"""Sweeps killed and starved; many more by `python -m tests.faults.kills` and `.full_disk`."""

import random
import resource
from functools import partial

import pytest

from tests.faults import kills, small_sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert small_sweep.run(folder).returncode == 0
    return small_sweep.left_by(small_sweep.configuration(), folder)


def test_killed_at_any_moment_it_ends_the_same(expected, tmp_path):
    assert set(kills.at_moments(2, tmp_path, expected, random.Random(0))) == {"identical"}


def test_killed_at_any_change_of_the_disk_it_ends_the_same(expected, tmp_path):
    assert set(kills.at_changes(60, tmp_path, expected)) == {"identical"}


@pytest.mark.parametrize("most, executor", [(2_000, "local"), (10_000, "processes")])
def test_where_nothing_more_can_be_written_it_is_one_line(expected, tmp_path, most, executor):
    """A limit on the size of files fails as a full disk does, and needs no disk of its own."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
    flags = ("--nocompilation_cache", f"--executor={executor}")
    full = small_sweep.run(tmp_path, *flags, preexec_fn=limit)
    line, *rest = full.stderr.splitlines()  # of the worker, where there is one
    assert full.returncode == 2 and str(tmp_path) in line, full.stderr
    assert [words[:20] for words in rest] == (["2 runs have no resul"] if "pro" in executor else [])
    assert small_sweep.run(tmp_path).returncode == 0
    assert kills.compare(tmp_path, expected) == "identical"
