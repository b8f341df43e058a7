"""Whether a spanning tree is minimal, checked by other code than the one that finds trees."""

from persist_jax.check.answer import TreeCheck, check_tree

__all__ = ["TreeCheck", "check_tree"]
