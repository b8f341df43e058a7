"""Groups as the tasks of one array job of a cluster, through submitit."""

import math
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from persist_jax._plumbing.extras import needed_by
from persist_jax.parameters import Positive, Size
from persist_jax.store.sweep_folder import jobs_folder
from persist_jax.sweep.executors.elsewhere import (
    forget_stop,
    train_elsewhere,
    train_until_asked,
)
from persist_jax.sweep.executors.ending import Ending
from persist_jax.sweep.executors.work import Outcome, Work
from persist_jax.sweep.grid import Group

_WARNED = 120  # seconds between a job's warning and its end, of which its epoch may take
_EPOCH = 90  # so many
# How often a job may run out of time and be queued again: as often as it takes.
_TIMEOUTS = 1000
_LOOK = 10.0  # seconds between two looks at the cluster's queue
_LATE = 60.0  # seconds that shared storage may take to show the result of a job that has ended


def submitit() -> Any:
    """The package.

    Raises:
        ImportError: one line on how to install it.
    """
    with needed_by("--executor=slurm", "slurm"):
        import submitit

    return submitit


def slurm(
    work: Work,
    groups: Sequence[Group],
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
    cluster: Literal["slurm", "local"] = "slurm",
) -> Outcome:
    """Train groups as tasks of an array job, and wait for them.

    A task that runs out of time, or makes room for another one, saves after its epoch and is
    queued again; where an epoch takes longer than the cluster waits, its last checkpoint counts.

    Args:
        work: the sweep's; its folder lies where every machine sees it.
        groups: what to train.
        must_stop: asked whether to stop; then tasks end after their epoch.
        workers: how many tasks run at once at most; by default as many as the cluster lets.
        partition: of the cluster.
        account: whom the time is counted to.
        qos: the quality of service.
        timeout_min: minutes that a task has before it is queued again.
        cpus_per_task: cores of a task.
        gpus_per_node: GPUs of a task.
        mem_gb: memory of a task, in GB.
        cluster: "local" starts all tasks on this machine, without SLURM, to try things out.
    """
    package = submitit()
    if cluster == "slurm" and not shutil.which("sbatch"):
        raise ValueError("executor: slurm, but there is no sbatch here; start where jobs are sent")
    limits = {f"{cluster}_max_num_timeout": _TIMEOUTS}
    queue = package.AutoExecutor(jobs_folder(work.workdir) / "%j", cluster=cluster, **limits)
    asked = {
        "timeout_min": timeout_min, "cpus_per_task": cpus_per_task, "mem_gb": mem_gb,
        "gpus_per_node": gpus_per_node, "slurm_partition": partition, "slurm_account": account,
        "slurm_qos": qos, "slurm_array_parallelism": workers or len(groups),
        "slurm_signal_delay_s": _WARNED, "name": "persist_jax",
    }  # fmt: skip
    queue.update_parameters(**{name: value for name, value in asked.items() if value is not None})
    forget_stop(work)
    jobs = queue.map_array(_GroupJob(work), groups)
    waiting = _Queue() if cluster == "slurm" else None
    try:
        give = [_Task(job, waiting) for job in jobs].__getitem__
        return train_elsewhere(work, groups, must_stop, give, len(groups))
    finally:
        _clear(jobs_folder(work.workdir))


def _clear(folder: Path) -> None:
    """Without what a cluster has copied; what tasks that failed have printed stays."""
    for path in (*folder.glob("*/*_submission.sh"), *folder.glob(".submission_file_*.sh")):
        path.unlink()
    for path in (*folder.glob("*/"), folder):
        with suppress(OSError):
            path.rmdir()


class _Queue:
    """What the cluster has of our jobs; accounting, which submitit asks, not every one keeps."""

    def __init__(self):
        self._asked = -math.inf
        self._seen: float | None = None  # when the cluster answered
        self._there: set[str] = set()
        self._left: dict[str, float] = {}  # when a job was first seen not to be there

    def look(self) -> set[str]:
        """Look now, and no more for a while; jobs that wait or run, by id."""
        ours = ["--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
        said = subprocess.run(["squeue", *ours], capture_output=True, text=True)
        self._asked = time.monotonic()
        if said.returncode == 0:  # else the cluster has no time for it
            self._seen, self._there = self._asked, set(said.stdout.split())
            self._left = {job: at for job, at in self._left.items() if job not in self._there}
        return self._there

    def has_lost(self, job_id: str) -> bool:
        """Whether a job that has no result has been gone for so long that none will come."""
        if time.monotonic() - self._asked > _LOOK:
            self.look()
        if self._seen is None or job_id in self._there:
            return False
        return self._seen - self._left.setdefault(job_id, self._seen) > _LATE


class _Task:
    """A task of the array job."""

    def __init__(self, job: Any, queue: _Queue | None):
        self._job = job
        self._queue = queue
        self._withdrawn = False

    def done(self) -> bool:
        if self._queue is None:
            return self._job.done()
        there = self._job.paths.result_pickle.exists()
        return there or self._withdrawn or self._queue.has_lost(self._job.job_id)

    def withdraw(self) -> None:
        if self._queue is not None:
            command = ["scancel", "--state=PENDING", self._job.job_id]
            subprocess.run(command, capture_output=True)
            self._withdrawn = self._job.job_id not in self._queue.look()

    def ending(self, stopping: bool) -> Ending:
        """What it returned; of a task that returned nothing, where to look."""
        if self._job.paths.result_pickle.exists() and self._job.exception() is None:
            return self._cleared(self._job.result())
        if self._withdrawn:
            return self._cleared(Ending(False))
        words = f"its job {self._job.job_id} has ended without a result"
        return Ending(False, f"{words}; see {self._job.paths.stderr}")

    def _cleared(self, ending: Ending) -> Ending:
        """What a task was started from and has printed is of interest only where it failed."""
        if not ending.failure:
            shutil.rmtree(self._job.paths.folder, ignore_errors=True)
        return ending


class _GroupJob:
    """What a task of the cluster calls; submitit has it saved by `checkpoint`."""

    _thread: threading.Thread | None = None
    _warned = False

    def __init__(self, work: Work):
        self._work = work

    def __call__(self, group: Group) -> Ending:
        endings: list[Ending] = []

        def run() -> None:
            endings.append(train_until_asked(self._work, group, lambda: self._warned))

        # The main thread waits, to hear that its time ends while the other one trains.
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self._wait()
        return endings[0]

    def checkpoint(self, group: Group) -> Any:
        """Save, as far as the cluster waits for it; what to call when it is run again."""
        self._warned = True
        self._wait(_EPOCH)
        return submitit().helpers.DelayedSubmission(_GroupJob(self._work), group)

    def _wait(self, seconds: float = math.inf) -> None:
        """For the training; by no lock, which a signal's handler could wait for once more."""
        deadline = time.monotonic() + seconds
        while self._thread and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.1)
