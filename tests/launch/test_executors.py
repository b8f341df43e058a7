"""The command several times on one folder, by hand and by `processes`: the same results."""

import json
import os
import re
import signal
import time

import pytest

from persist_jax.store import read_results
from tests.launch.two_groups import (
    PROCESSES,
    STOPPING,
    end,
    same,
    start,
    trained_once,
    until_both_train,
    workers,
)

pytestmark = pytest.mark.slow


def test_three_of_the_same_command_share_the_work_though_one_is_killed(alone, tmp_path):
    first, second = start(tmp_path), start(tmp_path)
    until_both_train(first, tmp_path)
    third = start(tmp_path)
    while not (checkpoints := list(tmp_path.glob("groups/*/250"))):
        time.sleep(0.02)
    holder = json.loads((checkpoints[0].parent / "lock.holder").read_text())["pid"]
    victim, survivor = (first, second) if holder == first.pid else (second, first)
    victim.kill()
    outs = [end(process)[0] for process in (survivor, third)]
    assert all("Report: " in out for out in outs) and any("Waiting for " in out for out in outs)
    assert trained_once(tmp_path) and victim.wait() == -signal.SIGKILL
    same(tmp_path, alone)
    assert not list(tmp_path.glob("groups/*")) and len(list(tmp_path.glob("report/*.html"))) == 1


def test_a_stopped_process_whose_lock_is_taken_writes_nothing(alone, tmp_path):
    """As a laptop whose lid was closed, on a network file system."""
    process = start(tmp_path)
    _until_trains = time.monotonic() + 200
    while not list(tmp_path.glob("groups/mlp_0*/250")):
        assert time.monotonic() < _until_trains
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)
    (lock,) = tmp_path.glob("groups/mlp_0*/lock")
    lock.unlink()
    end(start(tmp_path))
    process.send_signal(signal.SIGCONT)
    _, error = end(process)
    assert "this process lost the lock" in error and error.count("\n") == 1
    same(tmp_path, alone)


def test_workers_are_stopped_and_killed_and_the_same_command_goes_on(alone, tmp_path):
    process = start(tmp_path, *PROCESSES)
    until_both_train(process, tmp_path)
    os.kill(workers(tmp_path)[0], signal.SIGSTOP)  # a stopped worker hears the signal too
    process.send_signal(signal.SIGINT)
    out, error = end(process, status=130)
    assert set(error.splitlines()) == {STOPPING.strip()}
    assert ", interrupted" in out and not workers(tmp_path)

    process = start(tmp_path, *PROCESSES)
    until_both_train(process, tmp_path)
    for pid in workers(tmp_path):
        os.kill(pid, signal.SIGKILL)
    *_, last = end(process, status=2)[1].splitlines()
    assert last.startswith("4 runs have no result, mlp_0 l2 0.001 seed0 the first; run the same")

    process = start(tmp_path, *PROCESSES)
    until_both_train(process, tmp_path)
    os.kill(workers(tmp_path)[0], signal.SIGKILL)
    out, error = end(process)
    assert re.fullmatch(r"worker \d+ was killed \(signal 9\); others train its group\n", error)
    assert "Report: " in out
    same(tmp_path, alone)


def test_a_group_that_cannot_be_trained_is_named_and_the_others_go_on(alone, tmp_path):
    """Its folder is a file."""
    in_the_way = tmp_path / "runs" / "mlp_0" / "l2"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    _, error = end(start(tmp_path), status=2)
    *_, line, last = error.splitlines()
    assert line.startswith("[1/2] mlp_0 l2: ") and f": '{in_the_way}" in line
    assert last == "1 of 2 groups failed: mlp_0 l2; run the same command again to retry them"
    assert {record.run.network for record in read_results(tmp_path)} == {"mlp_1"}
    in_the_way.unlink()
    out, error = end(start(tmp_path))
    assert "[1/1] mlp_0 l2: 600 epochs" in out and not error
    same(tmp_path, alone)


def test_a_group_that_no_worker_has_memory_for_is_tried_once(tmp_path):
    """A network of 4 TB, whose two runs are two groups then."""
    huge = {"models.mlp_0.hidden": "1000000,1000000", "train.sampling": "0.0001"}
    _, error = end(start(tmp_path, *PROCESSES, **huge), status=2)
    words = "mlp_0 l2: out of memory: mlp_0 l2, one lane of n = 210 points"
    assert error.count(words) == 1
    assert "2 runs have no result, mlp_0 l2 0.001 seed0 the first; run the same" in error
    assert {record.run.network for record in read_results(tmp_path)} == {"mlp_1"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_sweep_that_ends_at_once(tmp_path, number):
    process = start(tmp_path, *PROCESSES)
    until_both_train(process, tmp_path)
    process.send_signal(number)
    if number != signal.SIGKILL:
        assert process.stderr.readline().startswith("Stopping after this epoch")
        process.send_signal(number)
    process.communicate(timeout=60)
    started = time.monotonic()
    while workers(tmp_path):
        assert time.monotonic() - started < 10
        time.sleep(0.05)
