import jax

from persist_jax.sweep.host_devices import cores_that_fit


def test_as_many_cores_as_their_memory_allows():
    assert cores_that_fit(1) == jax.local_device_count() == 4
    assert cores_that_fit(2**60) == 1
