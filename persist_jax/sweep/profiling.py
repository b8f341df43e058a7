"""Profile one epoch with JAX's profiler, and print how to view the profile."""

from pathlib import Path

import jax


class Profile:
    """A profile of the time between `start` and `stop`, in a new folder below `folder`.

    If the profile fails, training continues.
    """

    def __init__(self, folder: Path, label: str):
        self._folder, self._label, self._runs = folder, label, False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin the profile."""
        options = jax.profiler.ProfileOptions()
        # Python calls, most of them from the compiling threads, would hide everything else.
        options.python_tracer_level = 0
        how = {"create_perfetto_trace": True, "profiler_options": options}
        jax.profiler.start_trace(self._folder, **how)
        self._runs = True

    def stop(self) -> None:
        """End the profile, if one has begun, and print its path."""
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
