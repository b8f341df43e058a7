"""Read a task of the PGDL competition from its folder."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from persist_jax._plumbing.plain_files import read_json
from persist_jax.data.cache import Conversion, entry, read_arrays
from persist_jax.data.dataset import Dataset, Split
from persist_jax.models.network import Network
from persist_jax.pgdl.keras_weights import read_network
from persist_jax.pgdl.shards import number_of, record_of, shards_of

_TRAIN, _TEST = "dataset_1/train", "dataset_1/test"
_ARRAYS = ("train_x", "train_y", "test_x", "test_y")


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A PGDL task: its data, and its networks with initial and trained weights.

    Attributes:
        name: name of the task's folder.
        path: the folder.
        networks: ids of the networks, in numerical order.
        dataset: train, validation and test arrays.
        model_configs: hyperparameters and accuracies by id; empty if the task has none.
    """

    name: str
    path: Path
    networks: tuple[str, ...]
    dataset: Dataset
    model_configs: dict[str, Any]

    def folder(self, network: str) -> Path:
        """Return the folder of a network; an unknown id raises a ValueError with the known ids."""
        if network not in self.networks:
            known = ", ".join(self.networks)
            raise ValueError(f"{self.path}: no network {network!r}, known: {known}")
        return self.path / f"model_{network}"

    def initial(self, network: str) -> tuple[Network, dict[str, Any]]:
        """Read a network and its initial variables, from `weights_init.hdf5`."""
        folder = self.folder(network)
        return read_network(folder / "config.json", folder / "weights_init.hdf5")

    def trained(self, network: str) -> tuple[Network, dict[str, Any]]:
        """Read a network and its trained variables, from `weights.hdf5`."""
        folder = self.folder(network)
        return read_network(folder / "config.json", folder / "weights.hdf5")


def stratified_split(labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Split positions into train and validation: 1000 of each label go to validation.

    Of a label with fewer than 5000 examples, a fifth goes to validation.

    Args:
        labels: `(N,)` labels.
        seed: seed of the random choice.

    Returns:
        Train and validation positions, disjoint and ascending.

    Example:
        >>> train, validation = stratified_split(np.repeat([0, 1], [10, 5]))
        >>> len(train), len(validation)
        (12, 3)
    """
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        positions = np.flatnonzero(labels == label)
        count = 1000 if len(positions) >= 5000 else len(positions) // 5
        chosen[generator.permutation(positions)[:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def task_folder(root: str | os.PathLike[str], task: str) -> Path:
    """Return the folder of a task below the root of a PGDL distribution.

    Args:
        root: the folder that holds `input_data`.
        task: name of the task, as "task1_v4".

    Returns:
        `root/input_data/task`.

    Raises:
        ValueError: there is no such folder; the line lists the tasks of `root`.

    Example:
        >>> task_folder("nowhere", "task1_v4")
        Traceback (most recent call last):
        ValueError: nowhere/input_data/task1_v4: no such folder, tasks there: none
    """
    tasks = Path(root).expanduser() / "input_data"
    if not (tasks / task).is_dir():
        found = sorted(path.name for path in tasks.glob("*") if path.is_dir())
        there = ", ".join(found) or "none"
        raise ValueError(f"{tasks / task}: no such folder, tasks there: {there}")
    return tasks / task


def read_task(
    task_dir: str | os.PathLike[str],
    *,
    validation_seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
) -> Task:
    """Read a PGDL task: `model_<id>` folders and the TFRecord shards of `dataset_1`.

    The shards are converted into the cache once, and again when one of them changes.

    Args:
        task_dir: the task's folder, `<root>/input_data/<task>`.
        validation_seed: seed of the stratified split of the train shards; see `stratified_split`.
        cache: the cache folder; None for `PERSIST_JAX_CACHE` or `~/.cache/persist_jax`.

    Returns:
        The task.

    Raises:
        ValueError: something is missing or unreadable; the line names the path.

    Example:
        >>> read_task("nowhere")
        Traceback (most recent call last):
        ValueError: nowhere: no such folder
    """
    path = Path(task_dir).expanduser()
    networks = network_ids(path)
    x, y, test_x, test_y = read_arrays(entry(examples(path), cache), _ARRAYS)
    train, validation = stratified_split(y, validation_seed)
    if not len(validation):
        raise ValueError(f"{path / _TRAIN}: no label has 5 examples, one of them for validation")

    def origin(part: str, position: int) -> str:
        shards = shards_of(path / (_TEST if part == "test" else _TRAIN))
        positions = {"train": train, "validation": validation}
        return record_of(shards, int(positions[part][position] if part in positions else position))

    dataset = Dataset(
        path.resolve().name,
        Split(x[train], y[train]),
        Split(x[validation], y[validation]),
        Split(np.array(test_x), np.array(test_y)),
        origin=origin,
    )
    for label, count in zip(*np.unique(y, return_counts=True), strict=True):
        if count < 5:
            raise ValueError(
                f"{path / _TRAIN}: {count} examples of label {label}; a fifth of each label is for "
                "validation, so it needs at least 5"
            )
    return Task(dataset.name, path, networks, dataset, read_model_configs(path.resolve()))


def network_ids(path: Path) -> tuple[str, ...]:
    """List the ids of the networks in a task's folder, in numerical order.

    Raises:
        ValueError: there is no such folder, or it has no `model_<id>`.
    """
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder")
    folders = [re.fullmatch(r"model_(\d+)", i.name) for i in path.iterdir() if i.is_dir()]
    if ids := [found[1] for found in folders if found]:
        return tuple(sorted(ids, key=int))
    raise ValueError(f"{path}: no folder model_<digits>")


def examples(path: Path) -> Conversion:
    """Return the conversion of a task's shards into arrays.

    Raises:
        ValueError: the shards of a part are missing or wrong; see `shards_of`.
    """
    shards = {"train": shards_of(path / _TRAIN), "test": shards_of(path / _TEST)}
    first, other = sorted((found[0] for found in shards.values()), key=number_of)
    if number_of(first) < number_of(other):
        raise ValueError(f"{other.with_name(first.name)}: missing, but {first} is there")
    stamps = {
        part: [[shard.name, shard.stat().st_size, shard.stat().st_mtime_ns] for shard in found]
        for part, found in shards.items()
    }
    return Conversion(
        path.resolve().name,
        "persist_jax.pgdl.convert",
        "pgdl_task",
        {"task": str(path.resolve()), "shards": stamps},
        {"shards": {part: [str(s.resolve()) for s in found] for part, found in shards.items()}},
    )


def read_model_configs(path: Path) -> dict[str, Any]:
    """Read hyperparameters by id, from the task's folder or `reference_data`; else empty."""
    beside = path.parents[1] / "reference_data" / path.name
    for file in (path / "model_configs.json", beside / "model_configs.json"):
        if file.exists():
            configs = read_json(file)
            if not isinstance(configs, dict):
                raise ValueError(f"{file}: not a JSON object")
            return configs
    return {}
