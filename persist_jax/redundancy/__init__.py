"""What a network has more than once: constant neurons, correlated pairs, clusters; and without."""

from persist_jax.redundancy.find import redundancy
from persist_jax.redundancy.found import LayerCount, Pair, Redundancy
from persist_jax.redundancy.pruning import Pruned, prune

__all__ = ["LayerCount", "Pair", "Pruned", "Redundancy", "prune", "redundancy"]
