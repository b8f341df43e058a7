"""One cache for all tests of tasks: each conversion runs once."""

import pytest

from persist_jax import pgdl


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def sample_root(cache):
    return pgdl.pgdl_sample(cache)
