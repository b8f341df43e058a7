"""Redundant neurons of a network: constant ones, correlated pairs, clusters; and pruning them."""

from persist_jax.redundancy.find import redundancy
from persist_jax.redundancy.found import LayerCount, Pair, Redundancy
from persist_jax.redundancy.pruning import Pruned, prune

__all__ = ["LayerCount", "Pair", "Pruned", "Redundancy", "prune", "redundancy"]
