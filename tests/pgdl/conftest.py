"""The embedded sample, written once."""

import pytest

from persist_jax import pgdl


@pytest.fixture(scope="session")
def sample_root(cache):
    return pgdl.pgdl_sample(cache)
