"""The embedded sample is a PGDL task like any other, and reading it needs no TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from persist_jax import pgdl

pytestmark = pytest.mark.slow  # TensorFlow writes the sample and reads it


@pytest.fixture(scope="module")
def task(sample_root, cache):
    return pgdl.read_task(pgdl.task_folder(sample_root, pgdl.SAMPLE_TASK), cache=cache)


def test_examples_are_the_digits(task):
    stored = load_digits()
    assert task.dataset.input_shape == (8, 8, 1)
    np.testing.assert_array_equal(task.dataset.test.x[..., 0] * 16, stored.images[1500:])
    np.testing.assert_array_equal(task.dataset.test.y, stored.target[1500:])
    read = np.concatenate([task.dataset.train.x, task.dataset.validation.x])
    wanted = sorted(image.astype(np.float32).tobytes() for image in stored.images[:1500])
    assert sorted((x[..., 0] * 16).tobytes() for x in read) == wanted


def test_networks_have_their_initial_weights_and_say_so(task):
    assert task.networks == ("20", "148")
    for network_id in task.networks:
        network, variables = task.initial(network_id)
        jax.tree.map(np.testing.assert_array_equal, variables, task.trained(network_id)[1])
        assert "untrained" in task.model_configs[network_id]["note"]
        config = json.loads((task.folder(network_id) / "config.json").read_text())
        assert config["model_config"][0]["filters"] == 16.0
        logits, activations = network.apply(variables, task.dataset.test.x[:3])
        assert logits.shape == (3, 10) and len(activations) == 3
    kernels = [task.initial(network)[1]["params"] for network in task.networks]
    shapes = [jax.tree.map(np.shape, params) for params in kernels]
    assert shapes[0] == shapes[1]  # one architecture, and so one program for both
    first, second = (jax.tree.leaves(params)[1] for params in kernels)
    assert abs(first).max() > 0 and not np.array_equal(first, second)
    for kernel in filter(lambda leaf: leaf.ndim > 1, jax.tree.leaves(kernels)):
        *window, inputs, outputs = kernel.shape
        glorot = 2 / (np.prod(window) * (inputs + outputs))
        np.testing.assert_allclose(kernel.var(), glorot, rtol=0.4)


def test_reading_imports_no_tensorflow(sample_root, cache):
    pgdl.read_task(pgdl.task_folder(sample_root, pgdl.SAMPLE_TASK), cache=cache)
    script = """
import sys
import persist_jax.data, persist_jax.models, persist_jax.pgdl
early = {name.split(".")[0] for name in sys.modules}
from persist_jax import data, pgdl
root, cache = sys.argv[1:]
task = pgdl.read_task(pgdl.task_folder(root, pgdl.SAMPLE_TASK), cache=cache)
task.initial("20")
data.load_images("digits")
late = {name.split(".")[0] for name in sys.modules}
print(early & {"tensorflow", "tensorflow_datasets", "h5py", "sklearn"}, end=" ")
print(late & {"tensorflow", "tensorflow_datasets"})
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(sample_root), str(cache)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set() set()\n"
