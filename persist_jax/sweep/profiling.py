"""One epoch in JAX's profiler, and how to look at it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax


@contextmanager
def profiled(folder: Path, label: str) -> Iterator[None]:
    """Profile what is done inside, and say where it is; a profile that fails costs nothing else.

    Args:
        folder: where profiles go, each into a folder of its own below it.
        label: what is profiled, in words.
    """
    options = jax.profiler.ProfileOptions()
    # Calls of Python, most of them of the threads that compile, would bury the rest.
    options.python_tracer_level = 0
    jax.profiler.start_trace(folder, create_perfetto_trace=True, profiler_options=options)
    try:
        yield
    finally:
        try:
            jax.profiler.stop_trace()
            # Folders are named after the time.
            file = max(folder.rglob("perfetto_trace.json.gz"))
        except (OSError, RuntimeError, ValueError) as error:
            print(f"profile: {' '.join(str(error).split())}", flush=True)
        else:
            print(
                f"Profile of {label}: open {file} at https://ui.perfetto.dev, "
                f"or pip install xprof and run xprof --logdir={folder}",
                flush=True,
            )
