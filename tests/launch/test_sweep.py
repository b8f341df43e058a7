"""The command as a person runs it: a process, its exit status, its words, its files."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import joblib
import pytest

from tests.commands import ROOT, environment, run_command

DIGITS = (
    "--config=configs/mnist.py:digits",
    "--config.networks=mlp_0",
    "--config.weights=0.01",
    "--config.train.batch_size=300",
    "--config.train.patience=100",
)

ONE_EPOCH = ("--config.regularisers=none", "--config.train.epochs=1")


def _run(*arguments, **how):
    return run_command("launch.sweep", *arguments, environment=environment(), **how)


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    """Arguments of a sweep of one run of one epoch, which has been trained."""
    arguments = [*DIGITS, *ONE_EPOCH, f"--workdir={tmp_path_factory.mktemp('one_epoch')}"]
    done = _run(*arguments, missing=("tensorflow", "tensorflow_datasets"))
    assert done.returncode == 0, done.stderr
    return arguments


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--config.train.lr=1"], "train.lr: unknown field; did you mean train.optimiser.learning"),
        (["--config.train.epochs=abc"], "--config.train.epochs: 'abc' is not a whole number"),
        (["--config.train.optimiser=sdg"], "train.optimiser.name: 'sdg' is not one of sgd, adam"),
        (["--config.weights=abc"], "weights[1]: 'abc' is not a number"),
        (["--config.terms.l1.beta=1"], "terms.l1.beta: unknown field; there are no fi"),
        (["--config.networks=mlp_7"], "networks: 'mlp_7' is not one of cnn, mlp_0, mlp_1"),
        (["--config.report.test=anova"], "test: 'anova' is not one of nemenyi, wilcoxon"),
        (["--steps=3"], "Unknown command line flag 'steps'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, arguments, words):
    done = _run(*DIGITS, *arguments, f"--workdir={tmp_path / 'out'}")
    assert done.returncode == 2
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_event_files_need_their_package_before_anything_else(tmp_path):
    arguments = [*DIGITS, "--tensorboard", f"--workdir={tmp_path / 'out'}"]
    done = _run(*arguments, missing=("tensorboardX",))
    needed = '--tensorboard needs tensorboardX: pip install "persist_jax[watch]"\n'
    assert (done.returncode, done.stdout, done.stderr) == (2, "", needed)
    assert not (tmp_path / "out").exists()


def test_a_missing_root_is_named(tmp_path):
    done = _run("--config=configs/pgdl.py", f"--config.dataset.root={tmp_path / 'nowhere'}")
    assert done.returncode == 2 and str(tmp_path / "nowhere") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    """Under names of fields that the fields had before, too."""
    flags = ("--config.hidden.mlp_0=64,32", "--config.train.learning_rate=0.1", "--dry_run")
    former = ("--config.train.alpha=0.3", "--config.train.decay_steps=7", "--config.train.epochs=3")
    config = "--config=configs/mnist.py:digits"
    cores = environment(LOKY_MAX_CPU_COUNT="1")
    workdir = f"--workdir={tmp_path / 'out'}"
    done = run_command("launch.sweep", config, *flags, *former, workdir, environment=cores)
    assert done.returncode == 0, done.stderr
    assert "lanes one after another on 1 device (cpu)" in done.stdout
    assert "digits: 32 runs, 0 finished" in done.stdout
    assert "mlp_0: 16 of 16 runs to train" in done.stdout
    assert "  seeds 0\n" in done.stdout
    assert "  t1: weights 0.0001, 0.01, 1; groups of at most 3 lanes\n" in done.stdout
    assert "mlp_0: n = 106 points" in done.stdout
    assert re.search(r"  mlp_0: about [\d.]+ MB a lane and .* lanes fit \(", done.stdout)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_fetches_and_converts_nothing(tmp_path):
    empty = environment(PERSIST_JAX_CACHE=str(tmp_path / "cache"))
    run = partial(run_command, "launch.sweep", "--dry_run", environment=empty)
    for config in ("configs/mnist.py", "configs/pgdl.py"):
        done = run(f"--config={config}")
        assert done.returncode == 0, done.stderr
        assert "runs to train" in done.stdout and "once the data is in the cache" in done.stdout
    assert "embedded sample" in done.stdout.splitlines()[0]
    cores = min(joblib.cpu_count(), 2)
    done = _run("--config=configs/mnist.py:digits", "--dry_run", "--config.weights=(1,2)")
    assert f"on {cores} device{'s' if cores > 1 else ''} (cpu)" in done.stdout
    done = run("--config=configs/mnist.py", "--config.devices=9")
    assert done.returncode == 2 and done.stderr.startswith("devices: 9 asked for")
    assert not (tmp_path / "cache").exists()


def test_a_dry_run_refuses_what_the_sweep_would(one_epoch, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(one_epoch[-1].removeprefix("--workdir="), workdir)
    arguments = [*one_epoch[:-1], f"--workdir={workdir}"]
    for flags, words in (
        (["--config.train.learning_rate=0.5"], "train.optimiser.learning_rate: 0.5, but"),
        (["--config.hidden.mlp_0=4"], "models.mlp_0.hidden: [4], but"),
        (["--config.devices=9"], "devices: 9 asked for"),
    ):
        done = _run(*arguments, *flags, "--dry_run")
        assert done.returncode == 2 and words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    (workdir / "config.json").unlink()
    done = _run(*arguments)
    assert done.returncode == 2 and "config.json: missing" in done.stderr


@pytest.mark.parametrize("name", ["runs/mlp_0/none/0", "report", "commands.txt", "lock"])
def test_a_link_in_the_folder_is_refused_and_followed_by_nothing(one_epoch, tmp_path, name):
    workdir, outside = tmp_path / "copy", tmp_path / "outside"
    shutil.copytree(one_epoch[-1].removeprefix("--workdir="), workdir)
    (workdir / name).rename(outside)
    (workdir / name).symlink_to(outside)
    before = {p: p.read_bytes() for p in (outside, *outside.rglob("*")) if p.is_file()}
    done = _run(*one_epoch[:-1], f"--workdir={workdir}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{workdir / name}: a link, but a sweep writes only below")
    assert {p: p.read_bytes() for p in (outside, *outside.rglob("*")) if p.is_file()} == before


@pytest.mark.parametrize("name", ["100%j of % it", "two\nlines", b"\xff".decode(errors="replace")])
def test_a_strange_workdir_works_or_is_one_line(one_epoch, tmp_path, name):
    done = _run(*one_epoch[:-1], f"--workdir={tmp_path / name}", "--dry_run")
    assert done.returncode == (2 if "\n" in name else 0)
    assert done.stderr.count("\n") == done.returncode // 2


def test_notes_that_cannot_be_written_stop_nothing(one_epoch, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(one_epoch[-1].removeprefix("--workdir="), workdir)
    for name in ("commands.txt", "costs.jsonl"):
        (workdir / name).unlink()
        (workdir / name).mkdir()
    done = _run(*one_epoch[:-1], f"--workdir={workdir}")
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("command", ["sweep", "report", "prepare"])
def test_help_is_no_error(command):
    done = run_command(f"launch.{command}", "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert "python -m launch." in done.stdout and "default: " in done.stdout


def test_interrupted_with_sigterm_it_goes_on_and_ends_with_the_report(tmp_path):
    arguments = [
        *DIGITS,
        "--config.regularisers=l2",
        "--config.train.epochs=60",
        "--config.train.checkpoint_every=1",
        f"--workdir={tmp_path}",
    ]
    command = [sys.executable, "-m", "launch.sweep", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    started = time.monotonic()
    while len(list(tmp_path.glob("groups/*/[1-9]*"))) < 2 and process.poll() is None:
        assert time.monotonic() - started < 120
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    words, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Saved. Run the same command again to resume" in words
    kept = [int(path.name) for path in tmp_path.glob("groups/*/[1-9]*")]
    assert len(kept) == 2 and 0 < max(kept) < 60

    done = _run(*arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "runs/mlp_0/l2/0.01/seed0/result.json").read_text())
    assert (result["status"], result["epochs"]) == ("completed", 60)
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000


def test_a_finished_run_needed_no_tensorflow(one_epoch):
    (result,) = Path(one_epoch[-1].removeprefix("--workdir=")).rglob("result.json")
    assert json.loads(result.read_text())["epochs"] == 1


@pytest.mark.slow
def test_a_process_of_its_own_knows_every_kind(tmp_path):
    """Not a fork of one that has imported everything, as the commands of other tests are."""
    command = [sys.executable, "-m", "launch.sweep", "--config=configs/pgdl.py", "--dry_run"]
    said = subprocess.run(
        [*command, f"--workdir={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    program = "import persist_jax as pj; assert {'pgdl', 'images'} <= set(pj.data.DATASETS)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
