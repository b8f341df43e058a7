"""The command that prepares a data set: what it prints, and exit status 2 with one line."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _prepare(*flags):
    command = [sys.executable, "-m", "launch.prepare", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_it_says_what_and_where(sample_root, cache):
    flags = f"--root={sample_root}", "--task=digits_sample", f"--cache={cache}"
    done = _prepare("--dataset=pgdl", *flags)
    assert done.returncode == 0
    sizes = "digits_sample: 1204 train, 296 validation, 297 test, examples of shape (8, 8, 1)"
    assert done.stdout.splitlines() == [sizes, f"cache: {cache}"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=pgdl"], "--root: missing"),
        (["--dataset=pgdl", "--root=nowhere"], "nowhere/input_data/task1_v4: no such folder"),
    ],
)
def test_bad_input_is_one_line(flags, message):
    done = _prepare(*flags)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
