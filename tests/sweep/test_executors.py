"""Groups trained by others than this process: the same results, and what is said when it fails."""

import errno
import io
import os
import re
import resource
import socket
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest

from launch.configuration_file import load_config
from persist_jax import regularisers
from persist_jax.store import read_history, read_results
from persist_jax.store.group_file import lease_path
from persist_jax.store.lease import GroupTaken, lease
from persist_jax.sweep import groups, load_experiment, read_configuration, run_sweep, train_group
from persist_jax.sweep import progress as progress_module
from persist_jax.sweep.executors import choose_executor
from persist_jax.sweep.executors.ending import Ending
from persist_jax.sweep.executors.ray import check_address
from persist_jax.sweep.executors.shares import shares
from persist_jax.sweep.executors.view import View
from persist_jax.sweep.group import Progress

# A configuration file with a data set of its own, which every worker has to learn of.
FILE = '''
import os
from pathlib import Path
from sklearn.datasets import load_digits
from persist_jax.data import Dataset, Split, register
from tests.sweep.conftest import fields

@register("of_this_file")
def of_this_file():
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32").reshape(-1, 8, 8, 1), y.astype("int32")
    cuts = slice(0, 140), slice(140, 210), slice(210, 270)
    return Dataset("of_this_file", *(Split(x[cut], y[cut]) for cut in cuts))

def get_config():
    Path(__file__).with_name(f"cores-{os.getpid()}").write_text(f"{os.sched_getaffinity(0)}")
    return fields(
        dataset={"kind": "of_this_file"}, networks=["mlp", "other"], weights=[0.001, 0.1],
        **{"train.epochs": 3},
    )
'''


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    path = tmp_path_factory.mktemp("configuration") / "mine.py"
    path.write_text(FILE)
    return partial(load_config, str(path))


@pytest.fixture(scope="module")
def config(prepare):
    return load_experiment(read_configuration(prepare())[0]).config


def test_a_group_has_one_process_and_is_lost_by_one_that_dies(config, tmp_path):
    first, second = groups(config, tmp_path)
    path = first.path(tmp_path)
    path.parent.mkdir(parents=True)
    hold = (
        "import sys, time, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
        "print('held', flush=True); time.sleep(100)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, lease_path(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(GroupTaken, match=f"^{path}: another process trains this group"):
        train_group(config, first, tmp_path)
    with lease(second.path(tmp_path)):
        pass
    holder.kill()
    holder.communicate()
    with lease(path):
        pass


def _train_what_is_free(config, folder, **how):
    """The second of two groups: somebody else has the first."""
    with lease(groups(config, folder)[0].path(folder)):
        with pytest.raises(ChildProcessError, match="^1 of 2 groups did not end: mlp l2; the same"):
            run_sweep(config, folder, **how)


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    """The folder of the one group that is free, and what was said of both."""
    folder, out, err = tmp_path_factory.mktemp("alone"), io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        _train_what_is_free(config, folder)
    return folder, out.getvalue(), err.getvalue()


def test_what_is_taken_is_left_and_the_rest_is_trained(alone):
    folder, out, err = alone
    (line,) = err.splitlines()
    assert line.startswith("[1/2] mlp l2: ") and "another process trains this group" in line
    assert out.endswith("[2/2] other l2: 3 epochs\n")  # on a slow machine not the only line
    assert [record.run.network for record in read_results(folder)] == ["other", "other"]


@pytest.mark.slow
def test_processes_are_this_process_to_the_bit(config, prepare, alone, tmp_path, capfd):
    alone, elsewhere = alone[0], tmp_path
    workers = choose_executor("processes", {"workers": 2})
    _train_what_is_free(config, elsewhere, executor=workers, prepare=prepare)
    folder = Path(prepare.args[0]).parent
    own = folder / f"cores-{os.getpid()}"
    one, other = (path.read_text() for path in folder.glob("cores-*") if path != own)
    assert (one != other) == (len(os.sched_getaffinity(0)) > 1)
    said = capfd.readouterr()
    assert said.err.startswith("[1/2] mlp l2: ") and said.err.count("\n") == 1
    assert said.out.endswith("[2/2] other l2: 3 epochs\n")
    assert len(read_results(alone)) == 2
    for ours, theirs in zip(read_results(elsewhere), read_results(alone), strict=True):
        clock = {"seconds": None, "origins": None}
        assert ours.plain() | clock == theirs.plain() | clock
        assert ours.origins[0].cores == max(1, theirs.origins[0].cores // 2)
        ours, theirs = (dict(read_history(record.folder)) for record in (ours, theirs))
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"seconds"}:
            np.testing.assert_array_equal(ours[name], theirs[name], name)
    assert len(list(elsewhere.rglob("*.lock"))) == 1  # of the group that is left


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


def test_the_view_names_all_that_train_and_each_that_ends(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress_module, "LONGEST_SILENCE", -1.0)
    view = View(groups(config, tmp_path))
    view.begins(0)
    view.begins(1)
    view.trained(1, Progress(2, 3, 1, 0.5))
    view.breaks_silence()
    view.ends(1, Ending(True))
    view.breaks_silence()
    view.ends(0, Ending(False, "no space"))
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "0 of 2 groups ended; in training: mlp l2, first epoch; other l2, epoch 2 of at most 3, "
        "1 lane, validation loss 0.5000",
        "[2/2] other l2: 2 epochs",
        "1 of 2 groups ended; in training: mlp l2, first epoch",
    ]
    assert said.err == "[1/2] mlp l2: no space\n"
    assert [tuple(failure) for failure in view.failures] == [("mlp l2", "no space")]


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
        words = f"no Ray cluster answers at {address} (Connection refused); start it, or end what "
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


def test_a_group_that_fails_is_named_and_the_others_go_on(config, tmp_path, capsys):
    in_the_way = tmp_path / "runs" / "mlp" / "l2"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    for _ in range(2):  # the same command tries again
        with pytest.raises(ChildProcessError, match="^1 of . groups did not end: mlp l2; the same"):
            run_sweep(config, tmp_path)
        said = capsys.readouterr().err
        assert re.fullmatch(rf"\[1/.\] mlp l2: .*File exists: '{in_the_way}'\n", said)
    assert {record.run.network for record in read_results(tmp_path)} == {"other"}


def test_a_bug_of_one_group_is_a_traceback_and_the_others_go_on(config, tmp_path, capsys):
    @regularisers.register("broken")
    def broken(deaths):
        return deaths + missing  # noqa: F821

    broken_config = config.replace(regularisers=["broken", "l2"], networks=["other"])
    with pytest.raises(ChildProcessError, match="^1 of 2 groups did not end: other broken; the"):
        run_sweep(broken_config, tmp_path)
    said = capsys.readouterr()
    assert "Traceback" in said.err and "\n[1/2] other broken: NameError: name 'missing'" in said.err
    assert said.out.endswith("[2/2] other l2: 3 epochs\n")


def test_what_every_group_would_meet_ends_all_at_once(config, tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            run_sweep(config, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.errno == errno.EFBIG and not capsys.readouterr().err
    assert not list(tmp_path.rglob("other"))


def test_a_wrong_choice_is_one_line(config, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="executor: 'cloud' is not one of local, processes, slurm"):
        choose_executor("cloud", {})
    with pytest.raises(ValueError, match="^workers: unknown field; known are none"):
        choose_executor("local", {"workers": 2})
    with pytest.raises(ValueError, match="^timeout_min: 0 must be at least 1"):
        choose_executor("slurm", {"timeout_min": 0})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="executor: slurm, but there is no sbatch here"):
        run_sweep(config, tmp_path, executor=choose_executor("slurm", {}))
