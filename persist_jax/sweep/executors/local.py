"""Groups one after another in this process, the next ones compiled meanwhile."""

import itertools
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from persist_jax.store.lease import GroupTaken
from persist_jax.sweep.executors.work import Failure, Outcome, Work
from persist_jax.sweep.grid import Group
from persist_jax.sweep.group import compile_group, train_group
from persist_jax.sweep.progress import show_progress

# Groups whose programs are compiled while one trains: compilation takes one core, and training
# little of a second one as long as there are programs to compile.
_AHEAD = 2


def local(work: Work, groups: Sequence[Group], must_stop: Callable[[], bool]) -> Outcome:
    """Train every group here; what is wrong with one is raised and ends the sweep."""
    following = iter(groups[1:])
    failures = []
    compilation = ThreadPoolExecutor(_AHEAD, "compile")
    try:
        for number, group in enumerate(groups, 1):
            for later in itertools.islice(following, _AHEAD if number == 1 else 1):
                compilation.submit(compile_group, work.config, later, work.workdir)
            with show_progress(f"[{number}/{len(groups)}] {group.label}") as report:
                how = {"report": report, "must_stop": must_stop, "tensorboard": work.tensorboard}
                how |= {"profile": work.profile and number == 1}
                try:
                    if not train_group(work.config, group, work.workdir, **how):
                        return Outcome(False, tuple(failures))
                except GroupTaken as taken:
                    print(taken, file=sys.stderr, flush=True)
                    failures.append(Failure(group.label, str(taken)))
    finally:
        # Whoever has stopped need not wait for what the next groups would have taken.
        compilation.shutdown(wait=False, cancel_futures=True)
    return Outcome(True, tuple(failures))
