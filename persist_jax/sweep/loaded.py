"""A run that has ended, as a person wants it: the network, its weights, its record."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from persist_jax.data.dataset import Dataset
from persist_jax.data.registry import DATASETS
from persist_jax.models.model import Model, Variables
from persist_jax.models.registry import MODELS
from persist_jax.store import checkpoints
from persist_jax.store.configuration import Configuration, grid, read_config
from persist_jax.store.history import read_history
from persist_jax.store.record import Record, has_result, read_result, read_results
from persist_jax.store.run import Run
from persist_jax.sweep.experiment import load_experiment
from persist_jax.training.options import Options
from persist_jax.training.state import initial_variables, pack_keys, unpack_keys


@dataclass(frozen=True, eq=False, repr=False)
class LoadedRun:
    """A run that has ended; see `persist_jax.load_run`.

    Attributes:
        model: the network; `model.apply(run.trained, x)` gives logits and activations, at
            the precision of the training.
        trained: its variables of the best epoch. Of a run that diverged before it had one, the
            initial ones.
        initial: the variables that it started from.
        last: its variables of the last epoch; None in a folder of version 0.2.
        record: what `result.json` says: status, epochs, accuracies, seconds.
        history: the arrays of `history.npz`, by name.
        options: the hyperparameters, with the sampling.
        dataset: the examples it was trained, validated and tested on, with the labels it was
            trained on.

    Example:
        >>> run = persist_jax.load_run("runs/digits", "mlp_0", "t1", 0.01)  # doctest: +SKIP
        >>> run.points(run.dataset.test.x[:256]).shape  # doctest: +SKIP
        (154, 256)
    """

    model: Model
    trained: Variables
    initial: Variables
    last: Variables | None
    record: Record
    history: dict[str, np.ndarray]
    options: Options
    dataset: Dataset

    def activations(self, x: Any, weights: str = "trained") -> Any:
        """Activations of whole layers in inference mode, as the model gives them.

        Args:
            x: a batch of examples `(b, ...)`, of the shape of the data set's.
            weights: "trained", which are those of the best epoch, "last" or "initial".

        Returns:
            One array `(b, ...)` per counted layer, a sequence or a mapping by name.

        Raises:
            ValueError: one line that names the argument.
        """
        if weights not in ("trained", "last", "initial"):
            raise ValueError(f"weights: {weights!r} is not one of trained, last, initial")
        if getattr(self, weights) is None:
            raise ValueError("weights: this run, of version 0.2, has kept none of its last epoch")
        if np.shape(x)[1:] != self.dataset.input_shape:
            wanted = ", ".join(map(str, self.dataset.input_shape))
            raise ValueError(f"x: shape {np.shape(x)} is not (b, {wanted})")
        _, activations = self.model.apply(getattr(self, weights), jnp.asarray(x), train=False)
        return activations

    def points(self, x: Any, weights: str = "trained") -> Float[Array, "n b"]:
        """The sampled neurons of a batch, as a term of this run sees them; see `activations`."""
        return self.options.term().points(self.activations(x, weights))

    def __repr__(self) -> str:
        return f"<{self.record.run.label}: {self.record.status} after {self.record.epochs} epochs>"


def read_run(
    workdir: str | os.PathLike[str],
    network: str,
    regulariser: str,
    weight: float | int,
    seed: int,
) -> LoadedRun:
    """Load a run that has ended; see `persist_jax.load_run`."""
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise ValueError(f"workdir: {workdir} is not a folder")
    config = read_config(workdir)
    run = Run(network, regulariser, float(weight), seed)
    folder = run.folder(workdir)
    if not has_result(folder):
        raise ValueError(_why_not(run, config, workdir))
    _check_code(config, network)
    experiment = load_experiment(config.replace(networks=[network]))
    model, dataset = experiment.models[network], experiment.dataset
    initial = initial_variables(model, dataset.input_shape, seed)

    def variables(path):
        loaded = checkpoints.load(path, pack_keys(dict(initial)))
        return unpack_keys(jax.tree.map(jnp.asarray, loaded))

    last = checkpoints.last_checkpoint(folder)
    return LoadedRun(
        model=model,
        trained=variables(checkpoints.best_checkpoint(folder)),
        initial=initial,
        last=variables(last) if last.exists() else None,
        record=read_result(folder),
        history=read_history(folder),
        options=experiment.options(network),
        dataset=dataset.of_seed(seed),
    )


def _why_not(run: Run, config: Configuration, workdir: Path) -> str:
    """Why a run cannot be loaded: it has not ended, or there is none, and which there are."""
    folder = run.folder(workdir)
    if folder.exists() or folder in [wanted.folder(workdir) for wanted in grid(config)]:
        return f"{run.label}: has not ended in {workdir}; the sweep's own command goes on with it"
    there = [record.run for record in read_results(workdir)]
    for field in ("network", "regulariser", "weight", "seed"):
        # As a folder's name: a weight is known by so many digits.
        values = list(dict.fromkeys(_text(getattr(other, field)) for other in there))
        value = _text(getattr(run, field))
        if value not in values:
            return f"{field}: {value} is not one of {', '.join(values) or 'none'} in {workdir}"
        there = [other for other in there if _text(getattr(other, field)) == value]
    raise AssertionError(f"{folder} has a result")


def _text(value: str | float | int) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _check_code(config: Configuration, network: str) -> None:
    """Refuse kinds that are not registered here, as those of somebody's own code."""
    chosen = {
        "dataset.kind": (config.dataset.get("kind"), DATASETS),
        f"models.{network}.kind": (config.models.get(network, {}).get("kind"), MODELS),
    }
    for field, (kind, registry) in chosen.items():
        if kind not in registry:
            raise ValueError(f"{field}: {kind!r} is not registered; import the file that does")
