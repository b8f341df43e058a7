"""The command several times on one folder, by hand and by executors: the same results."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from persist_jax.store import read_results
from persist_jax.store.configuration import read_config
from tests.faults import small_sweep

PROCESSES = ("--executor=processes", "--workers=2")
SLURM = ("--executor=slurm", "--slurm_cluster=local")
RAY = ("--executor=ray", "--ray_address=local", "--ray_num_cpus=1")
SAMPLE = (
    "--config=configs/pgdl.py",
    "--config.regularisers=none,t1",
    "--config.weights=0.01",
    "--config.train.epochs=3",
)
pytestmark = pytest.mark.slow


def _start(workdir, *flags, **changed):
    changed = small_sweep.GROUPS | changed
    return small_sweep.start(small_sweep.command(workdir, *flags, changed=changed))


def _end(process, status=0):
    out, error = process.communicate(timeout=300)
    assert process.returncode == status, error
    return out, error


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    _end(_start(folder))
    return folder


def _same(ours, theirs):
    """To the bit, all but the clock and the origins."""
    assert len(read_results(ours)) == 4
    ours, theirs = (small_sweep.left_by(read_config(folder), folder) for folder in (ours, theirs))
    assert not small_sweep.differences(ours, theirs)


def _until_both_train(process, workdir):
    """Until both groups have trained some epochs."""
    started = time.monotonic()
    while len([f for f in workdir.rglob("epochs.jsonl") if f.read_text().count("\n") > 1]) < 4:
        assert process.poll() is None and time.monotonic() - started < 200
        time.sleep(0.02)


def _running(*words):
    """Processes whose command line has these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words):
            found.append(int(path.parent.name))
    return found


def _workers(workdir):
    """Processes that train in a folder, started by the command there."""
    return _running("launch.sweep", f"--workdir={workdir} ", "--worker ")


def _trained_once(workdir):
    """Every group has one cost line: it was trained to its end by one process."""
    labels = [json.loads(line)["group"] for line in (workdir / "costs.jsonl").open()]
    return sorted(filter(None, labels)) == ["mlp_0 l2", "mlp_1 l2"]


def test_three_of_the_same_command_share_the_work_though_one_is_killed(alone, tmp_path):
    first, second = _start(tmp_path), _start(tmp_path)
    _until_both_train(first, tmp_path)
    third = _start(tmp_path)
    while not (checkpoints := list(tmp_path.glob("groups/*/250"))):
        time.sleep(0.02)
    holder = json.loads((checkpoints[0].parent / "lock.holder").read_text())["pid"]
    victim, survivor = (first, second) if holder == first.pid else (second, first)
    victim.kill()
    outs = [_end(process)[0] for process in (survivor, third)]
    assert all("Report: " in out for out in outs) and any("Waiting for " in out for out in outs)
    assert _trained_once(tmp_path) and victim.wait() == -signal.SIGKILL
    _same(tmp_path, alone)
    assert not list(tmp_path.glob("groups/*")) and len(list(tmp_path.glob("report/*.html"))) == 1


def test_a_stopped_process_whose_lock_is_taken_writes_nothing(alone, tmp_path):
    """As a laptop whose lid was closed, on a network file system."""
    process = _start(tmp_path)
    _until_trains = time.monotonic() + 200
    while not list(tmp_path.glob("groups/mlp_0*/250")):
        assert time.monotonic() < _until_trains
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)
    (lock,) = tmp_path.glob("groups/mlp_0*/lock")
    lock.unlink()
    _end(_start(tmp_path))
    process.send_signal(signal.SIGCONT)
    _, error = _end(process)
    assert "this process lost the lock" in error and error.count("\n") == 1
    _same(tmp_path, alone)


def test_a_killed_worker_is_named_and_another_one_takes_its_group(alone, tmp_path):
    process = _start(tmp_path, *PROCESSES)
    _until_both_train(process, tmp_path)
    os.kill(_workers(tmp_path)[0], signal.SIGKILL)
    out, error = _end(process)
    assert re.fullmatch(r"worker \d+ was killed \(signal 9\); others train its group\n", error)
    assert out.count(": 600 epochs\n") == 2 and "Report: " in out
    _same(tmp_path, alone)


def test_where_all_workers_are_killed_the_same_command_goes_on(alone, tmp_path):
    process = _start(tmp_path, *PROCESSES)
    _until_both_train(process, tmp_path)
    for pid in _workers(tmp_path):
        os.kill(pid, signal.SIGKILL)
    _, error = _end(process, status=2)
    *_, last = error.splitlines()
    assert last.startswith("4 runs have no result, mlp_0 l2 0.001 seed0 the first; run the same")
    _end(_start(tmp_path, *PROCESSES))
    _same(tmp_path, alone)


def test_a_group_that_cannot_be_trained_is_named_and_the_others_go_on(alone, tmp_path):
    """Its folder is a file."""
    in_the_way = tmp_path / "runs" / "mlp_0" / "l2"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    _, error = _end(_start(tmp_path), status=2)
    *_, line, last = error.splitlines()
    assert line.startswith("[1/2] mlp_0 l2: ") and f": '{in_the_way}" in line
    assert last == "1 of 2 groups failed: mlp_0 l2; run the same command again to retry them"
    assert {record.run.network for record in read_results(tmp_path)} == {"mlp_1"}
    in_the_way.unlink()
    out, error = _end(_start(tmp_path))
    assert "[1/1] mlp_0 l2: 600 epochs" in out and not error
    _same(tmp_path, alone)


