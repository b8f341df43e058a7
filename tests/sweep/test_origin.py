"""What a run's record says of the machine and the code that it was trained with."""

from importlib.metadata import PackageNotFoundError, version

import persist_jax
from persist_jax.sweep import origin


def test_a_package_that_is_on_the_path_only_has_its_own_version(monkeypatch):
    def installed(name):
        if name == "persist_jax":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(origin, "version", installed)
    versions = origin._versions.__wrapped__()
    assert versions["persist_jax"] == persist_jax.__version__
    assert versions["jax"] == version("jax")
