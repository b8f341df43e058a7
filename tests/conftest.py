"""Strict numerics for every test, and four host devices so that device code runs without a GPU."""

import mmap
import os
from importlib.util import find_spec
from pathlib import Path

# Four devices are what a GPU machine seldom has: there too the tests run on the CPU, unless asked:
# `JAX_PLATFORMS=cuda python -m pytest tests/kernels`.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["JAX_PLATFORMS"] == "cpu":
    # Most of the suite's time is compilation of programs that run once: optimise them less. On a
    # GPU that would test other kernels than those that run.
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    # XLA's newer code generation for fused operations takes most of what is left. XLA ends the
    # process over a flag that it does not know.
    newer = "xla_cpu_use_fusion_emitters"
    library = Path(find_spec("jaxlib").origin).with_name("libjax_common.so")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        flags += f" --{newer}=false" if content.find(newer.encode()) >= 0 else ""
    # Of a flag that is there twice the last one counts: that of whoever runs the tests.
    os.environ["XLA_FLAGS"] = f"{flags} {os.environ.get('XLA_FLAGS', '')}"

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

DATA = Path(__file__).parent / "data"


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


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """A worker would otherwise keep gigabytes of programs that no later module runs."""
    yield
    jax.clear_caches()


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