def test_a_group_that_no_worker_has_memory_for_is_tried_once(tmp_path):
    """A network of 4 TB, whose two runs are two groups then."""
    huge = {"models.mlp_0.hidden": "1000000,1000000", "train.sampling": "0.0001"}
    _, error = _end(_start(tmp_path, *PROCESSES, **huge), status=2)
    words = "mlp_0 l2: out of memory: mlp_0 l2, one lane of n = 210 points"
    assert error.count(words) == 1
    assert "2 runs have no result, mlp_0 l2 0.001 seed0 the first; run the same" in error
    assert {record.run.network for record in read_results(tmp_path)} == {"mlp_1"}


def test_a_signal_stops_every_worker_after_its_epoch(alone, tmp_path):
    """One that is stopped hears it too."""
    process = _start(tmp_path, *PROCESSES)
    _until_both_train(process, tmp_path)
    workers = _workers(tmp_path)
    os.kill(workers[0], signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    out, error = _end(process, status=130)
    assert set(error.splitlines()) == {
        "Stopping after this epoch, which is saved; interrupt again to stop at once."
    }
    assert out.count(", interrupted") == 2 and not _workers(tmp_path)
    _end(_start(tmp_path))  # by this process instead
    _same(tmp_path, alone)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_sweep_that_ends_at_once(tmp_path, number):
    process = _start(tmp_path, *PROCESSES)
    _until_both_train(process, tmp_path)
    process.send_signal(number)
    if number != signal.SIGKILL:
        assert process.stderr.readline().startswith("Stopping after this epoch")
        process.send_signal(number)
    process.communicate(timeout=60)
    started = time.monotonic()
    while _workers(tmp_path):
        assert time.monotonic() - started < 10
        time.sleep(0.05)


def test_jobs_that_make_room_are_queued_again_and_end_the_same(alone, tmp_path):
    process = _start(tmp_path, *SLURM)
    _until_both_train(process, tmp_path)
    jobs = _running("submitit.core._submit", str(tmp_path))
    assert len(jobs) == 2
    for job in jobs:
        os.kill(job, signal.SIGUSR2)
    _end(process)
    logs = [path.read_text() for path in (tmp_path / "jobs").rglob("*.err")]
    assert "".join(logs).count("Requeued job") == 2
    _same(tmp_path, alone)
    # What is on disk says that they went on, though nothing changed for them.
    assert {len(record.origins) for record in read_results(tmp_path)} == {1}


def test_the_group_of_a_killed_job_is_trained_by_another_one(alone, tmp_path):
    process = _start(tmp_path, *SLURM)
    _until_both_train(process, tmp_path)
    os.kill(_running("submitit.core._submit", str(tmp_path))[0], signal.SIGKILL)
    _end(process)
    _same(tmp_path, alone)


@pytest.mark.parametrize("flags", [SLURM, RAY])
def test_a_signal_stops_jobs_after_their_epoch(alone, tmp_path, flags):
    if flags is not SLURM:
        pytest.importorskip("ray")
    process = _start(tmp_path, *flags)
    _until_both_train(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    _, error = _end(process, status=143)
    assert error == "Stopping after this epoch, which is saved; interrupt again to stop at once.\n"
    assert len(list(tmp_path.glob("groups/*/[1-9]*"))) >= 2 and not _workers(tmp_path)
    _end(_start(tmp_path, *PROCESSES))
    _same(tmp_path, alone)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A part of the embedded sample, by this process."""
    folder = tmp_path_factory.mktemp("sample")
    _end(small_sweep.start(_of_sample(folder)))
    return folder


def _of_sample(workdir, *flags):
    """All cores for every group, one after another where they are in processes of their own."""
    return [sys.executable, "-m", "launch.sweep", *SAMPLE, f"--workdir={workdir}", *flags]


def test_jobs_train_the_sample_to_the_same(sample, tmp_path):
    """Its networks and their weights, which a job reads by itself; as other executors do."""
    _end(small_sweep.start(_of_sample(tmp_path, *SLURM)))
    _same(tmp_path, sample)


def _node(*flags):
    """A node of a Ray cluster, in a session of its own, so that its processes can be ended."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--block"]
    return subprocess.Popen(
        [*command, "--disable-usage-stats", *flags],
        cwd=small_sweep.ROOT,
        env=small_sweep.environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill(session):
    """Every process of a session: what a node that loses its power does."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session.pid:
                os.kill(int(path.parent.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue
    session.wait()


def test_a_node_of_ray_that_dies_loses_nothing(alone, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    # Nodes and sweep know each other by it: of this cluster alone.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    address = "127.0.0.1:6399"
    head = _node("--head", f"--port={address[10:]}", "--include-dashboard=false")
    time.sleep(15)
    other = _node(f"--address={address}")
    try:
        time.sleep(10)
        sweep = tmp_path / "sweep"
        flags = ("--executor=ray", f"--ray_address={address}", "--ray_num_cpus=1")
        process = _start(sweep, *flags)
        _until_both_train(process, sweep)
        time.sleep(1)
        _kill(other)
        _end(process)
    finally:
        for node in (other, head):
            _kill(node)
    _same(sweep, alone)
