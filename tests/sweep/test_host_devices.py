"""What the machine has: cores as devices, and the memory of each."""

import os

import jax

from persist_jax.sweep import load_experiment, plan
from persist_jax.sweep.machine import cores_that_fit, memory_of_a_device
from persist_jax.sweep.plan import describe_memory
from persist_jax.training.memory import footprint


def test_as_many_cores_as_their_memory_allows():
    assert cores_that_fit(1) == jax.local_device_count() == 4
    assert cores_that_fit(2**60) == 1


class Device:
    def __init__(self, stats):
        self._stats = stats

    def memory_stats(self):
        return self._stats


def test_a_device_says_its_limit_and_cores_have_what_is_available():
    assert memory_of_a_device(Device({"bytes_limit": 7})) == (7, "that JAX may use of a device")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for stats in (None, {"bytes_in_use": 1}):
        limit, whose = memory_of_a_device(Device(stats))
        assert 2**20 < limit <= total and whose.endswith("this machine")


def test_a_plan_says_how_many_lanes_fit(small, monkeypatch):
    monkeypatch.setattr(plan, "memory_of_a_device", lambda device: (10**9, "of gold"))
    experiment = load_experiment(small(networks=["mlp", "other"], lane_strategy="vmap"))
    for network, line in zip(("mlp", "other"), describe_memory(experiment), strict=True):
        of = footprint(
            experiment.models[network],
            experiment.dataset,
            experiment.options(network),
            experiment.layout(network),
        )
        assert line.startswith(f"  {network}: about {of.lane / 1e6:.3g} MB a lane and ")
        assert line.endswith(f"; {(10**9 - of.once) // of.lane} lanes fit (1 GB of gold)")
    elsewhere = list(describe_memory(experiment, here=False))
    assert len(elsewhere) == 2 and not any("fit" in line for line in elsewhere)
