"""Training under `JAX_ENABLE_X64=1`, which JAX reads as it starts: in a process of its own."""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from persist_jax import models
from persist_jax.data.dataset import Dataset, Split
from persist_jax.training import Options, train
from tests.faults import small_sweep

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
OPTIONS = Options(
    batch_size=35,
    epochs=4,
    patience=0,
    min_delta=0.1,  # ends the runs after two epochs
    optimiser={
        "name": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.9,
        "schedule": {"name": "staircase", "decay_rate": 0.95, "decay_steps": 5},
    },
    sampling=0.5,
    snapshot_every=0,
)
PARTIAL = OPTIONS.replace(batch_size=36, snapshot_every=3)
CASES = {
    "t1": {"options": OPTIONS},
    "t1 reused": {"regulariser": "t1", "options": PARTIAL.replace(term_every=2)},
    "t2": {"options": PARTIAL, "parallel": "batch", "devices": 2},
    "min_corr": {"options": OPTIONS},
}


def trained(names: Sequence[str], types: tuple[type, type]) -> dict[str, tuple]:
    """What the runs of some cases leave, on examples and labels of these types."""
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).reshape(-1, 8, 8, 1).astype(types[0]), y.astype(types[1])
    cut = [slice(0, 140), slice(140, 210), slice(210, 270)]
    dataset = Dataset("digits", *(Split(x[part], y[part]) for part in cut))
    model = models.mlp((8, 8, 1), hidden=(12,), dropout=0.5)
    left = {}
    for name in names:
        how = {"regulariser": name, "devices": 1} | CASES[name]
        run = train(model, dataset, weights=(0.1,), **how)[0]
        history = {key: array for key, array in run.history.items() if key != "seconds"}
        outcome = run.outcome | {"validation_loss": None}
        left[name] = outcome, jax.tree.map(np.asarray, (run.variables, run.accuracy, history))
    return left


def resumed(folder: Path) -> list[str]:
    """What differs between a sweep in one go and one that was interrupted after every epoch."""
    config = small_sweep.configuration()
    assert small_sweep.train(config, folder / "whole")
    while not small_sweep.train(config, folder / "resumed", lambda: True):
        pass
    return small_sweep.differences(
        *(small_sweep.left_by(config, folder / name) for name in ("whole", "resumed"))
    )


CHILD = """
import pickle, sys
from pathlib import Path
import numpy as np
from tests.training.test_x64 import resumed, trained

folder, *names = sys.argv[1:]
left = trained([name for name in names if name != "sweep"], (np.float64, np.int64))
differences = resumed(Path(folder)) if "sweep" in names else []
Path(folder, "left").write_bytes(pickle.dumps((left, differences)))
"""


@pytest.mark.parametrize(
    "names", [["t1"], pytest.param([*list(CASES)[1:], "sweep"], marks=pytest.mark.slow)]
)
def test_training_with_64_bits_enabled_is_that_in_32(names, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path, *names],
        cwd=ROOT,
        env=os.environ | {"JAX_ENABLE_X64": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    expected = trained([name for name in names if name != "sweep"], (np.float32, np.int32))
    _, error = child.communicate(timeout=600)
    assert child.returncode == 0, error[-3000:]
    left, differences = pickle.loads((tmp_path / "left").read_bytes())
    assert differences == []
    for name, (outcome, arrays) in expected.items():
        assert left[name][0] == outcome
        jax.tree.map(_assert_close, left[name][1], arrays)


def _assert_close(ours, theirs):
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
