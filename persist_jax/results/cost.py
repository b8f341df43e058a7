"""The cost of a training step, and the share of the term in it."""

from typing import NamedTuple

import numpy as np

from persist_jax.results.plots import Histories
from persist_jax.results.seeds import BASELINE
from persist_jax.results.selection import Table


class StepTime(NamedTuple):
    """Time of a step of a best run.

    Attributes:
        network: the network.
        regulariser: the regulariser.
        milliseconds: of one step of one lane, the epoch's validation included; the median epoch.
        over_none: the same over that of `none`; `None` where that is not known.
    """

    network: str
    regulariser: str
    milliseconds: float
    over_none: float | None


def step_times(table: Table, histories: Histories) -> list[StepTime]:
    """The time of a step under each regulariser, by network.

    Lanes share the time of an epoch equally, so the figures are those of a run among others, on
    the machine that trained it.
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
