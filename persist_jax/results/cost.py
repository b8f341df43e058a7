"""The time of a training step, with and without a term."""

from typing import NamedTuple

import numpy as np

from persist_jax.results.plots import Histories
from persist_jax.results.seeds import BASELINE
from persist_jax.results.selection import Table


class StepTime(NamedTuple):
    """The time of a training step of a best run.

    Attributes:
        network: the network.
        regulariser: the regulariser.
        milliseconds: time of one step of one lane in the median epoch, including its validation.
        over_none: ratio to the time with `none`; `None` if the latter is not known.
    """

    network: str
    regulariser: str
    milliseconds: float
    over_none: float | None


def step_times(table: Table, histories: Histories) -> list[StepTime]:
    """Return the time of a step with each regulariser, by network.

    The time of an epoch is divided equally among its lanes: the figures are those of a run that
    trained together with others, on its machine.
    """
    times = {cell: _milliseconds(history) for cell, history in histories.items()}
    found = []
    for network in table.networks:
        baseline = times.get((network, BASELINE))
        for name in table.regularisers:
            own = times.get((network, name))
            if own is not None:
                found.append(StepTime(network, name, own, baseline and own / baseline))
    return found


def _milliseconds(history: dict[str, np.ndarray]) -> float | None:
    epochs, steps = (len(history.get(name, ())) for name in ("seconds", "train_loss"))
    return 1e3 * float(np.median(history["seconds"])) * epochs / steps if steps else None
