"""Workers on this machine, each with its share of the cores or GPUs."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import joblib

from persist_jax.parameters import Size
from persist_jax.sweep.executors.workers import Command

_POLL = 0.2  # seconds between two checks of the workers
_PATIENCE = 600.0  # seconds that a worker has to finish its epoch when asked to stop


def processes(
    command: Command,
    groups: int,
    must_stop: Callable[[], bool],
    *,
    workers: Size | None = None,
) -> None:
    """Run the command in local processes, by default one per GPU or core, and wait for them."""
    running = []
    for share in shares(min(workers or len(_gpus()) or joblib.cpu_count(), groups)):
        with share.inherited():
            running.append(command.start(share.environment))
    asked: float | None = None
    try:
        while running:
            time.sleep(_POLL)
            if asked is None and must_stop():
                asked = time.monotonic()
                for worker in running:
                    worker.terminate()
                    worker.send_signal(signal.SIGCONT)  # a suspended one would not handle SIGTERM
            if asked is not None and time.monotonic() - asked > _PATIENCE:
                for worker in running:
                    _say(f"worker {worker.pid} did not stop within {_PATIENCE:.0f} s: killed")
                break
            for worker in running:
                if worker.poll() is not None and worker.returncode < 0:
                    how = f"killed (signal {-worker.returncode})"
                    _say(f"worker {worker.pid} was {how}; others train its group")
            running = [worker for worker in running if worker.returncode is None]
    finally:
        for worker in running:
            worker.kill()
            worker.wait()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Share(NamedTuple):
    """A worker's part of the machine: its core numbers and its environment variables."""

    cores: tuple[int, ...]  # empty where the system cannot restrict them
    environment: dict[str, str]

    @contextmanager
    def inherited(self) -> Iterator[None]:
        """Pin processes started in the block, with all their threads, to these cores."""
        if not self.cores:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


def shares(workers: int) -> list[Share]:
    """Divide the machine into equal parts; more workers than cores or GPUs share them."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    # `joblib.cpu_count`, since a container may grant fewer cores than it shows.
    count = max(1, joblib.cpu_count() // workers)
    gpus = _gpus()
    found = []
    for worker in range(workers):
        environment = {"LOKY_MAX_CPU_COUNT": str(count)}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(_part(gpus, worker, workers))
        if gpus and workers > len(gpus):
            # By default JAX takes three quarters of a GPU's memory: divide them among its workers.
            fraction = 0.75 / math.ceil(workers / len(gpus))
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{fraction:.3f}"
        found.append(Share(tuple(_part(cores, worker, workers)), environment))
    return found


def _part(things: list, number: int, parts: int) -> list:
    if not things or len(things) < parts:
        return things and [things[number % len(things)]]
    return things[number * len(things) // parts : (number + 1) * len(things) // parts]


def _gpus() -> list[str]:
    """List the GPUs as in CUDA_VISIBLE_DEVICES; not through CUDA, which would use their memory."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return sorted(path.name[6:] for path in Path("/dev").glob("nvidia[0-9]*"))
