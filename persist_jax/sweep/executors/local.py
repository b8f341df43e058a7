"""Groups one after another in this process, the next ones compiled meanwhile."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from persist_jax.sweep.executors.ending import attempt
from persist_jax.sweep.executors.view import View
from persist_jax.sweep.executors.work import Outcome, Work
from persist_jax.sweep.grid import Group
from persist_jax.sweep.group import compile_group, train_group
from persist_jax.sweep.progress import show_progress

# Groups whose programs are compiled while one trains: compilation takes one core, and training
# little of a second one as long as there are programs to compile.
_AHEAD = 2


def local(work: Work, groups: Sequence[Group], must_stop: Callable[[], bool]) -> Outcome:
    """Train every group here."""
    view = View(groups)
    compilation = ThreadPoolExecutor(_AHEAD, "compile")
    try:
        following = iter(groups[1:])
        for number, group in enumerate(groups):
            for later in itertools.islice(following, 1 if number else _AHEAD):
                compilation.submit(compile_group, work.config, later, work.workdir)

            def training(group: Group = group, number: int = number) -> bool:
                with show_progress(f"[{number + 1}/{len(groups)}] {group.label}") as report:
                    how = {"report": report, "must_stop": must_stop}
                    how |= {"tensorboard": work.tensorboard, "profile": work.profile and not number}
                    return train_group(work.config, group, work.workdir, **how)

            ending = attempt(training)
            if ending.failure or ending.error:
                view.ends(number, ending)
            elif not ending.finished:
                return Outcome(False, tuple(view.failures))
    finally:
        # Whoever has stopped need not wait for what the next groups would have taken.
        compilation.shutdown(wait=False, cancel_futures=True)
    return Outcome(True, tuple(view.failures))
