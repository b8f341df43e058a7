"""A conversion and the process that asked for it: whatever ends one of them, nothing is in the way.

The conversion is a real one of another process; only what it converts is made up.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from persist_jax.data import cache as module

JOBS = """
import sys, time
from persist_jax.data.convert import main

def slow(folder, seconds):
    (folder / "half").write_text(str(__import__("os").getpid()))
    time.sleep(seconds)
    (folder / "whole").write_text("done")

if __name__ == "__main__":
    main({"slow": slow}, *sys.argv[1:])
"""
PARENT = """
import sys
from persist_jax.data.cache import Conversion, entry
entry(Conversion("slow", "made_up_jobs", "slow", {}, {"seconds": 10000}), sys.argv[1])
"""
PATIENCE = 300  # seconds: on a loaded machine a start alone has taken more than 60


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    (tmp_path / "made_up_jobs.py").write_text(JOBS)
    root = str(Path(module.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, str(tmp_path)]))
    return tmp_path / "cache"


def _conversion(seconds):
    return module.Conversion("slow", "made_up_jobs", "slow", {}, {"seconds": seconds})


def _process_of(cache):
    """The process that converts, once it does."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for file in cache.glob(".slow-*.unfinished*/half"):
            if text := file.read_text():
                return int(text)
        time.sleep(0.02)
    raise AssertionError("no conversion")


def _has_ended(process):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
def test_a_conversion_ends_with_its_parent_and_is_not_waited_for(jobs):
    with subprocess.Popen([sys.executable, "-c", PARENT, str(jobs)], stderr=-3) as parent:
        child = _process_of(jobs)
        parent.kill()
    assert _has_ended(child)
    # Of that process alone, so that its last moments are in nobody's way.
    assert len(list(jobs.glob(f".slow-*-{parent.pid}/half"))) == 1
    entry = module.entry(_conversion(0), jobs)
    assert (entry / "whole").read_text() == "done"
    assert [path.name for path in jobs.iterdir() if path.is_dir()] == [entry.name]


@pytest.fixture
def interruptible():
    """A shell starts what runs in its background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("whom", ["parent", pytest.param("child", marks=pytest.mark.slow)])
def test_an_interrupted_conversion_leaves_nothing(jobs, whom):
    """On Ctrl-C both hear of it; a sweep may only note it."""
    ended = []

    def interrupt():
        try:
            ended.append(_process_of(jobs))
        finally:
            os.kill(ended[0] if ended and whom == "child" else os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        module.entry(_conversion(10_000), jobs)
    thread.join()
    assert _has_ended(ended[0])
    assert not [path for path in jobs.iterdir() if path.is_dir()]
