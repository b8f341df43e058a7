"""What a network has more than once: constant neurons, correlated pairs, clusters."""

from persist_jax.redundancy.find import redundancy
from persist_jax.redundancy.found import LayerCount, Pair, Redundancy

__all__ = ["LayerCount", "Pair", "Redundancy", "redundancy"]
