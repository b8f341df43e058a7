"""Load the data set, the networks and the programs of a configuration."""

import hashlib
import threading
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from persist_jax.data.dataset import Dataset
from persist_jax.data.registry import load_dataset
from persist_jax.models.model import Model
from persist_jax.models.precision import at_precision
from persist_jax.models.registry import build_model
from persist_jax.store.configuration import Configuration
from persist_jax.sweep.diagnosis import Diagnosis
from persist_jax.sweep.machine import compilers, cores_that_fit
from persist_jax.sweep.reading import evaluate_of, model_section, options_of
from persist_jax.training.layout import Layout
from persist_jax.training.memory import activations_and_points, footprint
from persist_jax.training.options import Options
from persist_jax.training.programs import Evaluation, Programs
from persist_jax.training.state import Data
from persist_jax.training.step import check_dropout
from persist_jax.training.train import layout_of


@dataclass(frozen=True)
class Experiment:
    """Everything that a group of runs needs.

    Attributes:
        config: the configuration, with the checksums of data and networks.
        dataset: train, validation and test arrays.
        models: the networks by name, at the precision of their training.
    """

    config: Configuration
    dataset: Dataset
    models: dict[str, Model]
    _on_devices: dict[tuple, Data] = field(default_factory=dict)
    _programs: dict[str, dict[str, Programs]] = field(default_factory=dict)
    _diagnoses: dict[str, Diagnosis] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def options(self, network: str) -> Options:
        """Return the hyperparameters of a network."""
        return options_of(self.config, network)

    def layout(self, network: str) -> Layout:
        """Return the layout of a network's runs on this machine's devices."""
        config, of = self.config, (self.models[network], self.dataset, self.options(network))
        how = {"parallel": config.parallel, "lane_strategy": config.lane_strategy}
        layout = layout_of(*of, **how, devices=config.devices)
        if config.devices is not None or config.parallel == "batch":
            return layout
        needed = footprint(*of, layout)
        return layout_of(*of, **how, devices=cores_that_fit(needed.once + needed.lane))

    def programs(self, network: str, regulariser: str) -> Programs:
        """Return the programs that train a network with a regulariser; safe to call from threads.

        It keeps the programs of the network in training and of those compiled ahead, no others.
        """
        with self._lock:
            own = self._programs.setdefault(network, {})
            if regulariser not in own:
                options = self.options(network)
                term, added = options.terms(regulariser, self.config.terms.get(regulariser))
                evaluation = next((programs.evaluation for programs in own.values()), None)
                own[regulariser] = Programs(
                    self.models[network],
                    term,
                    options,
                    evaluation or self._evaluation(network),
                    added,
                )
            for oldest in list(self._programs)[: -compilers() - 1]:
                del self._programs[oldest]
            return own[regulariser]

    def _evaluation(self, network: str) -> Evaluation:
        layout, options = self.layout(network), self.options(network)
        # Most networks use the same devices: copy the data there only once.
        if layout.devices not in self._on_devices:
            self._on_devices.clear()
            self._on_devices[layout.devices] = layout.replicate(Data.of(self.dataset))
        data = self._on_devices[layout.devices]
        evaluate = evaluate_of(self.config)
        return Evaluation(self.models[network], self.dataset, options, evaluate, layout, data)

    def diagnosis(self, network: str) -> Diagnosis:
        """Return the diagnosis of a network; only the last network's is cached."""
        if network not in self._diagnoses:
            self._diagnoses.clear()
            own = self.models[network], self.options(network), self.dataset
            self._diagnoses[network] = Diagnosis(*own)
        return self._diagnoses[network]

    def points(self, network: str) -> int:
        """Return the number of neurons in the point cloud."""
        of = self.models[network], self.dataset, self.options(network)
        return activations_and_points(*of)[1]


def load_experiment(config: Configuration) -> Experiment:
    """Load the data set and build the networks of a configuration.

    Args:
        config: the configuration; if it has checksums, data and networks must match them.

    Raises:
        ValueError: a field or a file is wrong; one line that names it.
    """
    dataset = load_dataset(config.dataset)
    models, checksums = {}, {}
    for name in config.networks:
        options = options_of(config, name)
        options.check_iterations(dataset.train_examples)
        section, where = model_section(config, name), f"models.{name}"
        model = build_model(section, dataset.input_shape, dataset.num_classes, where)
        checksums[name] = _checksum(model, dataset, where)
        models[name] = at_precision(model, options.matmul_precision)
        for regulariser in config.regularisers:
            terms = options.terms(regulariser, config.terms.get(regulariser))
            check_dropout(model, *terms, where=f" of {name}")
    pairs = {"dataset": (config.dataset_checksum, dataset.checksum)}
    pairs |= {f"models.{name}": (config.checksums.get(name), checksums[name]) for name in checksums}
    for name, (before, found) in pairs.items():
        if before not in (None, found):
            raise ValueError(f"{name}: its checksum is {found}, but the sweep began with {before}")
    config = config.replace(dataset_checksum=dataset.checksum, checksums=checksums)
    return Experiment(config, dataset, models)


def _checksum(model: Model, dataset: Dataset, where: str) -> str:
    """Return a checksum of every array's path and shape, and of the bits of given weights.

    The configuration's fields hold the network's parameters. A change of its code that keeps all
    shapes is not detected.
    """

    def outline(x):
        variables = model.init(jax.random.key(0), x)
        return variables, *model.apply(variables, x, train=False)

    variables, logits, activations = jax.eval_shape(outline, _two_examples(dataset))
    if len(logits.shape) != 2 or logits.shape[1] < dataset.num_classes:
        wanted = f"(b, {dataset.num_classes})"
        raise ValueError(f"{where}: its logits have shape {logits.shape}, the data needs {wanted}")
    leaves, _ = jax.tree_util.tree_flatten_with_path((variables, activations))
    lines = [f"{jax.tree_util.keystr(path)} {leaf.dtype}{leaf.shape}" for path, leaf in leaves]
    lines.append(str(getattr(model, "checksum", "")))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _two_examples(dataset: Dataset) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((2, *dataset.input_shape), jnp.float32)
