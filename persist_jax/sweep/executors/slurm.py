"""Workers as tasks of one SLURM array job, through submitit."""

import hashlib
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from persist_jax._plumbing.extras import needed_by
from persist_jax.parameters import Positive, Size
from persist_jax.sweep.executors.workers import Command

_WARNED = 120  # seconds between SLURM's warning and the end of a task
_EPOCH = 90  # seconds of these for the running epoch to finish
_TIMEOUTS = 1000  # times that a task may run out of time and be queued again: practically no limit
_POLL = 0.5  # seconds between two checks of local tasks


def submitit() -> Any:
    """Import submitit, or say in one line how to install it."""
    with needed_by("--executor=slurm", "slurm"):
        import submitit

    return submitit


def slurm(
    command: Command,
    groups: int,
    must_stop: Callable[[], bool],
    *,
    workers: Size | None = None,
    partition: str | None = None,
    account: str | None = None,
    qos: str | None = None,
    timeout_min: Size = 240,
    cpus_per_task: Size | None = None,
    gpus_per_node: Size | None = None,
    mem_gb: Positive | None = None,
    jobs: str = "jobs",
    cluster: Literal["slurm", "local"] = "slurm",
) -> bool:
    """Submit one array job whose tasks run the command; return True without waiting for it.

    A task that runs out of time or is preempted saves after its epoch and is queued again. If the
    epoch takes longer than SLURM waits, the task resumes from its last checkpoint. The last task
    writes the report. Every machine must see the command's folder. The parameters are those of the
    flags `--slurm_...`. The cluster "local" runs the tasks on this machine without SLURM, waits for
    them and returns False.
    """
    package = submitit()
    if cluster == "slurm" and not shutil.which("sbatch"):
        raise ValueError("executor: slurm, but there is no sbatch here; run it on a login node")
    limits = {f"{cluster}_max_num_timeout": _TIMEOUTS}
    folder = _folder(jobs)
    queue = package.AutoExecutor(folder / "%j", cluster=cluster, **limits)
    asked = {
        "timeout_min": timeout_min, "cpus_per_task": cpus_per_task, "mem_gb": mem_gb,
        "gpus_per_node": gpus_per_node, "slurm_partition": partition, "slurm_account": account,
        "slurm_qos": qos, "slurm_signal_delay_s": _WARNED, "name": "persist_jax",
    }  # fmt: skip
    queue.update_parameters(**{name: value for name, value in asked.items() if value is not None})
    count = min(workers or groups, groups)
    tasks = queue.map_array(_Task(command, alone=cluster == "local"), range(count))
    job = tasks[0].job_id.partition("_")[0]
    if cluster == "slurm":
        print(
            f"Submitted job {job} with {count} tasks, which print to {folder}; the last one "
            f"writes the report. squeue --job={job} shows them, scancel {job} stops them.",
            flush=True,
        )
        return True
    stopped = False
    while not all(task.done() for task in tasks):
        if must_stop() and not stopped:
            stopped = True
            for task in tasks:
                with suppress(ProcessLookupError):
                    os.kill(int(task.job_id), signal.SIGTERM)  # submitit forwards it
        time.sleep(_POLL)
    return False


class _Task:
    """Runs the command in a task; submitit calls `checkpoint` before the task must end."""

    _worker: subprocess.Popen | None = None

    def __init__(self, command: Command, *, alone: bool):
        self._command = command
        self._alone = alone  # without SLURM, which would send its signals to the worker too

    def __call__(self, number: int) -> None:
        # Do not wait for groups of other tasks: the cluster queues a lost task again.
        words = (*self._command.words, "--nowait")
        self._worker = Command(words, self._command.folder).start()
        if self._alone:
            signal.signal(signal.SIGTERM, lambda *_: self._worker.terminate())
        self._wait()
        if self._worker.returncode:
            raise RuntimeError(f"worker {number} ended with status {self._worker.returncode}")

    def checkpoint(self, number: int) -> Any:
        """Stop after this epoch, if time allows; return the task to queue again."""
        self._worker.terminate()
        self._wait(_EPOCH)
        again = _Task(self._command, alone=self._alone)
        return submitit().helpers.DelayedSubmission(again, number)

    def _wait(self, seconds: float = math.inf) -> None:
        """Wait for the worker by polling: `Popen.wait` holds a lock that would block a handler."""
        deadline = time.monotonic() + seconds
        while self._worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)


def _folder(jobs: str) -> Path:
    """Return the folder for the tasks' output, without a %, which SLURM would replace."""
    folder = Path(jobs).absolute()
    if "%" not in str(folder):
        return folder
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    folder = Path.home() / ".cache" / "persist_jax" / "jobs" / name
    if "%" in str(folder):
        raise ValueError(f"slurm_jobs: {jobs!r} has a %, which SLURM replaces; give another folder")
    return folder
