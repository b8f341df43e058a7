"""Several processes on one folder, and ways to start them; the commands are in tests/launch."""

import errno
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time

import joblib
import pytest

from persist_jax import regularisers
from persist_jax.store import read_results
from persist_jax.store.groups import note_failure, split_group
from persist_jax.store.locks import Locked, locked
from persist_jax.store.sweep_folder import refuse_links
from persist_jax.sweep import load_experiment, run_sweep
from persist_jax.sweep import run as run_module
from persist_jax.sweep.executors import choose_executor
from persist_jax.sweep.executors.processes import shares
from persist_jax.sweep.executors.ray import check_address
from persist_jax.sweep.executors.slurm import _folder
from persist_jax.sweep.executors.workers import Command
from tests.sweep.conftest import groups_of


@pytest.fixture(scope="module")
def experiment(small):
    changes = {"networks": ["mlp", "other"], "weights": [0.001, 0.1], "train.epochs": 3}
    return load_experiment(small(**changes))


def test_a_lock_has_one_process_and_is_lost_by_one_that_dies(tmp_path):
    path = tmp_path / "groups" / "one" / "lock"
    hold = (
        "import sys, time, pathlib\nfrom persist_jax.store.locks import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(100)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    words = f"^{path}: held by process {holder.pid} on {socket.gethostname()} since 20"
    with pytest.raises(Locked, match=words), locked(path):
        pass
    holder.kill()
    holder.communicate()
    with locked(path) as lock:
        lock.check()
    assert [file.name for file in path.parent.iterdir()] == ["lock"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch, number):
    def acquire(self, **how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("persist_jax.store.locks.FileLock.acquire", acquire)
    words = f"^{tmp_path / 'lock'}: this file system has no locks .*; choose a --workdir on one"
    with pytest.raises(OSError, match=words), locked(tmp_path / "lock"):
        pass


def test_files_have_the_permissions_of_the_umask(experiment, tmp_path):
    before = os.umask(0o007)
    try:
        groups_of(experiment.config, tmp_path)
        with locked(tmp_path / "lock"):
            pass
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3 and {path.stat().st_mode & 0o777 for path in files} == {0o660}


@pytest.mark.slow
def test_a_group_that_another_process_trains_is_left_to_it(experiment, tmp_path, capsys):
    taken, _ = groups_of(experiment.config, tmp_path)
    with locked(taken.lock(tmp_path)):
        assert not run_sweep(experiment, tmp_path, wait=False)
    assert capsys.readouterr().out.endswith("[2/2] other l2: 3 epochs\n")
    assert [record.run.network for record in read_results(tmp_path)] == ["other", "other"]


def test_a_group_of_a_process_that_dies_is_taken_over(experiment, tmp_path, capsys):
    taken, _ = groups_of(experiment.config, tmp_path)
    finished = []
    with locked(taken.lock(tmp_path)):
        other = threading.Thread(target=lambda: finished.append(run_sweep(experiment, tmp_path)))
        other.start()
        started, said = time.monotonic(), ""
        while "Waiting for 1 group that other processes train" not in said:
            assert time.monotonic() - started < 60
            time.sleep(0.05)
            said += capsys.readouterr().out
        assert len(read_results(tmp_path)) == 2
    other.join(60)
    assert finished == [True] and len(read_results(tmp_path)) == 4


def test_a_stop_ends_the_waiting_too(experiment, tmp_path):
    taken, _ = groups_of(experiment.config, tmp_path)
    with locked(taken.lock(tmp_path)):
        assert not run_sweep(experiment, tmp_path, lambda: len(read_results(tmp_path)) == 2)


def test_the_machine_is_shared_out(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,3")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(2, 10)))
    monkeypatch.setattr(joblib, "cpu_count", lambda: 6)
    one, other = shares(2)
    assert (one.cores, other.cores) == ((2, 3, 4, 5), (6, 7, 8, 9))
    assert one.environment == {"LOKY_MAX_CPU_COUNT": "3", "CUDA_VISIBLE_DEVICES": "0"}
    assert other.environment["CUDA_VISIBLE_DEVICES"] == "1,3"
    many = shares(12)
    assert [share.cores for share in many[:9]] == [(core,) for core in (*range(2, 10), 2)]
    assert many[4].environment == {
        "LOKY_MAX_CPU_COUNT": "1", "CUDA_VISIBLE_DEVICES": "1",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.188",
    }  # fmt: skip


@pytest.mark.parametrize("name, missing", [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_package_is_one_line(monkeypatch, name, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    words = rf'^--executor={name} needs {missing}: pip install "persist_jax\[{name}\]"$'
    with pytest.raises(ImportError, match=words):
        choose_executor(name, {})


def test_a_ray_cluster_that_does_not_answer_is_one_line(monkeypatch, tmp_path):
    for name in ("RAY_ADDRESS", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    for nothing_to_find in (None, "auto", "local"):
        check_address(nothing_to_find)
    left = tmp_path / "ray" / "ray_current_cluster"
    left.parent.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        left.write_text(f"{address}\n")
        words = f"no Ray cluster answers at {address} (Connection refused); start it, or clean up "
        for source, given in ((left, None), (left, "auto"), ("ray_address", address)):
            with pytest.raises(ValueError, match=f"^{re.escape(f'{source}: {words}')}"):
                check_address(given)
        monkeypatch.setenv("RAY_ADDRESS", f"ray://{address}")
        with pytest.raises(ValueError, match="^RAY_ADDRESS: no Ray cluster answers at ray://127"):
            check_address(None)
        check_address("local")
        taken.listen()
        check_address(None)
    with pytest.raises(ValueError, match="^ray_address: 'head' is not host:port, local or auto"):
        check_address("head")


def test_a_group_that_fails_is_named_and_the_others_go_on(experiment, tmp_path, capsys):
    in_the_way = tmp_path / "runs" / "mlp" / "l2"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    for _ in range(2):  # the same command tries again
        with pytest.raises(ChildProcessError, match="^1 of . groups failed: mlp l2; run the same"):
            run_sweep(experiment, tmp_path)
        watched, line = capsys.readouterr().err.splitlines()
        assert str(in_the_way) in watched and "training continues" in watched
        assert re.match(rf"\[1/.\] mlp l2: .*: '{in_the_way}", line)
    assert {record.run.network for record in read_results(tmp_path)} == {"other"}


@pytest.mark.slow
def test_a_bug_of_one_group_is_a_traceback_and_the_others_go_on(small, tmp_path, capsys):
    @regularisers.register("broken")
    def broken(deaths):
        return deaths + missing  # noqa: F821

    changes = {"networks": ["other"], "regularisers": ["broken", "l2"], "weights": [0.1]}
    experiment = load_experiment(small(**changes, **{"train.epochs": 3}))
    with pytest.raises(ChildProcessError, match="^1 of 2 groups failed: other broken; run"):
        run_sweep(experiment, tmp_path)
    said = capsys.readouterr()
    assert "Traceback" in said.err and "\n[1/2] other broken: NameError: name 'missing'" in said.err
    assert said.out.endswith("[2/2] other l2: 3 epochs\n")


def test_what_every_group_would_meet_ends_all_at_once(experiment, tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    groups_of(experiment.config, tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            run_sweep(experiment, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.errno == errno.EFBIG and not capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("other"))


@pytest.mark.parametrize(
    "change", ["failed", pytest.param("split", marks=pytest.mark.slow), "ended"]
)
def test_a_group_that_changes_before_it_is_locked_is_left_as_it_is(
    experiment, tmp_path, monkeypatch, change
):
    """Between two lines of a claim another process fails it, splits it, or ends it."""
    group, _ = groups_of(experiment.config, tmp_path)
    kept = group.path(tmp_path) / "7" / "of another process"
    changes = []

    def meanwhile(path, timeout=0.0):
        if path == group.lock(tmp_path) and not changes:
            changes.append(change)
            if change == "failed":
                kept.parent.mkdir()
                kept.touch()
                note_failure(group, tmp_path, "no memory")
            elif change == "split":
                assert split_group(group, tmp_path) == 1
            else:
                shutil.rmtree(group.path(tmp_path))
        return locked(path, timeout)

    monkeypatch.setattr(run_module, "locked", meanwhile)
    if change == "split":
        assert run_sweep(experiment, tmp_path)
        assert len(read_results(tmp_path)) == 4
        return
    with pytest.raises(ChildProcessError if change == "failed" else ValueError):
        run_sweep(experiment, tmp_path)
    assert kept.exists() == (change == "failed")
    assert (group.path(tmp_path) / "group.json").exists()  # after "ended", of the last line


def test_the_same_command_leaves_the_groups_of_others_untouched(experiment, tmp_path):
    groups_of(experiment.config, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("groups/*/group.json")}
    groups_of(experiment.config, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in files} == files and len(files) == 2


def test_files_that_vanish_while_a_sweep_runs_are_missed(experiment, tmp_path):
    def delete() -> bool:
        for path in tmp_path.glob("groups/other.*/group.json"):
            path.unlink()
        return False

    words = f"^{tmp_path}: 2 runs have no result and no group, other l2 0.001 seed0 the first"
    with pytest.raises(ValueError, match=words):
        run_sweep(experiment, tmp_path, delete)


def test_a_workers_command_is_the_sweeps(monkeypatch, tmp_path):
    words = ["python", "-m", "launch.sweep", "--config=a.py", "--executor=ray", "--workers=3"]
    words += ["--ray_num_cpus=2", "--workdir=--wait", "--profile"]
    monkeypatch.setattr(sys, "orig_argv", words)
    monkeypatch.chdir(tmp_path)
    command = Command.of_this_process()
    # The worker itself leaves the executor alone.
    assert command == Command((sys.executable, *words[1:], "--worker"), str(tmp_path))


@pytest.mark.slow
def test_a_worker_ends_with_the_process_that_started_it():
    program = "from persist_jax.sweep.executors.workers import end_with_parent as end\nend()\n"
    command = Command((sys.executable, "-c", f"{program}import time\ntime.sleep(100)"), ".")
    worker = command.start()
    worker.stdin.close()  # as the system does for a process that is killed
    assert worker.wait(60) == 1


def test_a_percent_sign_of_a_path_is_kept_from_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _folder(str(tmp_path / "jobs")) == tmp_path / "jobs"
    found = _folder(str(tmp_path / "100%j" / "jobs"))
    assert "%" not in str(found) and found.is_relative_to(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "%a"))
    with pytest.raises(ValueError, match="^slurm_jobs: .* has a %, which SLURM replaces"):
        _folder(str(tmp_path / "100%j" / "jobs"))


def test_links_of_submitit_within_its_folder_are_its_own(tmp_path):
    """As it leaves them beside every job that it has submitted to SLURM."""
    jobs = tmp_path / "jobs"
    (jobs / "3").mkdir(parents=True)
    (jobs / "3" / "3_submission.sh").touch()
    (jobs / ".submission_file_0.sh").symlink_to(jobs / "3" / "3_submission.sh")
    refuse_links(tmp_path)
    (jobs / "4_log.out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=f"^{jobs / '4_log.out'}: a link, but"):
        refuse_links(tmp_path)
    jobs.rename(tmp_path / "elsewhere")
    jobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"^{jobs}: a link, but"):
        refuse_links(tmp_path)


def test_a_wrong_choice_is_one_line(monkeypatch):
    with pytest.raises(ValueError, match="executor: 'cloud' is not one of processes, slurm, ray"):
        choose_executor("cloud", {})
    with pytest.raises(ValueError, match="^timeout_min: 0 must be at least 1"):
        choose_executor("slurm", {"timeout_min": 0})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="executor: slurm, but there is no sbatch here"):
        choose_executor("slurm", {})(Command(("true",), "."), 1, lambda: False)
