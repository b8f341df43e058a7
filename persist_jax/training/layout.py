"""Lanes and devices: one program that trains many runs. The code of one run knows of neither."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

AXIS = "devices"
PARALLEL = ("lanes", "batch")
STRATEGIES = ("auto", "vmap", "map")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Placement of lanes on devices: every array has leading axes `(devices, lanes on each)`.

    Attributes:
        devices: the devices that train. If they belong to several processes, each process has the
            arrays of its own devices.
        parallel: `"lanes"`: each device has its own lanes. `"batch"`: every device has all lanes
            and a share of every batch.
        lane_strategy: `"vmap"`: lanes of one device advance together; `"map"`: one after another.
    """

    devices: tuple[Any, ...]
    parallel: str
    lane_strategy: str

    @property
    def axis_name(self) -> str | None:
        """The mapped axis over which a batch is split, if any."""
        return AXIS if self.parallel == "batch" and len(self.devices) > 1 else None

    @property
    def own_devices(self) -> tuple[Any, ...]:
        """The devices of this process."""
        here = jax.process_index()
        return tuple(device for device in self.devices if device.process_index == here)

    @property
    def spans_processes(self) -> bool:
        """Whether other processes have some of the devices."""
        return len(self.own_devices) < len(self.devices)

    def lanes_for(self, runs: int) -> int:
        """The number of lanes, over all devices, of a program that trains this many runs."""
        if self.parallel == "batch":
            return runs
        return math.ceil(runs / len(self.devices)) * len(self.devices)

    def later(self, lanes: int) -> list[int]:
        """Numbers of lanes of the smaller programs that continue a program's last runs.

        Largest first. With `"map"`, ended lanes take no time, but a device with fewer lanes takes
        less time. So on several devices, there are programs of every size up to half of the lanes.
        With `"vmap"`, every lane is computed to the last epoch. A step of the first MNIST network
        under T1 takes 0.5 ms for one lane on an H100 and 1.6 ms for 15. Halving ten lanes would
        save less than 0.1 s of an epoch of 188 steps, while compiling a program takes 10 to 15 s.
        So each program has a quarter of the previous one's lanes; with fewer than four lanes there
        is none.
        """
        sharing = 1 if self.parallel == "batch" else len(self.devices)
        each = lanes // sharing
        if self.lane_strategy == "vmap":
            sizes = [each // 4**power for power in range(1, each) if each // 4**power]
        else:
            sizes = list(range(each // 2, 0, -1)) if sharing > 1 else []
        return [sharing * size for size in sizes]

    def place(self, lanes: Sequence[PyTree]) -> PyTree:
        """Stack single lanes and put them on the devices."""
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)
        if self.parallel == "batch":
            return self.replicate(stacked)
        return self._put(
            jax.tree.map(lambda leaf: leaf.reshape(len(self.devices), -1, *leaf.shape[1:]), stacked)
        )

    def replicate(self, tree: PyTree) -> PyTree:
        """Put a copy of the tree on every device."""
        count = len(self.own_devices)
        return self._put(
            jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count, *np.shape(leaf))), tree)
        )

    def shapes(self, tree: PyTree, lanes: int | None) -> PyTree:
        """The shapes of this many copies of one lane after `place`.

        If `lanes` is None, the shapes of the tree after `replicate`.
        """
        front = (len(self.own_devices),)
        if lanes is not None:
            front += (lanes if self.parallel == "batch" else lanes // len(self.devices),)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                front + np.shape(leaf), leaf.dtype, sharding=self._sharding
            ),
            tree,
        )

    def fetch(self, tree: PyTree) -> PyTree:
        """Copy a program's results to the host, with a leading lane axis."""
        if self.parallel == "batch":
            return jax.tree.map(lambda leaf: np.asarray(leaf[0]), tree)
        return jax.tree.map(lambda leaf: np.concatenate(np.asarray(leaf)), tree)

    def program(self, function: Callable, *, trains: bool) -> Callable:
        """Make a program that maps `function(lane, *shared)` over all lanes and devices.

        The program is called as `program(lanes, wanted, *shared)`; `wanted` is true for each lane
        to compute, and `shared` is replicated. An unwanted lane gives zeros. If the program
        `trains`, its function returns `(lane, metrics)`, and an unwanted lane is returned
        unchanged, with metrics of zeros.
        """

        # Traced once: a skipped lane needs its shapes.
        function = jax.jit(function, inline=True)

        def skipped(lane, shared):
            shapes = jax.eval_shape(function, lane, *shared)
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
            return (lane, zeros[1]) if trains else zeros

        def one_lane(lane, wanted, shared):
            return jax.lax.cond(
                wanted, lambda: function(lane, *shared), lambda: skipped(lane, shared)
            )

        def one_of_many(lane, wanted, shared):
            # Equal to `cond` under `vmap`, which would also copy the data for each lane.
            return jax.tree.map(
                lambda new, old: jnp.where(wanted, new, old),
                function(lane, *shared),
                skipped(lane, shared),
            )

        def on_device(lanes, wanted, *shared):
            if self.lane_strategy == "vmap":
                return jax.vmap(one_of_many, in_axes=(0, 0, None))(lanes, wanted, shared)
            return jax.lax.map(lambda pair: one_lane(*pair, shared), (lanes, wanted))

        donated = (0,) if trains else ()
        return jax.pmap(
            on_device, axis_name=AXIS, devices=self.devices, donate_argnums=donated
        )

    @property
    def _sharding(self) -> NamedSharding:
        return NamedSharding(Mesh(np.asarray(self.own_devices), (AXIS,)), PartitionSpec(AXIS))

    def _put(self, tree: PyTree) -> PyTree:
        return jax.device_put(tree, self._sharding)


def make_layout(
    *,
    parallel: str = "lanes",
    lane_strategy: str = "auto",
    devices: int | None = None,
    batch_size: int,
    convolutional: bool = False,
) -> Layout:
    """The layout of lanes on this machine.

    `lane_strategy="auto"` is `"map"` on a CPU, where a batched matrix product misses the fast path,
    and for convolutional networks, whose activations would take memory for all lanes at once.
    Otherwise it is `"vmap"`.

    Args:
        parallel: `"lanes"` or `"batch"`.
        lane_strategy: `"auto"`, `"vmap"` or `"map"`.
        devices: how many devices to use; `None`: all.
        batch_size: examples per step; must divide over the devices if these share a batch.
        convolutional: whether the network's activations have positions beside channels.

    Raises:
        ValueError: for an unknown choice, too many devices, or a batch that does not divide.
    """
    if parallel not in PARALLEL:
        raise ValueError(f"parallel: {parallel!r} is not one of {', '.join(PARALLEL)}")
    if lane_strategy not in STRATEGIES:
        raise ValueError(f"lane_strategy: {lane_strategy!r} is not one of {', '.join(STRATEGIES)}")
    present = jax.devices() if parallel == "batch" else jax.local_devices()
    count = len(present) if devices is None else devices
    if not 1 <= count <= len(present):
        raise ValueError(f"devices: {count} asked for, this machine has {len(present)}")
    if count < len(present) and jax.process_count() > 1 and parallel == "batch":
        raise ValueError(f"devices: {count} asked for, but processes share all {len(present)}")
    if parallel == "batch" and batch_size % count:
        raise ValueError(f"train.batch_size: {batch_size} does not divide over {count} devices")
    if lane_strategy == "auto":
        one_by_one = present[0].platform == "cpu" or convolutional
        lane_strategy = "map" if one_by_one else "vmap"
    return Layout(tuple(present[:count]), parallel, lane_strategy)
