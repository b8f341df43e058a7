"""What every command has in common: signals, and faults of input and machine in one line."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from absl.testing import flagsaver

from launch.command_line import _in_words, flags
from launch.sweep import CHOSEN_EXECUTOR

ROOT = Path(__file__).parents[2]
SWEEP = [sys.executable, "-m", "launch.sweep", "--config=configs/mnist.py:digits"]
# One call of C that no signal ends, as a compilation is.
BUSY = """
import hashlib
from launch.interruption import INTERRUPTION
INTERRUPTION.watch()
with INTERRUPTION.deferred() as must_stop:
    {question}
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


def _start(*command):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **pipes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_is_one_line(tmp_path, number):
    process = _start(*SWEEP, f"--workdir={tmp_path / 'out'}")
    time.sleep(1.0)  # in the imports, or on a fast machine behind them
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert error == "Interrupted. The same command goes on from what is on disk.\n"


def test_a_signal_is_heard_during_a_long_call():
    process = _start(sys.executable, "-c", BUSY.format(question=""))
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, len(error.splitlines())) == (130, 1)


def test_while_there_is_something_to_save_the_second_one_acts_at_once():
    process = _start(sys.executable, "-c", BUSY.format(question="must_stop()"))
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("Stopping after this epoch")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, len(error.splitlines())) == (130, 1)


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError(28, "No space left on device", "/a/b"), "/a/b: no space left on the disk; make"),
        (OSError(28, "No space left on device"), "no space left on the disk; make room"),
        (ValueError('RESOURCE_EXHAUSTED: writing "/a": No space left on device'), "/a: no space"),
        (PermissionError(13, "Permission denied", "/a"), "/a: Permission denied"),
        (MemoryError(), "out of memory; lower config.max_lanes, config.train.batch_size"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "out of memory: "),
        (ValueError("weights: no\nnumber"), "weights: no number"),
    ],
)
def test_faults_of_input_and_machine_are_one_line(error, words):
    assert _in_words(error).startswith(words) and "\n" not in _in_words(error)


def test_a_flag_of_another_executor_is_refused():
    with flagsaver.as_parsed(ray_num_cpus="2"):
        flags.FLAGS.mark_as_parsed()
        with pytest.raises(ValueError, match="^--ray_num_cpus: belongs to --executor=ray, not to"):
            CHOSEN_EXECUTOR()
        with flagsaver.as_parsed(executor="ray", workers="3"):
            assert CHOSEN_EXECUTOR() == ("ray", {"num_cpus": 2.0, "workers": 3})


def test_a_bug_is_a_traceback():
    assert _in_words(RuntimeError("of ours")) is None
    bug = "from launch.command_line import run\nrun(lambda: {}['of ours'])"
    done = subprocess.run([sys.executable, "-c", bug], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "KeyError: 'of ours'" in done.stderr


@pytest.mark.slow
def test_words_that_nobody_can_take_are_one_line():
    with open("/dev/full", "w") as full:
        command = [*SWEEP, "--dry_run"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("no space left on the disk") and done.stderr.count("\n") == 1
