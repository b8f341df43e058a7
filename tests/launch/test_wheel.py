"""The package as a wheel brings it: its commands and configurations, without a clone."""

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from tests.commands import ROOT, environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # Of a copy: a build leaves files in its folder, which the next one would take along.
    copy, folder = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("persist_jax", "launch", "configs"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, copy]
    subprocess.run(build, check=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory):
    """The folder of the programs of a new environment, which has our dependencies already."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    # As a path, so that no development install of ours among them is active.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    install = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    subprocess.run([*install, "install", "-q", "--no-deps", wheel], check=True)
    return folder / "bin"


def _run(commands, folder, *arguments):
    alone = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    return subprocess.run(
        [commands / "persist-jax", *arguments],
        cwd=folder,
        env=alone,
        capture_output=True,
        text=True,
    )


def test_the_digits_sweep_runs_where_nothing_else_of_ours_is(commands, tmp_path):
    small = ("--config.networks=mlp_0", "--config.regularisers=none,t1", "--config.weights=0.01")
    done = _run(commands, tmp_path, "sweep", "--config=mnist:digits", *small,
                "--config.train.epochs=2", "--config.train.batch_size=400")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Report: runs/digits/report/index.html" in done.stdout
    (result, _) = tmp_path.rglob("result.json")
    assert json.loads(result.read_text())["epochs"] == 2
    again = _run(commands, tmp_path, "report", "--workdir=runs/digits")
    assert again.returncode == 0 and "Report: " in again.stdout


@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (("--help",), 0, "persist-jax sweep --config=mnist:digits"),
        (("sweep", "--help"), 0, "--config"),
        (("sweeep",), 2, "persist-jax: 'sweeep' is not one of sweep, report, prepare"),
        (("sweep",), 2, "mnist"),
        (("sweep", "--config=fashion_study:1000", "--dry_run"), 0, "290 runs"),
        (("sweep", "--config=mnst"), 2, "did you mean"),
        (("prepare",), 2, "give either --dataset=NAME or --config=FILE"),
    ],
)
def test_every_command_answers(commands, tmp_path, arguments, status, words):
    done = _run(commands, tmp_path, *arguments)
    assert done.returncode == status, done.stderr
    assert words in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_its_description_has_no_link_that_leads_nowhere(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        text = archive.read(name).decode()
    assert "](docs/" not in text and "<img" not in text and "Author: " in text
