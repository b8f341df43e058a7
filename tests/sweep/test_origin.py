"""What a run's record says of the machine and the code that it was trained with."""

from importlib.metadata import PackageNotFoundError, version

import jax

from persist_jax.sweep import load_experiment, origin


def test_a_package_may_be_on_the_path_and_not_installed(monkeypatch):
    def installed(name):
        if name == "persist_jax":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(origin, "version", installed)
    versions = origin._versions.__wrapped__()
    assert versions["persist_jax"] == "not installed"
    assert versions["jax"] == version("jax")


def test_the_default_precision_is_what_jax_was_told(small):
    """JAX_DEFAULT_MATMUL_PRECISION in the environment decides where the configuration does not."""

    def said(**changes):
        experiment = load_experiment(small(**changes))
        return origin.origin_of(experiment, "mlp", "l2").matmul_precision

    assert said() == "default"
    with jax.default_matmul_precision("highest"):
        assert said() == "highest"
        assert said(**{"train.matmul_precision": "bfloat16"}) == "bfloat16"
