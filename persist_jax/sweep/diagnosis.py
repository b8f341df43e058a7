"""Diagnosis of a trained network: dead neurons, redundant neurons, mere guessing."""

from contextlib import nullcontext
from typing import Any

import jax
import numpy as np

from persist_jax.data.dataset import Dataset
from persist_jax.kernels import mean_correlation
from persist_jax.models.model import Model, Variables
from persist_jax.redundancy import redundancy
from persist_jax.training.compilation import LOWERING
from persist_jax.training.options import Options

THRESHOLD = 0.9


class Diagnosis:
    """Counts of what is redundant under any weights of one network, and what guessing reaches.

    Always on the same batch, the first validation examples, with neurons sampled as the runs
    sample them: the batch of `persist_jax.training.epoch.watch`.
    """

    def __init__(self, model: Model, options: Options, dataset: Dataset):
        self._x, labels = dataset.validation.x[: options.batch_size], dataset.validation.y
        share = float(np.bincount(labels).max() / len(labels))
        self._chance = {"share": share, "examples": len(labels)}
        # One program, which never gives more than the sampled neurons away.
        self._neurons = jax.jit(
            lambda variables, x: options.term().points(model.apply(variables, x, train=False)[1]).T
        )
        self._compiled = False

    def of(self, variables: Variables) -> dict[str, Any] | None:
        """The counts of `result.json`; None where an activation is not finite."""
        # Only the first call compiles, which no other thread may do meanwhile.
        with nullcontext() if self._compiled else LOWERING:
            neurons = self._neurons(variables, self._x)
            try:
                found = redundancy([neurons], threshold=THRESHOLD, top=0)
            except ValueError:
                return None
            mean = float(mean_correlation(neurons.T))
        self._compiled = True
        return {
            "neurons": found.n,
            "constant": len(found.constant),
            "clusters": len(found.clusters),
            "clustered": sum(map(len, found.clusters)),
            "deaths": list(found.quantiles.values()),
            "mean_correlation": min(mean, 1.0),
        }

    def record(self, initial: dict[str, Any] | None, trained: Variables) -> dict[str, Any]:
        """The fields `points`, `chance` and `redundancy` of `result.json`.

        Args:
            initial: the counts before training, if they are known.
            trained: the best weights.
        """
        redundancy = {"threshold": THRESHOLD, "examples": len(self._x)}
        redundancy |= {"initial": initial, "trained": self.of(trained)}
        points = jax.eval_shape(self._neurons, trained, self._x).shape[1]
        return {"points": points, "chance": self._chance, "redundancy": redundancy}
