"""Placement of a kernel's arrays on devices: lanes of a `vmap`, meshes and mapped axes.

On one device and without `vmap`, these functions change nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def replicated(array: Array) -> Array:
    """Replicate an array over its explicit mesh; return any other array unchanged.

    A tree depends on all points at once, so no device can work on a shard of them.
    """
    sharding = jax.typeof(array).sharding
    if all(axes is None for axes in sharding.spec):
        return array
    return jax.sharding.reshard(array, NamedSharding(sharding.mesh, PartitionSpec()))


def with_lanes(
    function: Callable[[Array], Any], lanes: Callable[[Callable, Array], Any]
) -> Callable[[Array], Any]:
    """Return `function` of one array such that its `vmap` calls `lanes(function, arrays)`.

    If an explicit mesh splits the lanes, each device computes its own lanes.
    """

    @jax.custom_batching.custom_vmap
    def one(array):
        return function(array)

    @one.def_vmap
    def many(axis_size, in_batched, arrays):
        results = lanes_where_they_are(lambda arrays: lanes(one, arrays))(arrays)
        return results, jax.tree.map(lambda _: True, results)

    return one


def lanes_where_they_are(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """Return `function` of lanes such that each device of an explicit mesh runs its own lanes."""

    def of_all(lanes):
        sharding = jax.typeof(lanes).sharding
        axes = sharding.spec[0]
        if axes is None:
            return function(lanes)
        spec = PartitionSpec(axes)
        names = {axes} if isinstance(axes, str) else set(axes)
        mapped = jax.shard_map(
            function, mesh=sharding.mesh, in_specs=spec, out_specs=spec, axis_names=names
        )
        return mapped(lanes)

    return of_all


def on_mesh_of(tree: Any, example: Array) -> Any:
    """Replicate the constants in `tree` over the explicit mesh of the example, if it has one."""
    mesh = jax.typeof(example).sharding.mesh
    if not mesh.explicit_axes:
        return tree
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.sharding.reshard(leaf, whole), tree)


def varying_as(tree: Any, *examples: Array | int) -> Any:
    """Type the arrays of `tree` as varying over the mapped axes over which the examples vary.

    Under `jax.shard_map`, the carry of a loop must keep its type, and a constant starts with the
    type of an array that is the same on all devices.
    """
    axes = frozenset().union(*map(_varying, examples))

    def cast(leaf):
        missing = tuple(sorted(axes - _varying(leaf)))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree)


def same_on_all(tree: Any, example: Array, axis_name: str | None) -> Any:
    """Type integers that are the same on all devices of an axis as such, if the example is."""
    if axis_name is None or axis_name in _varying(example):
        return tree
    return jax.tree.map(
        lambda leaf: lax.pmax(leaf, axis_name) if axis_name in _varying(leaf) else leaf, tree
    )


def left_to_the_compiler(array: Array) -> bool:
    """Whether the compiler decides how the array is sharded over several devices."""
    mesh = jax.typeof(array).sharding.mesh
    kinds = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    return any(size > 1 and kind == AxisType.Auto for size, kind in kinds)


def _varying(array: Any) -> frozenset:
    return jax.typeof(array).manual_axis_type.varying
