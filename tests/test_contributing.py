"""The additions that docs/adding.md shows: registered from outside, swept, reported."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import persist_jax

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of the sweep that the page's own command runs, and what the command printed."""
    folder = tmp_path_factory.mktemp("contributing")
    text = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    digits, mine = [block for block in blocks if "def get_config" in block]
    additions = [block for block in blocks if block not in (digits, mine)]
    files = {"additions": "\n".join(additions), "on_digits": digits, "mine": mine}
    for name, code in files.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    plan, command = re.findall(r"^python -m launch\.sweep --config=FOLDER/.*$", text, re.MULTILINE)
    planned, swept = _started(folder, f"{plan} --dry_run"), _started(folder, command)
    assert "small: 5 of 5 runs to train" in planned
    return folder / "elsewhere" / "runs" / "mine", swept


def _started(folder, command):
    """What a command of the page prints, started elsewhere than in the folder of its files."""
    (folder / "elsewhere").mkdir(exist_ok=True)
    result = subprocess.run(
        [sys.executable, *command.replace("FOLDER", str(folder)).split()[1:], "--config.devices=1"],
        cwd=folder / "elsewhere",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_run_has_its_result_and_its_term(swept):
    folder, _ = swept
    for network in ("residual", "narrow", "affine"):
        (run,) = (folder / "runs" / network / "hinge").glob("*/seed0")
        record = json.loads((run / "result.json").read_text())
        assert (record["status"], record["epochs"]) == ("completed", 3)
        with np.load(run / "history.npz") as history:
            assert (history["train_term"] >= 0).all()
            # Two logits of an affine map may be far from each other; two hidden layers are not.
            assert network == "affine" or history["train_term"].max() > 0


def test_parameters_are_the_configurations_and_the_command_lines(swept):
    config = json.loads((swept[0] / "config.json").read_text())
    assert config["terms"] == {"hinge": {"power": 1, "threshold": 0.3}}
    assert config["train"]["optimiser"]["name"] == "lion"
    assert config["dataset"] == {"kind": "moons", "examples": 400, "noise": 0.2}


def test_the_report_names_what_was_added(swept):
    folder, printed = swept
    # What the sweep's time went to comes after it, and what to know of the runs.
    assert any(line.startswith("Report: ") for line in printed.splitlines()[-4:])
    page = (folder / "report" / "index.html").read_text()
    assert all(name in page for name in ("hinge", "residual", "narrow", "affine"))


def test_the_table_of_rooms_is_the_packages():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    named = {name.strip("`/ ").removesuffix(".py") for row in rows for name in row.split(",")}
    package = ROOT / "persist_jax"
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert named == {room for room in rooms if not room.startswith("__")}


def test_the_version_is_one():
    version = persist_jax.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
