"""What is redundant in a network of a sweep: counts for the record of a run."""

from typing import Any

import jax

from persist_jax.data.dataset import Dataset
from persist_jax.models.model import Model, Variables
from persist_jax.redundancy import redundancy
from persist_jax.training.options import Options

THRESHOLD = 0.9


class Diagnosis:
    """Counts of what is redundant under any weights of one network.

    Always on the same batch, the first validation examples, with neurons sampled as the runs
    sample them.

    Args:
        model: the network.
        options: its hyperparameters.
        dataset: the examples.
    """

    def __init__(self, model: Model, options: Options, dataset: Dataset):
        self._x = dataset.validation.x[: options.batch_size]
        # One program, which never gives more than the sampled neurons away.
        self._points = jax.jit(
            lambda variables, x: options.points(model.apply(variables, x, train=False)[1])
        )

    def of(self, variables: Variables) -> dict[str, Any] | None:
        """The counts of `result.json`; None where an activation is not finite."""
        points = self._points(variables, self._x)
        try:
            found = redundancy([points.T], threshold=THRESHOLD, top=0)
        except ValueError:
            return None
        return {
            "neurons": found.n,
            "constant": len(found.constant),
            "clusters": len(found.clusters),
            "clustered": sum(map(len, found.clusters)),
            "deaths": list(found.quantiles.values()),
        }

    def record(self, initial: Variables | None, trained: Variables) -> dict[str, Any]:
        """The field `redundancy` of `result.json`."""
        return {
            "threshold": THRESHOLD,
            "examples": len(self._x),
            "initial": None if initial is None else self.of(initial),
            "trained": self.of(trained),
        }
