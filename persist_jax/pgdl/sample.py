"""The embedded sample: scikit-learn's digits in the file layout of a PGDL task."""

import json
import os
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax._plumbing.extras import needed_by
from persist_jax.data.cache import Conversion, entry
from persist_jax.data.digits import digits
from persist_jax.models.network import Network
from persist_jax.pgdl.keras_config import network_from_config
from persist_jax.pgdl.keras_weights import write_weights

SAMPLE_TASK = "digits_sample"
_SHARDS = 3


def _convolution(filters: int) -> dict[str, Any]:
    return {
        "layer_name": "Conv2D",
        "filters": float(filters),
        "kernel_size": 3,
        "padding": "same",
        "activation": "relu",
    }


def _dense(units: int, **arguments: str) -> dict[str, Any]:
    return {"layer_name": "Dense", "units": float(units), **arguments}


_LAYERS = [
    _convolution(16),
    {"layer_name": "MaxPooling2D", "pool_size": [2, 2]},
    {"layer_name": "Flatten"},
    _dense(32, activation="relu"),
    _dense(10),
]
# Networks of one architecture share compiled programs, which take most of the sample's time.
SAMPLE_MODELS: dict[str, list[dict[str, Any]]] = {"20": _LAYERS, "148": _LAYERS}


SAMPLE = Conversion(
    SAMPLE_TASK, "persist_jax.pgdl.convert", "pgdl_sample", {"models": SAMPLE_MODELS}, {}
)


def pgdl_sample(cache: str | os.PathLike[str] | None = None) -> Path:
    """Return the root of the embedded sample, which the first call writes into the cache.

    It holds one task, `SAMPLE_TASK`: 1500 digits to train and 297 to test, and small convolutional
    networks with initial weights from fixed seeds. The networks are untrained: `weights.hdf5`
    equals `weights_init.hdf5`, as `model_configs.json` says.

    Args:
        cache: the cache folder; None for `PERSIST_JAX_CACHE` or `~/.cache/persist_jax`.

    Returns:
        The folder that holds `input_data` and `reference_data`, as for real data.
    """
    return entry(SAMPLE, cache)


def write_pgdl_sample(folder: Path) -> None:
    """Write the sample; runs in the subprocess that imports TensorFlow."""
    task = folder / "input_data" / SAMPLE_TASK
    for model in SAMPLE_MODELS:
        _write_model(task / f"model_{model}", model)
    arrays = digits()
    for part in ("train", "test"):
        x, y = arrays[f"{part}_x"] / np.float32(16.0), arrays[f"{part}_y"]
        _write_shards(task / "dataset_1" / part, x, y)
    reference = folder / "reference_data" / SAMPLE_TASK
    reference.mkdir(parents=True)
    note = "untrained: weights.hdf5 equals weights_init.hdf5"
    configs = {model: {"hparams": {}, "note": note} for model in SAMPLE_MODELS}
    (reference / "model_configs.json").write_text(json.dumps(configs), encoding="utf-8")


def _write_model(folder: Path, model: str) -> None:
    folder.mkdir(parents=True)
    config = {"model_config": SAMPLE_MODELS[model], "input_shape": [8, 8, 1]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    network = network_from_config(config)
    variables = _initial_weights(network, int(model))
    for name in ("weights_init.hdf5", "weights.hdf5"):
        write_weights(folder / name, network, variables)


def _initial_weights(network: Network, seed: int) -> Any:
    """Draw weights as Keras does, uniform by Glorot, by NumPy: XLA would compile for seconds."""
    import jax

    rng = np.random.default_rng(seed)

    def draw(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        if len(shape.shape) == 1:  # a bias
            return np.zeros(shape.shape, np.float32)
        *window, inputs, outputs = shape.shape
        bound = np.sqrt(6 / (prod(window) * (inputs + outputs)))
        return rng.uniform(-bound, bound, shape.shape).astype(np.float32)

    image = np.zeros((1, 8, 8, 1), np.float32)
    return jax.tree.map(draw, jax.eval_shape(network.init, jax.random.key(0), image))


def _write_shards(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    with needed_by("pgdl_sample", "prepare"):
        import tensorflow as tf

    folder.mkdir(parents=True)
    for shard, positions in enumerate(np.array_split(np.arange(len(y)), _SHARDS)):
        with tf.io.TFRecordWriter(str(folder / f"shard_{shard}.tfrecord")) as writer:
            for record in _records(x[positions], y[positions]):
                writer.write(record)


def _records(x: np.ndarray, y: np.ndarray) -> Iterator[bytes]:
    import tensorflow as tf

    for image, label in zip(x, y, strict=True):
        tensors = {
            "inputs": tf.make_tensor_proto(image, tf.float32),
            "output": tf.make_tensor_proto(label, tf.int32),
        }
        feature = {
            name: tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[tensor.SerializeToString()])
            )
            for name, tensor in tensors.items()
        }
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        yield example.SerializeToString()
