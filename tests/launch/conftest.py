import pytest

from tests.launch.two_groups import end, start


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """The sweep of two groups, by one process."""
    folder = tmp_path_factory.mktemp("alone")
    end(start(folder))
    return folder
