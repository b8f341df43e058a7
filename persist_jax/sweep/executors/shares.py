"""What each worker process has of the machine: cores, and GPUs where there are any."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import joblib


class Share(NamedTuple):
    """A worker's part of the machine: numbers of its cores, and variables that it begins with."""

    cores: tuple[int, ...]  # empty where the system cannot restrict them
    environment: dict[str, str]

    @contextmanager
    def inherited(self) -> Iterator[None]:
        """A process that is started inside has these cores, and so has every thread of it."""
        if not self.cores:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


def most_workers() -> int:
    """How many workers the machine has something for: one per GPU, else one per core."""
    return len(_gpus()) or joblib.cpu_count()


def shares(workers: int) -> list[Share]:
    """The machine in so many equal parts; what there is less of than workers, they share."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    # A container may grant fewer than it shows.
    count = max(1, joblib.cpu_count() // workers)
    gpus = _gpus()
    found = []
    for worker in range(workers):
        environment = {"LOKY_MAX_CPU_COUNT": str(count)}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(_part(gpus, worker, workers))
        if gpus and workers > len(gpus):
            # JAX takes three quarters of a GPU's memory, which several workers share.
            fraction = 0.75 / math.ceil(workers / len(gpus))
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{fraction:.3f}"
        found.append(Share(tuple(_part(cores, worker, workers)), environment))
    return found


def _part(things: list, number: int, parts: int) -> list:
    if not things or len(things) < parts:
        return things and [things[number % len(things)]]
    return things[number * len(things) // parts : (number + 1) * len(things) // parts]


def _gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them; they are not asked, which would take memory of them."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return sorted(path.name[6:] for path in Path("/dev").glob("nvidia[0-9]*"))
