"""Diagnose a trained network: constant neurons, redundant neurons, accuracy of guessing."""

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
    """Counts the redundant neurons of one network under any weights; also the accuracy of guessing.

    The batch is always the first validation examples, as in `persist_jax.training.epoch.watch`,
    and neurons are sampled as in the runs.
    """

    def __init__(self, model: Model, options: Options, dataset: Dataset):
        self._x, labels = dataset.validation.x[: options.batch_size], dataset.validation.y
        share = float(np.bincount(labels).max() / len(labels))
        self._chance = {"share": share, "examples": len(labels)}
        # One program, whose only output is the sampled neurons.
        self._neurons = jax.jit(
            lambda variables, x: options.term().points(model.apply(variables, x, train=False)[1]).T
        )
        self._compiled = False

    def of(self, variables: Variables) -> dict[str, Any] | None:
        """Count for `result.json`; None if an activation is not finite."""
        # The first call compiles: no other thread may lower a program at the same time.
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
        """Return the fields `points`, `chance` and `redundancy` of `result.json`.

        Args:
            initial: the counts before training, None if not known.
            trained: the variables with the best weights.
        """
        redundancy = {"threshold": THRESHOLD, "examples": len(self._x)}
        redundancy |= {"initial": initial, "trained": self.of(trained)}
        points = jax.eval_shape(self._neurons, trained, self._x).shape[1]
        return {"points": points, "chance": self._chance, "redundancy": redundancy}
