"""Damaged files by seed, a few of each reader; `python -m tests.faults.readers` tries thousands."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import mutate, readers
from tests.faults.subjects import SUBJECTS, Subject

SMALL = [name for name in SUBJECTS if name != "shard"]  # which takes TensorFlow


@pytest.mark.parametrize("name", SMALL)
def test_damaged_files_are_read_or_refused_in_one_line(name, tmp_path):
    SUBJECTS[name].prepare(tmp_path)
    found = {}
    for seed in range(24):
        found[seed] = readers.outcome(SUBJECTS[name], SUBJECTS[name].damage(tmp_path, seed))
    assert set(found.values()) <= {"refused", "accepted"} and "refused" in found.values(), found


def test_equal_seeds_give_equal_damage():
    data, fields = bytes(range(256)), {"a": [1, {"b": None}], "c": "text"}
    for seed in range(50):
        assert mutate.mutate_bytes(data, seed) == mutate.mutate_bytes(data, seed)
        assert mutate.mutate_json(fields, seed) == mutate.mutate_json(fields, seed)
    assert len({mutate.mutate_bytes(data, seed) for seed in range(50)}) > 40
    assert len({mutate.mutate_json(fields, seed) for seed in range(50)}) > 30


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (KeyError("x"), "KeyError: \"'x'\""),
        (ValueError("{path}: two\nlines"), "not one line: "),
        (ValueError("{path}: " + "long" * 300), "not one line: "),
        (ValueError("nothing of the file"), "does not name the file: "),
        (UnicodeError("{path}"), "UnicodeError: "),
    ],
)
def test_what_should_not_be_is_a_finding(error, found, tmp_path):
    def read(path):
        error.args = tuple(text.replace("{path}", str(path)) for text in error.args)
        raise error

    subject = Subject(lambda folder: None, lambda folder, seed: folder, read)
    assert readers.outcome(subject, tmp_path).startswith(found)


CRASHING = """
import os, sys
from tests.faults import readers
from tests.faults.subjects import SUBJECTS, Subject

def read(path):
    if path.name == "2":
        os.abort()
    return path.name == "0"

SUBJECTS["crashing"] = Subject(lambda folder: None, lambda folder, seed: folder / str(seed), read)
sys.exit(readers.main())
"""


@pytest.mark.slow
def test_a_crash_is_a_finding_and_the_next_seed_goes_on(tmp_path, monkeypatch):
    module = tmp_path / "crashing.py"
    module.write_text(CRASHING)
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}:{tmp_path}")
    monkeypatch.setattr(readers, "WORKER", "crashing")
    tally = readers.attack("crashing", 0, 5)
    assert (tally.accepted, tally.refused) == (1, 3)
    assert len(tally.findings) == 1 and tally.findings[0].startswith("seed 2: exit -6")


@pytest.mark.slow
def test_the_table_of_all_readers():
    command = [sys.executable, "-m", "tests.faults.readers", "--inputs", "15"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 2 + len(SUBJECTS)
