"""The command with executors: workers that die, signals, and the same results in the end."""

import os
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
RAY = ("--executor=ray", "--ray_address=local", "--ray_num_cpus=2")
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
    """Until some epochs have ended: of the first one the sweep need not have heard yet."""
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


def _workers(process):
    """Processes that a sweep has started to train."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if int(pid) in _running("spawn_main")]


def test_a_killed_worker_is_named_and_the_others_go_on(alone, tmp_path):
    process = _start(tmp_path, *PROCESSES)
    _until_both_train(process, tmp_path)
    os.kill(_workers(process)[0], signal.SIGKILL)
    out, error = _end(process, status=2)
    line, last = error.splitlines()
    assert line.endswith(" l2: its worker was killed (signal 9)")
    assert last.startswith("1 of 2 groups did not end: mlp_") and "the same command" in last
    assert len(read_results(tmp_path)) == 2 and "600 epochs" in out
    _end(_start(tmp_path, *PROCESSES))
    _same(tmp_path, alone)
    assert not list(tmp_path.rglob("*.json.lock"))


@pytest.mark.parametrize("flags", [(), PROCESSES])
def test_a_group_that_cannot_be_trained_is_named_and_the_others_go_on(alone, tmp_path, flags):
    """Its folder is a file; its network takes 4 TB."""
    in_the_way = tmp_path / "file" / "runs" / "mlp_0" / "l2"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    huge = {"models.mlp_0.hidden": "1000000,1000000", "train.sampling": "0.0001"}
    for name, own, words in (
        ("file", {}, f": [Errno 17] File exists: '{in_the_way}'"),
        ("memory", huge, ": out of memory: mlp_0 l2, one lane of n = 210 points"),
    ):
        _, error = _end(_start(tmp_path / name, *flags, **own), status=2)
        *_, line, last = error.splitlines()
        assert line.startswith(f"[1/2] mlp_0 l2{words}")
        assert last.startswith("1 of 2 groups did not end: mlp_0 l2; the same command goes on")
        assert {record.run.network for record in read_results(tmp_path / name)} == {"mlp_1"}
    in_the_way.unlink()
    out, error = _end(_start(tmp_path / "file", *flags))
    assert "[1/1] mlp_0 l2: 600 epochs" in out and not error
    _same(tmp_path / "file", alone)


def test_a_signal_stops_every_worker_after_its_epoch(alone, tmp_path):
    process = _start(tmp_path, *PROCESSES)
    _until_both_train(process, tmp_path)
    workers = _workers(process)
    for pid in (process.pid, *workers):  # as Ctrl-C in a terminal does
        os.kill(pid, signal.SIGINT)
    out, error = _end(process, status=130)
    assert error == "Stopping after this epoch, which is saved; once more stops at once.\n"
    assert out.count(", interrupted") == 2 and not set(workers) & set(_running("spawn_main"))
    _end(_start(tmp_path))  # by this process instead
    _same(tmp_path, alone)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_sweep_that_ends_at_once(tmp_path, number):
    process = _start(tmp_path, *PROCESSES)
    _until_both_train(process, tmp_path)
    workers = _workers(process)
    process.send_signal(number)
    if number != signal.SIGKILL:
        assert process.stderr.readline().startswith("Stopping after this epoch")
        process.send_signal(number)
    process.communicate(timeout=60)
    started = time.monotonic()
    while set(workers) & set(_running("spawn_main")):
        assert time.monotonic() - started < 10
        time.sleep(0.05)


def test_jobs_that_make_room_are_queued_again_and_end_the_same(alone, tmp_path):
    process = _start(tmp_path, *SLURM)
    _until_both_train(process, tmp_path)
    jobs = _running("submitit.core._submit", str(tmp_path))
    assert len(jobs) == 2
    for job in jobs:
        os.kill(job, signal.SIGUSR2)
    logs = [path.open() for path in (tmp_path / "jobs").rglob("*.err")]
    _end(process)
    assert "".join(log.read() for log in logs).count("Requeued job") == 2
    for log in logs:
        log.close()
    assert not (tmp_path / "jobs").exists()
    _same(tmp_path, alone)
    # What is on disk says that they went on, though nothing changed for them.
    assert {len(record.origins) for record in read_results(tmp_path)} == {1}


def test_a_killed_job_is_named_and_what_it_printed_stays(alone, tmp_path):
    process = _start(tmp_path, *SLURM)
    _until_both_train(process, tmp_path)
    os.kill(_running("submitit.core._submit", str(tmp_path))[0], signal.SIGKILL)
    _, error = _end(process, status=2)
    line, last = error.splitlines()
    assert last.startswith("1 of 2 groups did not end: mlp_")
    (folder,) = (tmp_path / "jobs").iterdir()  # of the other one nothing is left
    said = f" l2: its job {folder.name} has ended without a result; see "
    assert said in line and Path(line.partition("; see ")[2]).parent == folder
    assert Path(line.partition("; see ")[2]).exists()
    _end(_start(tmp_path, *PROCESSES))
    _same(tmp_path, alone)


@pytest.mark.parametrize("flags", [SLURM, (*RAY[:2], "--ray_num_cpus=1")])
def test_a_signal_stops_jobs_by_the_sweeps_folder(alone, tmp_path, flags):
    if flags is not SLURM:
        pytest.importorskip("ray")
    process = _start(tmp_path, *flags)
    _until_both_train(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    out, error = _end(process, status=143)
    assert error == "Stopping after this epoch, which is saved; once more stops at once.\n"
    assert out.count(", interrupted") == 2 and not (tmp_path / "stop").exists()
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


@pytest.mark.parametrize("flags", [("--executor=processes", "--workers=1"), SLURM, RAY])
def test_the_sample_is_the_same_by_every_executor(sample, tmp_path, flags):
    if flags is RAY:
        pytest.importorskip("ray")
    _end(small_sweep.start(_of_sample(tmp_path, *flags)))
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
