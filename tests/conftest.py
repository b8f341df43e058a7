"""Strict numerics for every test, and four host devices so that device code runs without a GPU."""

import os

# Four devices are what a GPU machine seldom has: there too the tests run on the CPU, unless asked.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is compilation of programs that run once: optimise them less.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",
    ]
)

from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

DATA = Path(__file__).parent / "data"


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
