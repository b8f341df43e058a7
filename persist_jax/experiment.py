"""From a configuration to what is trained: the data set, the networks, the hyperparameters."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from ml_collections import ConfigDict

from persist_jax import data, pgdl
from persist_jax.data.dataset import Dataset
from persist_jax.grid import flatten
from persist_jax.networks import Network, mnist_mlps
from persist_jax.sampling import sample_neurons
from persist_jax.training.options import Options


@dataclass(frozen=True)
class Subject:
    """A network of an experiment and its weights before training, by seed."""

    network: Network
    initial: Callable[[int], dict[str, PyTree]]

    def points(self, sampling: float) -> int:
        """How many neurons enter the point cloud."""
        x = jnp.zeros((2, *self.network.input_shape))

        def sample(variables):
            _, activations = self.network.apply(variables, x, train=False)
            return sample_neurons(activations, sampling)

        return jax.eval_shape(sample, self.initial(0)).shape[0]


@dataclass(frozen=True)
class Experiment:
    """Everything a sweep needs, read and checked.

    Attributes:
      config: the configuration as plain values, as ``config.json`` keeps it.
      dataset: train, validation and test arrays.
      subjects: the networks by name.
      options: the hyperparameters.
      notices: lines for the person who started it.
    """

    config: dict[str, Any]
    dataset: Dataset
    subjects: dict[str, Subject]
    options: Options
    notices: tuple[str, ...]


def load_experiment(
    config: Mapping[str, Any] | ConfigDict, overridden: Collection[str] = ()
) -> Experiment:
    """Read the data and the networks that a configuration names.

    Args:
      config: what ``configs/*.py`` returns.
      overridden: dotted names of the fields that a person set; these are never replaced by the
        sizes of an embedded sample, and a network named there must exist.

    Raises:
      ValueError: one line that names the field, its value and the choices.
    """
    config = _plain(config)
    for field in ("networks", "regularisers"):
        # On a command line `a,b` arrives as the one name "a,b".
        config[field] = [name for entry in config[field] for name in str(entry).split(",")]
    load = _choose("dataset.kind", config["dataset"]["kind"], LOADERS)
    return load(config, overridden)


def _load_images(config: dict[str, Any], overridden: Collection[str]) -> Experiment:
    fields = config["dataset"]
    dataset = data.load_images(
        fields["name"],
        double_division=fields["double_division"],
        data_dir=fields["data_dir"],
        manual_dir=fields["manual_dir"],
        cache=fields["cache"],
    )
    networks = mnist_mlps(dataset.input_shape, config["hidden"])
    subjects = {
        name: _randomly_initialised(_choose("networks", name, networks))
        for name in config["networks"]
    }
    return _experiment(config, dataset, subjects, ())


def _load_pgdl(config: dict[str, Any], overridden: Collection[str]) -> Experiment:
    fields = config["dataset"]
    root = fields["root"] or os.environ.get("PGDL_ROOT")
    notices = []
    if not root:
        root = str(data.pgdl_sample(fields["cache"]))
        config = _with_sample_sizes(config, overridden)
        fields = config["dataset"]
        notices += ["This is the embedded sample, not the PGDL data.", fields["note"]]
    fields["root"] = str(Path(root).resolve())
    task = pgdl.read_task(
        data.task_folder(fields["root"], fields["task"]),
        validation_seed=fields["validation_seed"],
        cache=fields["cache"],
    )
    present = {f"model_{identifier}": identifier for identifier in task.networks}
    wanted = [f"model_{str(name).removeprefix('model_')}" for name in config["networks"]]
    missing = [name for name in wanted if name not in present]
    if "networks" in overridden or len(missing) == len(wanted):
        for name in missing:
            _choose("networks", name, present)
    elif missing:
        notices.append(f"{fields['root']} has no {', '.join(missing)}: left out.")
    config["networks"] = [name for name in wanted if name in present]
    subjects = {
        name: _initialised_from_files(task, present[name]) for name in config["networks"]
    }
    return _experiment(config, task.dataset, subjects, tuple(notices))


LOADERS = {"images": _load_images, "pgdl": _load_pgdl}


def _experiment(config, dataset, subjects, notices) -> Experiment:
    return Experiment(config, dataset, subjects, Options.from_config(config["train"]), notices)


def _with_sample_sizes(config: dict[str, Any], overridden: Collection[str]) -> dict[str, Any]:
    """The configuration with the fields of ``sample`` in place of the paper's."""
    result = _plain(config)
    for name, value in flatten(result.pop("sample")).items():
        if name not in overridden:
            *rooms, field = name.split(".")
            target = result
            for room in rooms:
                target = target[room]
            target[field] = value
    return result


def _randomly_initialised(network: Network) -> Subject:
    x = jnp.zeros((1, *network.input_shape))
    return Subject(network, lambda seed: network.init(jax.random.key(seed), x))


def _initialised_from_files(task, identifier: str) -> Subject:
    network, variables = task.initial(identifier)
    return Subject(network, lambda seed: variables)


def _choose(field: str, value: Any, choices: Mapping[str, Any]) -> Any:
    if value not in choices:
        raise ValueError(f"{field}: {value!r} is not one of {', '.join(choices)}")
    return choices[value]


def _plain(config: Any) -> Any:
    """Nested dicts and lists of plain values, as JSON has them."""
    if isinstance(config, ConfigDict):
        return _plain(config.to_dict())
    if isinstance(config, Mapping):
        return {name: _plain(value) for name, value in config.items()}
    if isinstance(config, tuple | list):
        return [_plain(value) for value in config]
    return config

