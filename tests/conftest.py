"""Strict numerics for every test, and four host devices so that device code runs without a GPU."""

import atexit
import gc
import mmap
import os
import resource
import shutil
import sys
import tempfile
from functools import partialmethod
from importlib.util import find_spec
from pathlib import Path

# Four devices are what a GPU machine seldom has: there too the tests run on the CPU, unless asked:
# `JAX_PLATFORMS=cuda python -m pytest tests/kernels`.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["JAX_PLATFORMS"] == "cpu":
    # Most of the suite's time is compilation of programs that run once: optimise them less. On a
    # GPU that would test other kernels than those that run.
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    # XLA's newer code generation for fused operations takes most of what is left, and cutting a
    # program into pieces that are compiled side by side costs more than it saves on few cores. XLA
    # ends the process over a flag that it does not know.
    quicker = {"xla_cpu_use_fusion_emitters": "false", "xla_cpu_parallel_codegen_split_count": "1"}
    library = Path(find_spec("jaxlib").origin).with_name("libjax_common.so")
    if library.exists():  # its name on Linux
        with library.open("rb") as file, mmap.mmap(
            file.fileno(), 0, access=mmap.ACCESS_READ
        ) as content:
            known = [name for name in quicker if content.find(name.encode()) >= 0]
        flags = " ".join([flags, *(f"--{name}={quicker[name]}" for name in known)])
    # Of a flag that is there twice the last one counts: that of whoever runs the tests.
    os.environ["XLA_FLAGS"] = f"{flags} {os.environ.get('XLA_FLAGS', '')}"
    # A program that several modules, workers or processes need is compiled once in a session.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # which the workers of xdist inherit
        programs = tempfile.mkdtemp(prefix="programs-of-tests-")
        atexit.register(shutil.rmtree, programs, ignore_errors=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = programs
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax
import jaxtyping
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

DATA = Path(__file__).parent / "data"
_most_memory = 2 * 2**30


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    """Notebooks train, and each starts Python."""
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker("slow")


def pytest_collection_finish():
    """Leave what is imported, and most of the time everything, out of the search for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Skip what this machine's devices cannot show; the marks are described in pyproject.toml."""
    for mark in item.iter_markers("needs_devices"):
        (wanted,) = mark.args
        if jax.device_count() < wanted:
            pytest.skip(f"needs {wanted} devices, here {jax.device_count()}")
    for mark in item.iter_markers("needs_cpu"):
        (why,) = mark.args
        if jax.default_backend() != "cpu":
            pytest.skip(f"of CPUs only: {why}")
    if item.get_closest_marker("needs_gpu") and jax.default_backend() != "gpu":
        pytest.skip("needs an NVIDIA GPU")


@pytest.fixture(scope="module")
def float32_products():
    """Networks in full float32, as the published code was run.

    Otherwise a recent NVIDIA GPU computes their products in TF32, with errors of 1e-3. Not for the
    kernels' own tests: kernels have to ask for float32 themselves.
    """
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def code_of_users():
    """Programs generated as outside of tests, for equality to the bit of two that differ.

    XLA's older code generation fuses a loop over one lane, which is none, in another way than the
    same body in a loop over two.
    """
    compiler = {"xla_cpu_use_fusion_emitters": True}
    with pytest.MonkeyPatch.context() as patch:
        if jax.default_backend() == "cpu":
            compile = partialmethod(jax.stages.Lowered.compile, compiler_options=compiler)
            patch.setattr(jax.stages.Lowered, "compile", compile)
        yield


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """A worker would otherwise keep gigabytes of programs that no later module runs.

    Memory that is freed stays with the process and serves the next programs, so it is the peak that
    has to grow before they are forgotten again, not what is resident.
    """
    global _most_memory
    yield
    if (peak := _peak_memory()) > _most_memory:
        jax.clear_caches()
        _most_memory = peak + 2**29


def _peak_memory():
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(scope="session")
def forget_kernels():
    """For a test that changes what kernels are made of: a trace that is kept would not look."""

    def forget():
        for name, module in list(sys.modules.items()):
            if name.startswith(("persist_jax.kernels", "persist_jax.terms")):
                for function in vars(module).values():
                    if hasattr(function, "clear_cache"):  # of what is jitted
                        function.clear_cache()

    return forget


@pytest.fixture
def traced_anew(forget_kernels):
    """Kernels are traced again in this test, and after it; and where it calls this."""
    forget_kernels()
    yield forget_kernels
    forget_kernels()


@pytest.fixture
def unchecked_types():
    """Arguments of any type, as in a user's process.

    With `--jaxtyping-packages`, as in `.ci/run`, every function of ours is held to its annotations,
    so a wrong choice would be refused before our own line about it.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Golden:
    """One case of tests/data/golden: what the published code returned on a small network."""

    def __init__(self, name: str):
        from persist_jax import pgdl

        self._pgdl = pgdl
        path = DATA / "golden" / name
        self.arrays = dict(np.load(f"{path}.npz"))
        self.network, self.variables = pgdl.read_network(
            f"{path}.config.json", f"{path}.hdf5"
        )

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def weights(self, prefix: str = "w"):
        """The variables stored under ``w00:...``, or ``final:w00:...`` with another prefix."""
        names = [n for n in self.arrays if n.startswith(prefix) and n[len(prefix)].isdecimal()]
        arrays = [self.arrays[name] for name in sorted(names)]
        return self._pgdl.variables_from_weights(self.network, arrays)

    def gradient(self, term: str) -> list[np.ndarray] | None:
        """The gradient of a term per trainable variable in layer order, if it was finite."""
        names = [name for name in self.arrays if name.startswith(f"{term}/grad:")]
        return [self.arrays[name] for name in names] or None


@pytest.fixture(scope="session")
def golden():
    return Golden


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache of data for all tests and workers: each conversion runs once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return folder / "cache-of-data"
