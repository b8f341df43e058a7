"""Load a finished run: its network, weights, record and history."""

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
    """A finished run; see `persist_jax.load_run`.

    Attributes:
        model: the network; `model.apply(run.trained, x)` gives logits and activations, at
            the precision of the training.
        trained: the variables of the best epoch; the initial ones if the run diverged before it had
            a best epoch.
        initial: the initial variables.
        last: the variables of the last epoch; None in a folder of version 0.2.
        record: the content of `result.json`: status, epochs, accuracies, seconds.
        history: the arrays of `history.npz`, by name.
        options: the hyperparameters, with the sampling.
        dataset: the examples of training, validation and test, with the labels used in training.

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
        """Compute the activations of whole layers in inference mode.

        Args:
            x: a batch of examples `(b, ...)`, with the shape of the data set's examples.
            weights: "trained" (of the best epoch), "last" or "initial".

        Returns:
            One array `(b, ...)` per counted layer, as a sequence or by name.

        Raises:
            ValueError: an argument is wrong; one line that names it.
        """
        if weights not in ("trained", "last", "initial"):
            raise ValueError(f"weights: {weights!r} is not one of trained, last, initial")
        if getattr(self, weights) is None:
            raise ValueError("weights: version 0.2, which trained this run, saved no last weights")
        if np.shape(x)[1:] != self.dataset.input_shape:
            wanted = ", ".join(map(str, self.dataset.input_shape))
            raise ValueError(f"x: shape {np.shape(x)} is not (b, {wanted})")
        _, activations = self.model.apply(getattr(self, weights), jnp.asarray(x), train=False)
        return activations

    def points(self, x: Any, weights: str = "trained") -> Float[Array, "n b"]:
        """Return the sampled neurons of a batch, as the run's term uses them; see `activations`."""
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
    """Load a finished run; see `persist_jax.load_run`."""
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise ValueError(f"workdir: {workdir} is not a folder")
    config = read_config(workdir)
    run = Run(network, regulariser, float(weight), seed)
    folder = run.folder(workdir)
    if not has_result(folder):
        raise ValueError(_why_not(run, config, workdir))
    _check_code(config, network)
    # Without terms: a user's own regulariser may not be registered in this process.
    experiment = load_experiment(config.replace(networks=[network], regularisers=["none"]))
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
    """Return why a run cannot be loaded: it is not finished, or a name or number is not there."""
    folder = run.folder(workdir)
    if folder.exists() or folder in [wanted.folder(workdir) for wanted in grid(config)]:
        return f"{run.label}: not finished in {workdir}; run the sweep's command to resume it"
    there = [record.run for record in read_results(workdir)]
    for field in ("network", "regulariser", "weight", "seed"):
        # As in folder names, which have only some digits of a weight.
        values = list(dict.fromkeys(_text(getattr(other, field)) for other in there))
        value = _text(getattr(run, field))
        if value not in values:
            return f"{field}: {value} is not one of {', '.join(values) or 'none'} in {workdir}"
        there = [other for other in there if _text(getattr(other, field)) == value]
    raise AssertionError(f"{folder} has a result")


def _text(value: str | float | int) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _check_code(config: Configuration, network: str) -> None:
    """Refuse kinds that are not registered, as those of a user's own code."""
    chosen = {
        "dataset.kind": (config.dataset.get("kind"), DATASETS),
        f"models.{network}.kind": (config.models.get(network, {}).get("kind"), MODELS),
    }
    for field, (kind, registry) in chosen.items():
        if kind not in registry:
            raise ValueError(f"{field}: {kind!r} is not registered; import the file with its code")
