"""Register the data set kind "pgdl" and the model kind "keras"."""

import os
from functools import partial
from pathlib import Path
from typing import Any

from persist_jax.data import DATASETS, Dataset
from persist_jax.models import MODELS
from persist_jax.models.given import GivenWeights
from persist_jax.parameters import Count
from persist_jax.pgdl.keras_config import logits_shape, read_config
from persist_jax.pgdl.keras_weights import check_weights, read_weights
from persist_jax.pgdl.sample import SAMPLE, SAMPLE_MODELS, SAMPLE_TASK, pgdl_sample
from persist_jax.pgdl.task import examples, network_ids, read_task, task_folder


def _root(root: str | None) -> str | None:
    return root or os.environ.get("PGDL_ROOT") or None


def _is_sample(*, root: str | None, **others: object) -> bool:
    return _root(root) is None


def _at_hand(*, root: str | None, task: str, cache: str | None, **others: object) -> bool:
    chosen = _root(root)
    if chosen is None:
        if not SAMPLE.is_done(cache):
            return False
        chosen, task = SAMPLE.folder(cache), SAMPLE_TASK
    return examples(task_folder(chosen, task)).is_done(cache)


def _brings(
    *, root: str | None, task: str, cache: str | None, **others: object
) -> dict[str, dict[str, Any]]:
    chosen = _root(root)
    if chosen is None:
        folder, ids = SAMPLE.folder(cache) / "input_data" / SAMPLE_TASK, tuple(SAMPLE_MODELS)
    else:
        folder = task_folder(chosen, task).absolute()
        ids = network_ids(folder)
    names = [f"model_{identifier}" for identifier in ids]
    return {name: {"kind": "keras", "folder": str(folder / name)} for name in names}


@DATASETS.register(
    "pgdl",
    places=("root", "cache"),
    at_hand=_at_hand,
    brings=_brings,
    embedded=_is_sample,
)
def pgdl(
    *,
    root: str | None = None,
    task: str = "task1_v4",
    validation_seed: Count = 0,
    cache: str | None = None,
) -> Dataset:
    """Load the examples of a task of the competition, or of the embedded sample.

    Args:
        root: the folder that holds `input_data`; null: `PGDL_ROOT` or, if that is not set, the
            embedded sample.
        task: name of the task; ignored for the embedded sample, which has only one.
        validation_seed: see `read_task`.
        cache: the cache folder; null for `PERSIST_JAX_CACHE` or `~/.cache/persist_jax`.

    Returns:
        The data set.

    Raises:
        ValueError: something is missing or unreadable; the line names the path.
    """
    chosen = _root(root)
    if chosen is None:
        chosen, task = pgdl_sample(cache), SAMPLE_TASK
    folder = task_folder(chosen, task)
    return read_task(folder, validation_seed=validation_seed, cache=cache).dataset


@MODELS.register("keras", places=("folder",))
def keras(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    folder: str,
    weights: str = "weights_init.hdf5",
) -> GivenWeights:
    """Load a network that Keras saved; its weights are checked here and read by `init`.

    Args:
        input_shape: shape of one example of the data set.
        classes: number of its classes.
        folder: the folder that holds `config.json` and the weights.
        weights: name of the weight file.

    Returns:
        The network; its `init` ignores the key and returns the file's weights.

    Raises:
        ValueError: a file is missing or unreadable, or the network does not fit the data set; the
            line names the path.
    """
    path = Path(folder).expanduser().absolute()
    network = read_config(path / "config.json")
    logits = logits_shape(network)
    if network.input_shape != input_shape:
        raise ValueError(
            f"{path}: takes examples of shape {network.input_shape}, "
            f"but the data set has {input_shape}"
        )
    if len(logits) != 1 or logits[0] < classes:
        raise ValueError(f"{path}: gives logits of shape {logits} for {classes} classes")
    check_weights(network, path / weights)
    layers = f"{network.layers} of {network.input_shape}"
    return GivenWeights(network, partial(read_weights, network, path / weights), layers)
