"""What a run's record says of the machine and the code that it was trained with."""

from importlib.metadata import PackageNotFoundError, version

from persist_jax.sweep import origin


def test_a_package_may_be_on_the_path_and_not_installed(monkeypatch):
    def installed(name):
        if name == "persist_jax":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(origin, "version", installed)
    versions = origin._versions.__wrapped__()
    assert versions["persist_jax"] == "not installed"
    assert versions["jax"] == version("jax")
