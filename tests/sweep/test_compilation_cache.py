"""Two processes, one after the other: the second one compiles nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from persist_jax.sweep.machine import use_compilation_cache

ROOT = Path(__file__).parents[2]
# What a process compiles, and how much of it it finds; and bits that depend on the programs.
TRAIN = """
import sys
from collections import Counter
from pathlib import Path
import jax
from persist_jax.data import load_images
from persist_jax.models import mlp
from persist_jax.sweep.machine import use_compilation_cache
from persist_jax.training import Options, train

counts = Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event.split("/")[-1]]))
use_compilation_cache(Path(sys.argv[1]))
dataset = load_images("digits")
options = Options(batch_size=400, epochs=2, optimiser={"name": "sgd", "learning_rate": 0.1})
model = mlp(dataset.input_shape, hidden=(8,))
(run,) = train(model, dataset, options, regulariser="t1", weights=(0.1,), devices=1)
print(counts["cache_hits"], counts["cache_misses"], run.history["train_loss"].tobytes().hex())
"""


def _train(cache):
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(cache)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    hits, misses, bits = done.stdout.split()
    return int(hits), int(misses), bits


@pytest.mark.slow
def test_the_second_process_compiles_nothing_and_trains_the_same(tmp_path):
    hits, misses, bits = _train(tmp_path)
    assert misses > 5
    (folder,) = (tmp_path / "programs").iterdir()
    assert len(list(folder.iterdir())) >= misses
    again = _train(tmp_path)
    assert again == (hits + misses, 0, bits)


def test_another_jaxlib_or_processor_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.config.update", lambda *_: None)
    here = use_compilation_cache(tmp_path)
    monkeypatch.setattr("jaxlib.__version__", "0.0.1")
    other = use_compilation_cache(tmp_path)
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    assert len({here, other, use_compilation_cache(tmp_path)}) == 3
