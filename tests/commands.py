"""Commands of `launch/` in processes that start with everything imported: a fork, not a start.

`python -m launch.report` spends seconds on imports that say nothing of the command. Here one
process imports them, and every command is a fork of it, with its own arguments, environment,
standard output and exit status. What a start itself does (signals during imports, packages that
are missing) is tested by real ones.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
_IMPORTED = [
    "absl.flags",
    "ml_collections.config_flags",
    "persist_jax.pgdl",
    "persist_jax.results.report",
    "persist_jax.sweep.executors",
    "sklearn.datasets",
]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.commands", *_IMPORTED])


def environment(**extra: str) -> dict[str, str]:
    """That of a command on as many devices as it takes by itself, and without our other settings.

    Its programs are compiled as quickly as those of the tests.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    quick = " ".join(flag for flag in flags if "device_count" not in flag)
    left_out = ("PGDL_ROOT", "JAX_COMPILATION_CACHE_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"XLA_FLAGS": quick} | extra


def _become(
    module: str,
    arguments: list[str],
    environment: dict[str, str],
    missing: tuple[str, ...],
    words: Path,
) -> None:
    """What `python -m module arguments` does after the imports, with its words in files."""
    sys.modules.update(dict.fromkeys(missing))
    for stream, name in ((1, "out"), (2, "error")):
        os.dup2(os.open(words / name, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = [module, *arguments]
    sys.orig_argv = [sys.executable, "-m", module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def run_command(
    module: str,
    *arguments: object,
    environment: Mapping[str, str] = os.environ,
    missing: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module arguments` from our folder, to its end.

    Args:
        module: the command.
        arguments: its arguments.
        environment: its environment.
        missing: packages that it finds to be not installed.

    Returns:
        What `subprocess.run` returns.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = Path(folder)
        given = [str(argument) for argument in arguments]
        process = _FORKS.Process(
            target=_become, args=(module, given, dict(environment), missing, words)
        )
        process.start()
        process.join(300)
        process.kill()
        process.join()
        said = [(words / name).read_text(encoding="utf-8") for name in ("out", "error")]
    return subprocess.CompletedProcess([module, *arguments], process.exitcode, *said)
