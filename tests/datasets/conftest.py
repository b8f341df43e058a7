"""One cache for all tests of the data: each conversion runs once."""

import pytest

from persist_jax import data


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def sample_root(cache):
    return data.pgdl_sample(cache)
