"""SLURM jobs and a Ray cluster that train a sweep: stopped, queued again and killed."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from persist_jax.store import read_results
from tests.faults import small_sweep
from tests.launch.two_groups import STOPPING, end, running, same, start, until_both_train, workers

SLURM = ("--executor=slurm", "--slurm_cluster=local")
SAMPLE = (
    "--config=configs/pgdl.py",
    "--config.regularisers=none,t1",
    "--config.weights=0.01",
    "--config.train.epochs=3",
)
pytestmark = pytest.mark.slow


def test_jobs_are_stopped_queued_again_and_killed_and_end_the_same(alone, tmp_path):
    process = start(tmp_path, *SLURM)
    until_both_train(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert end(process, status=143)[1] == STOPPING
    assert not workers(tmp_path)

    process = start(tmp_path, *SLURM)
    until_both_train(process, tmp_path)
    jobs = running("submitit.core._submit", str(tmp_path))
    assert len(jobs) == 2
    for job in jobs:
        os.kill(job, signal.SIGUSR2)  # they make room for others
    until_both_train(process, tmp_path)
    os.kill(running("submitit.core._submit", str(tmp_path))[0], signal.SIGKILL)
    end(process)
    logs = [path.read_text() for path in (tmp_path / "jobs").rglob("*.err")]
    assert "".join(logs).count("Requeued job") == 2
    same(tmp_path, alone)
    # What is on disk says that they went on, though nothing changed for them.
    assert {len(record.origins) for record in read_results(tmp_path)} == {1}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A part of the embedded sample, by this process."""
    folder = tmp_path_factory.mktemp("sample")
    end(small_sweep.start(_of_sample(folder)))
    return folder


def _of_sample(workdir, *flags):
    """All cores for every group, one after another where they are in processes of their own."""
    return [sys.executable, "-m", "launch.sweep", *SAMPLE, f"--workdir={workdir}", *flags]


def test_jobs_train_the_sample_to_the_same(sample, tmp_path):
    """Its networks and their weights, which a job reads by itself; as other executors do."""
    end(small_sweep.start(_of_sample(tmp_path, *SLURM)))
    same(tmp_path, sample)


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


def _until_it_listens(address):
    started = time.monotonic()
    while True:
        try:
            socket.create_connection(address, timeout=1).close()
            return
        except OSError:
            assert time.monotonic() - started < 60
            time.sleep(0.2)


def test_tasks_of_ray_are_stopped_and_one_of_its_nodes_is_killed(alone, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    # Nodes and sweep know each other by it: of this cluster alone.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    host, port = "127.0.0.1", 6399
    flags = ("--executor=ray", f"--ray_address={host}:{port}", "--ray_num_cpus=1")
    sweep = tmp_path / "sweep"
    nodes = [_node("--head", f"--port={port}", "--include-dashboard=false")]
    try:
        _until_it_listens((host, port))
        nodes.append(_node(f"--address={host}:{port}"))
        process = start(sweep, *flags)
        until_both_train(process, sweep)
        process.send_signal(signal.SIGTERM)
        assert end(process, status=143)[1] == STOPPING

        process = start(sweep, *flags)
        until_both_train(process, sweep)
        _kill(nodes[1])
        end(process)
    finally:
        for node in reversed(nodes):
            _kill(node)
    same(sweep, alone)
