"""What type checkers say of a script as a user writes it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = '''
import jax
import jax.numpy as jnp
import numpy as np

import persist_jax as pj


def loss(activations: dict[str, jax.Array], weight: float) -> jax.Array:
    term: pj.Term = pj.make_term("t1", layers=["h1", -1], distance="pearson")
    return weight * term(activations)


points = np.ones((4, 8), np.float32)
distances: jax.Array = pj.correlation_distance(points)
edges: jax.Array = pj.minimum_spanning_tree(distances, algorithm="boruvka")
deaths: jax.Array = pj.correlation_deaths(jnp.asarray(points), algorithm="matrix_free")
tree: pj.Tree = pj.correlation_tree(points)
total: jax.Array = pj.t1(deaths, reduce="mean") + pj.t2(deaths, 0.3) + pj.mean_correlation(points)
sampled: jax.Array = pj.sample_neurons([points], 0.5)
cloud, labels = pj.sample_neurons([points], 0.5, return_labels=True)
neurons: list[pj.Neuron] = labels.neurons([points])
found: pj.Redundancy = pj.redundancy({"h": points}, layers="h", neurons="channels")
clusters: tuple[tuple[pj.Neuron, ...], ...] = found.clusters
run: pj.LoadedRun = pj.load_run("runs/digits", "mlp_0", "t1", 0.01)
check: pj.TreeCheck = pj.check_tree(points, tree)
slopes = jax.grad(loss)({"h1": jnp.ones((4, 3)), "h2": jnp.ones((4, 2))}, 0.1)
options = pj.training.Options(batch_size=32, epochs=2, optimiser={"name": "sgd"})
model = pj.models.mlp((8, 8, 1), hidden=(16,))
pj.zeroth_deaths(distances, algorithm="kruskal")  # type: ignore
pj.make_term("t1", neurons="rows")  # type: ignore
not_labels: str = labels.layer  # type: ignore
'''
CHECKERS = {
    "mypy": ("mypy", "--strict", "--follow-imports=silent", "user.py"),
    "pyright": ("basedpyright", "--pythonpath", sys.executable, "--level", "error"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKERS)
def test_a_script_of_a_user(name, tmp_path):
    """Nothing to say of what is right, something of each line that is marked as wrong."""
    (tmp_path / "user.py").write_text(SCRIPT, encoding="utf-8")
    settings = {
        "extraPaths": [str(ROOT)], "typeCheckingMode": "standard",
        "reportUnnecessaryTypeIgnoreComment": "error",
    }  # fmt: skip
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    module, *arguments = CHECKERS[name]
    said = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
