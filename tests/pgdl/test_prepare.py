"""The command that prepares a data set: what it prints, and exit status 2 with one line."""

import os

import pytest

from tests.commands import run_command

CONFIG = "--config=configs/mnist.py:digits"


def _prepare(*flags):
    environment = {name: text for name, text in os.environ.items() if name != "PGDL_ROOT"}
    return run_command("launch.prepare", *flags, environment=environment)


@pytest.mark.slow
def test_it_says_what_and_where(sample_root, cache):
    sizes = "digits_sample: 1204 train, 296 validation, 297 test, examples of shape (8, 8, 1)"
    done = _prepare("--dataset=pgdl_sample", f"--cache={cache}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [sizes, f"cache: {cache}"]
    # It is a task like any other: the same folder by its path is found converted.
    done = _prepare(
        "--dataset=pgdl", f"--root={sample_root}", "--task=digits_sample", f"--cache={cache}"
    )
    assert done.stdout.splitlines() == [sizes, f"cache: {cache}"] and not done.stderr


def test_a_configuration_names_its_data(tmp_path):
    done = _prepare(CONFIG, f"--config.dataset.cache={tmp_path}")
    assert done.returncode == 0, done.stderr
    sizes = "digits: 1200 train, 300 validation, 297 test, examples of shape (8, 8, 1)"
    assert done.stdout.splitlines() == [sizes, f"cache: {tmp_path}"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give either --dataset=NAME or --config=FILE"),
        (["--dataset=digits", CONFIG], "give either --dataset=NAME or --config=FILE"),
        ([CONFIG, "--task=x"], "--task: needs --dataset; or use --config.dataset.task=VALUE"),
        (["--dataset=pgdl"], "--root: missing"),
        (["--dataset=pgdl", "--root=nowhere"], "nowhere/input_data/task1_v4: no such folder"),
        (
            ["--dataset=pgdl", "--manual_dir=x"],
            "dataset.manual_dir: unknown field; known are root, task, validation_seed, cache",
        ),
        (["--dataset=digits", "--root=x"], "dataset.root: unknown field; known are name, "),
        (["--dataset=pgdl_sample", "--root=x"], "--root: the embedded sample takes --cache only"),
    ],
)
def test_bad_input_is_one_line(flags, message):
    done = _prepare(*flags)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
