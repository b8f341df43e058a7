"""One epoch in JAX's profiler, and how to look at it."""

from pathlib import Path

import jax


class Profile:
    """A profile of what happens between `start` and `stop`, in a folder of its own below `folder`.

    A profile that fails costs nothing else.
    """

    def __init__(self, folder: Path, label: str):
        self._folder, self._label, self._runs = folder, label, False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin."""
        options = jax.profiler.ProfileOptions()
        # Calls of Python, most of them of the threads that compile, would bury the rest.
        options.python_tracer_level = 0
        how = {"create_perfetto_trace": True, "profiler_options": options}
        jax.profiler.start_trace(self._folder, **how)
        self._runs = True

    def stop(self) -> None:
        """End a profile that has begun, and say where it is."""
        if not self._runs:
            return
        self._runs = False
        try:
            jax.profiler.stop_trace()
            file = max(self._folder.rglob("perfetto_trace.json.gz"))  # folders are named by time
            words = f"Profile of {self._label}: open {file} at https://ui.perfetto.dev, "
            words += f"or pip install xprof and run xprof --logdir={self._folder}"
        except (OSError, RuntimeError, ValueError) as error:
            words = f"profile: {' '.join(str(error).split())}"
        print(words, flush=True)
