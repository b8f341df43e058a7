"""What the package needs without extras: everything but experiments and the preparation of data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFUSED = """
    PIL h5py jinja2 matplotlib ml_collections networkx pandas scikit_posthocs sklearn statsmodels
    tensorflow tensorflow_datasets tqdm
"""

# Every step of a person who has installed the core alone, and what it says of the rest.
PROGRAM = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {REFUSED.split()!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
import numpy as np, jax
import persist_jax as pj

# Kernels and terms alone: what else would be imported is imported where it is first named.
for name in ("IPython", "flax", "matplotlib", "optax", "orbax", "rich", "scipy.sparse"):
    assert name not in sys.modules, name
assert set(pj.__all__) == set(dir(pj)) and all(hasattr(pj, name) for name in
                                               set(pj.__all__) - {{"LoadedRun"}})
from persist_jax import data, models
from persist_jax.training import Options, train

draw = np.random.default_rng(0)
x, y = draw.normal(size=(24, 6)).astype(np.float32), draw.integers(0, 2, 24).astype(np.int32)
dataset = data.Dataset("mine", *(data.Split(x[cut], y[cut]) for cut in np.split(np.r_[:24], 3)))
options = Options(batch_size=8, epochs=1, optimiser={{"name": "sgd", "learning_rate": 0.1}})
model = models.mlp((6,), hidden=(5,), classes=2)
(run,) = train(model, dataset, options, regulariser="t1", weights=(0.1,), devices=1)
assert run.outcome["status"] == "completed", run.outcome
_, activations = model.apply(run.variables, x)
points = pj.sample_neurons(activations, 1.0)
tree = pj.correlation_tree(points)
assert (pj.zeroth_deaths(pj.correlation_distance(points)) < tree.deaths + 1e-6).all()
assert tree.to_linkage().shape == (len(points) - 1, 4) and tree.to_sparse().nnz
jax.grad(lambda p: pj.t2(pj.correlation_deaths(p)) + pj.mean_correlation(p))(points)

def wanting(use):
    try:
        use()
    except ImportError as error:
        print(error)

wanting(lambda: data.load_images("digits"))
wanting(lambda: pj.pgdl.write_weights("weights.hdf5", model, run.variables))
wanting(tree.to_networkx)
wanting(pj.redundancy(activations).plot)
wanting(lambda: __import__("persist_jax.sweep"))
wanting(lambda: __import__("persist_jax.results"))
sys.argv = ["launch.sweep"]
wanting(lambda: __import__("launch.sweep"))
"""


@pytest.fixture(scope="module")
def result():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # whose files are sought through TensorFlow
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_kernels_and_training_need_no_extra(result):
    """Up to the last statement, which ends as a command with bad input does."""
    assert result.returncode == 2, result.stderr


@pytest.mark.slow
def test_the_rest_says_in_one_line_what_to_install(result):
    experiment = 'pip install "persist_jax[experiment]"'
    assert result.stdout.splitlines() == [
        f"digits needs sklearn: {experiment}",
        f"write_weights needs h5py: {experiment}",
        "Tree.to_networkx needs networkx: pip install networkx",
        f"Redundancy.plot needs matplotlib: {experiment}",
        f"persist_jax.sweep needs ml_collections: {experiment}",
        f"persist_jax.results needs jinja2: {experiment}",
    ]
    last = 'ml_collections: not installed; pip install "persist_jax[experiment]"'
    assert result.stderr.splitlines() == [last]
