"""A group of runs that train as lanes of one program, from their start to their results."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from persist_jax.results.records import Run, replace_file, write_result
from persist_jax.training.checkpoints import BEST, Checkpoints
from persist_jax.training.history import History
from persist_jax.training.programs import Programs
from persist_jax.training.state import REASONS, Lane, LaneState, join


@dataclass(frozen=True)
class Job:
    """A run to train: what it is, where it writes, and what it starts from."""

    run: Run
    folder: Path
    start: LaneState


class Progress(NamedTuple):
    """What a person sees of a group after an epoch."""

    epoch: int
    training: int
    validation_loss: float  # the lowest of the lanes in training


class Group:
    """Trains jobs as lanes of one program.

    The group's file holds everything that decides which programs it takes: the epoch and which
    lane is where. It is written after the checkpoints of its runs, so it never names one that is
    not whole.

    Args:
      programs: what trains the lanes.
      jobs: the runs; all start at the same epoch.
      file: where the group keeps its own state between sessions.
      start_epoch: epochs that the starting states have behind them.
    """

    def __init__(
        self, programs: Programs, jobs: list[Job], file: Path, start_epoch: int = 0
    ):
        self._programs = programs
        self._jobs = jobs
        self._file = file
        saved = json.loads(file.read_text()) if file.exists() else None
        self._epoch = saved["epoch"] if saved else start_epoch
        self._initial: list[dict[str, float] | None] = (
            saved["initial"] if saved else [None] * len(jobs)
        )
        self._history = [History(job.folder, self._epoch) for job in jobs]
        finished = [(job.folder / "result.json").exists() for job in jobs]
        slots = saved["slots"] if saved else list(range(len(jobs)))
        states = {
            index: self._load(job) if saved else job.start
            for index, job in enumerate(jobs)
            if not finished[index] and index in slots
        }
        self._place(slots, states)
        if not saved:
            self._measure_initial()

    @property
    def epoch(self) -> int:
        """Epochs trained so far."""
        return self._epoch

    def train(self, report: Callable[[Progress], None], must_stop: Callable[[], bool]) -> bool:
        """Train until every run has ended, or until told to stop.

        Returns:
          Whether every run has ended. If not, everything is saved and the group can go on later.
        """
        options = self._programs.options
        while any(self._wanted):
            losses = self._train_epoch()
            ended = self._epoch >= options.epochs
            self._finish([slot for slot in self._training() if ended or not self._active[slot]])
            self._compact()
            report(Progress(self._epoch, sum(self._wanted), float(np.min(losses))))
            stop, due = must_stop(), self._epoch % options.checkpoint_every == 0
            if any(self._wanted) and (due or stop):
                self._save()
                if stop:
                    return False
        self._file.unlink(missing_ok=True)
        return True

    def _training(self) -> list[int]:
        return [slot for slot, wanted in enumerate(self._wanted) if wanted]

    def _train_epoch(self) -> np.ndarray:
        run = self._programs.train_epoch(self._lanes, self._wanted, self._epoch)
        start = time.perf_counter()
        self._lanes, metrics = run()
        seconds = (time.perf_counter() - start) / sum(self._wanted)
        state = self._programs.layout.fetch(
            {
                "active": self._lanes.state.active,
                "ended_at": self._lanes.state.ended_at,
            }
        )
        self._active = state["active"]
        for slot in self._training():
            row = jax.tree.map(lambda leaf, slot=slot: leaf[slot], metrics)
            self._history[self._slots[slot]].append(
                row, self._epoch, seconds, self._programs.schedule, int(state["ended_at"][slot])
            )
        self._epoch += 1
        return metrics.validation_loss[self._training()]

    def _finish(self, slots: list[int]) -> None:
        """Evaluate and write the results of runs that have ended."""
        if not slots:
            return
        ended = np.isin(np.arange(len(self._slots)), slots)
        accuracies = self._programs.accuracies(self._lanes, ended)
        for slot in slots:
            trained = {part: float(values[slot]) for part, values in accuracies.items()}
            self._write(slot, trained)
        self._wanted = self._wanted & ~ended

    def _write(self, slot: int, trained: dict[str, float]) -> None:
        index = self._slots[slot]
        job, history = self._jobs[index], self._history[index]
        state = self._programs.layout.fetch_lane(self._lanes.state, slot)
        checkpoints = Checkpoints(job.folder)
        checkpoints.save(BEST, join(state.best.params, state.best.batch_stats))
        checkpoints.prune(int(state.best.epoch), newest=False)
        rows = history.finish()
        write_result(
            job.folder, _record(job.run, state, rows, self._epoch, self._programs.schedule.steps)
            | {"accuracy": {"initial": self._initial[index], "trained": trained}},
        )
        history.discard_parts()

    def _save(self) -> None:
        """Checkpoint every run in training, then the group itself."""
        for slot in self._training():
            job, history = self._jobs[self._slots[slot]], self._history[self._slots[slot]]
            state = self._programs.layout.fetch_lane(self._lanes.state, slot)
            Checkpoints(job.folder).save(self._epoch, state)
            history.flush(self._epoch)
        saved = {
            "epoch": self._epoch,
            "runs": [list(asdict(job.run).values()) for job in self._jobs],
            "slots": self._slots,
            "initial": self._initial,
        }
        replace_file(self._file, json.dumps(saved).encode())
        for slot in self._training():
            best = self._programs.layout.fetch_lane(self._lanes.state.best.epoch, slot)
            Checkpoints(self._jobs[self._slots[slot]].folder).prune(int(best), newest=True)

    def _compact(self) -> None:
        """Once half of the lanes have ended, go on with a program of those that have not."""
        training, layout = self._training(), self._programs.layout
        fewer = layout.lanes_for(len(training))
        if not training or not layout.compacts or 2 * fewer > len(self._slots):
            return
        states = {
            self._slots[slot]: layout.fetch_lane(self._lanes.state, slot) for slot in training
        }
        self._place([self._slots[slot] for slot in training], states)

    def _place(self, slots: list[int | None], states: dict[int, LaneState]) -> None:
        """Lay the states out; a slot without one is filled with a copy that is not trained."""
        layout = self._programs.layout
        spare = layout.lanes_for(len(slots)) - len(slots)
        self._slots = [*slots, *[None] * spare]
        self._wanted = np.array([index in states for index in self._slots])
        if not states:
            return
        filler = next(iter(states))
        used = [index if index in states else filler for index in self._slots]
        self._lanes = layout.place(
            [
                Lane(states[index], np.asarray(self._jobs[index].run.weight, np.float32))
                for index in used
            ]
        )

    def _measure_initial(self) -> None:
        accuracies = self._programs.accuracies(self._lanes, self._wanted)
        for slot, index in enumerate(self._slots):
            if index is not None:
                self._initial[index] = {
                    part: float(values[slot]) for part, values in accuracies.items()
                }

    def _load(self, job: Job) -> LaneState:
        return Checkpoints(job.folder).load(self._epoch, job.start)


def _record(run: Run, state: LaneState, rows: PyTree, epochs: int, steps: int) -> dict[str, Any]:
    reason = REASONS[int(state.reason)]
    best_epoch, loss = int(state.best.epoch), float(state.best.loss)
    return {
        "network": run.network,
        "regulariser": run.regulariser,
        "weight": run.weight,
        "seed": run.seed,
        "status": "diverged" if reason else "completed",
        "reason": f"{reason} at iteration {int(state.ended_at)}" if reason else None,
        "epochs": epochs,
        "best_epoch": best_epoch,
        "best_iteration": best_epoch * steps,
        "validation_loss": loss if np.isfinite(loss) else None,
        "seconds": float(np.sum(rows["seconds"])),
    }
