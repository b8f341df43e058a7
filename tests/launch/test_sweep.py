"""The command as a person runs it: a process, its exit status, its words, its files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIGITS = (
    "--config=configs/mnist.py:digits",
    "--config.networks=mlp_0",
    "--config.weights=0.01",
    "--config.train.batch_size=300",
    "--config.train.patience=100",
)

ONE_EPOCH = ("--config.regularisers=none", "--config.train.epochs=1")


def _command(*arguments):
    return [sys.executable, "-m", "launch.sweep", *arguments]


def _environment(**extra):
    return {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PGDL_ROOT")} | extra


def _run(*arguments, **extra):
    return subprocess.run(
        _command(*arguments),
        cwd=ROOT,
        env=_environment(**extra),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--config.train.lr=1"], "config.train.lr: unknown field 'lr'; known here: alpha, batch"),
        (["--config.networks=mlp_7"], "networks: 'mlp_7' is not one of mlp_0, mlp_1, mlp_2"),
        (["--config.report.test=anova"], "test: 'anova' is not one of nemenyi, wilcoxon"),
        (["--steps=3"], "Unknown command line flag 'steps'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, arguments, words):
    done = _run(*DIGITS, *arguments, f"--workdir={tmp_path / 'out'}")
    assert done.returncode == 2
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_root_is_named(tmp_path):
    done = _run("--config=configs/pgdl.py", f"--config.dataset.root={tmp_path / 'nowhere'}")
    assert done.returncode == 2 and str(tmp_path / "nowhere") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    done = _run("--config=configs/mnist.py:digits", "--dry_run", f"--workdir={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "digits: 32 runs, 0 finished" in done.stdout
    assert "mlp_0: n = 154 points, 16 of 16 runs to train" in done.stdout
    assert not (tmp_path / "out").exists()


def test_interrupted_with_sigterm_it_goes_on_and_ends_with_the_report(tmp_path):
    arguments = [
        *DIGITS,
        "--config.regularisers=l2",
        "--config.train.epochs=60",
        "--config.train.checkpoint_every=1",
        f"--workdir={tmp_path}",
    ]
    process = subprocess.Popen(
        _command(*arguments), cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, text=True
    )
    started = time.monotonic()
    while not list(tmp_path.rglob("group-*.json")) and process.poll() is None:
        assert time.monotonic() - started < 120
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    words, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Saved. The same command goes on from here" in words
    (file,) = tmp_path.rglob("group-*.json")
    assert 0 < json.loads(file.read_text())["epoch"] < 60

    done = _run(*arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "runs/mlp_0/l2/0.01/seed0/result.json").read_text())
    assert (result["status"], result["epochs"]) == ("completed", 60)
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000


def test_training_imports_no_tensorflow(tmp_path):
    script = (
        "import sys; sys.argv = ['sweep', *sys.argv[1:]]; import launch.sweep as sweep\n"
        "from launch.command_line import run\n"
        "try: run(sweep.main)\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'tensorflow', 'tensorflow_datasets'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *DIGITS, *ONE_EPOCH, f"--workdir={tmp_path}"],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
