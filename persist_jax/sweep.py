"""Train every run of a grid that has no result yet, group after group."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from persist_jax.experiment import Experiment
from persist_jax.grid import Plan, form_groups, grid, has_result, plan
from persist_jax.results.records import Run, read_result
from persist_jax.training.checkpoints import Checkpoints
from persist_jax.training.epoch import Schedule
from persist_jax.training.group import Group, Job, Progress
from persist_jax.training.lanes import Layout, make_layout
from persist_jax.training.programs import Programs
from persist_jax.training.state import Best, Data, LaneState

CONTINUED = "continued"


class Sweep:
    """The sweep of an experiment in a folder.

    Args:
      experiment: what is trained.
      workdir: where results go; what is finished there is not trained again.
    """

    def __init__(self, experiment: Experiment, workdir: str | os.PathLike[str]):
        self.experiment = experiment
        self.workdir = Path(workdir)
        self.layouts = {name: self._layout(name) for name in experiment.subjects}
        self.runs = grid(experiment.config)
        self._data: Data | None = None

    def describe(self) -> Iterator[str]:
        """What there is to do, in lines for a person."""
        options, size = self.experiment.options, len(self.experiment.dataset.train.y)
        steps = Schedule(size, options.batch_size, options.snapshot_every).steps
        done = sum(has_result(run.folder(self.workdir)) for run in self.runs)
        yield (
            f"{self.experiment.config['name']}: {len(self.runs)} runs, {done} finished, "
            f"results in {self.workdir}"
        )
        yield (
            f"  {size} training examples, {steps} steps an epoch, at most {options.epochs} epochs "
            f"= {steps * options.epochs} steps a run"
        )
        for name, subject in self.experiment.subjects.items():
            runs = [run for run in self.runs if run.network == name]
            left = sum(not has_result(run.folder(self.workdir)) for run in runs)
            yield (
                f"  {name}: n = {subject.points(options.sampling)} points, {left} of {len(runs)} "
                f"runs to train, {_in_words(self.layouts[name])}"
            )

    def train(self, must_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train what is left.

        Returns:
          Whether everything is finished; ``False`` after a stop, with everything saved.
        """
        groups = plan(self.experiment.config, self.workdir)
        for number, group in enumerate(groups, 1):
            if not self._train_group(group, f"[{number}/{len(groups)}]", must_stop):
                return False
        return not self.experiment.config["continued"] or self._train_continued(must_stop)

    def _layout(self, name: str) -> Layout:
        config = self.experiment.config
        return make_layout(
            self.experiment.subjects[name].network,
            parallel=config["parallel"],
            strategy=config["lane_strategy"],
            devices=config["devices"],
            batch_size=self.experiment.options.batch_size,
        )

    def _programs(self, network: str, regulariser: str) -> Programs:
        layout = self.layouts[network]
        if self._data is None:  # every layout has the same devices
            self._data = layout.replicate(Data.of(self.experiment.dataset))
        subject = self.experiment.subjects[network]
        return Programs(
            subject.network, regulariser, self.experiment.options, layout, self._data
        )

    def _start(self, programs: Programs, run: Run) -> LaneState:
        variables = self.experiment.subjects[run.network].initial(run.seed)
        return jax.tree.map(np.asarray, programs.initial_state(variables, run.seed))

    def _train_group(self, group: Plan, label: str, must_stop) -> bool:
        run = group.runs[0]
        programs = self._programs(run.network, run.regulariser)
        jobs = [
            Job(run, run.folder(self.workdir), self._start(programs, run)) for run in group.runs
        ]
        label = f"{label} {run.network} {run.regulariser}"
        epochs = self.experiment.options.epochs
        return _train(Group(programs, jobs, group.file), label, epochs, must_stop)

    def _train_continued(self, must_stop) -> bool:
        """Continue finished runs without their regulariser, from before their best weights."""
        together: dict[tuple[str, int], list[Run]] = defaultdict(list)
        for run in self.runs:
            folder = run.folder(self.workdir)
            completed = read_result(folder).status == "completed"
            if run.regulariser != "none" and completed:
                if not has_result(folder / CONTINUED):
                    together[run.network, self._continues_at(run)].append(run)
        for (network, epoch), runs in together.items():
            programs = self._programs(network, "none")
            folder = self.workdir / "runs" / network
            lanes = self.experiment.config["max_lanes"]
            for group in form_groups(runs, folder, f"{CONTINUED}-{epoch}", lanes):
                jobs = [self._continued_job(programs, run, epoch) for run in group.runs]
                label = f"[{CONTINUED}] {network} from epoch {epoch}"
                epochs = self.experiment.options.epochs
                if not _train(Group(programs, jobs, group.file, epoch), label, epochs, must_stop):
                    return False
        return True

    def _continues_at(self, run: Run) -> int:
        folder = run.folder(self.workdir)
        best = read_result(folder).best_epoch
        return max((e for e in Checkpoints(folder).epochs() if e < best), default=0)

    def _continued_job(self, programs: Programs, run: Run, epoch: int) -> Job:
        """The run's state at an epoch, as the start of a training of its own."""
        folder = run.folder(self.workdir)
        fresh = self._start(programs, run)
        if epoch == 0:
            return Job(run, folder / CONTINUED, fresh)
        like = self._start(self._programs(run.network, run.regulariser), run)
        state = Checkpoints(folder).load(epoch, like)
        start = fresh._replace(
            params=state.params,
            batch_stats=state.batch_stats,
            opt_state=state.opt_state,
            best=Best(state.params, state.batch_stats, fresh.best.loss, fresh.best.epoch),
        )
        return Job(run, folder / CONTINUED, start)


def _train(group: Group, label: str, epochs: int, must_stop: Callable[[], bool]) -> bool:
    """Train a group behind a progress bar, or with one closing line where there is no terminal."""
    with tqdm(total=epochs, initial=group.epoch, desc=label, unit="epoch", disable=None) as bar:
        shown = not bar.disable

        def report(progress: Progress) -> None:
            bar.set_postfix_str(
                f"{progress.training} training, validation loss {progress.validation_loss:.4f}",
                refresh=False,
            )
            bar.update()

        finished = group.train(report, must_stop)
    if not shown:
        print(f"{label}: {group.epoch} epochs{'' if finished else ', interrupted'}", flush=True)
    return finished


def _in_words(layout: Layout) -> str:
    count = len(layout.devices)
    devices = f"{count} device{'s' if count > 1 else ''} ({layout.devices[0].platform})"
    together = "together" if layout.strategy == "vmap" else "one after another"
    shared = ", sharing each batch" if layout.axis_name else ""
    return f"lanes {together} on {devices}{shared}"
