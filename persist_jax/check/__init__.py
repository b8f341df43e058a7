"""Check that a spanning tree is minimal, independently of the code that finds trees."""

from persist_jax.check.answer import TreeCheck, check_tree

__all__ = ["TreeCheck", "check_tree"]
