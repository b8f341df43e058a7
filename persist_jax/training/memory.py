"""Estimate the device memory that training takes, from shapes, without compiling anything."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from persist_jax.data.dataset import Dataset
from persist_jax.kernels.deaths import LARGEST_MATRIX
from persist_jax.models.model import Model
from persist_jax.training.layout import Layout
from persist_jax.training.optimisers import make_optimiser
from persist_jax.training.options import Options
from persist_jax.training.state import Data, initial_state, initial_variables

# Memory of a step over the size of its activations. Two convolutions of width 256 on 32 x 32
# pixels, batch 256, take 4.3 GB for activations of 0.54 GB in float32.
_PER_ACTIVATION = 8
# Memory of the correlations. If a matrix is at most `LARGEST_MATRIX`, the kernels keep two of them
# for the tree and three for `min_corr` with its gradient. Otherwise the matrix-free search takes
# 5.8 GB for points of 0.54 GB and 11 GB for 1.07 GB.
_MATRICES, _PER_POINT = 3, 11


class Footprint(NamedTuple):
    """Bytes on each device.

    Attributes:
        once: the data, and one step if lanes run one after another.
        lane: for each lane its state twice, before and after an epoch, and its step if lanes
            advance together.
    """

    once: int
    lane: int

    def lanes(self, limit: int) -> int:
        """How many lanes fit into `limit` bytes of a device."""
        return max(0, (limit - self.once) // self.lane)


def footprint(model: Model, dataset: Dataset, options: Options, layout: Layout) -> Footprint:
    """Estimate the memory that training a network takes under the most demanding term.

    A step takes memory for its gradients, the activations of its batch, and the points and
    correlations of the term. XLA's own figure for a compiled program is
    `programs.compile(lanes).memory_analysis()`.
    """
    data = _bytes(Data.of(dataset))
    state = jax.eval_shape(lambda: _initial(model, dataset, options))
    examples = options.batch_size
    shared = examples // len(layout.devices) if layout.axis_name else examples
    shapes, n = activations_and_points(model, dataset, options)
    activations = sum(map(math.prod, shapes))
    matrix = n * n * 4
    term = matrix * _MATRICES if matrix <= LARGEST_MATRIX else n * examples * 4 * _PER_POINT
    step = _bytes(state.params) + shared * activations * 4 * _PER_ACTIVATION + term
    if layout.lane_strategy == "vmap":
        return Footprint(data, 2 * _bytes(state) + step)
    return Footprint(data + step, 2 * _bytes(state))


def _initial(model: Model, dataset: Dataset, options: Options):
    variables = initial_variables(model, dataset.input_shape, 0)
    optimiser = make_optimiser(options.optimiser)
    return initial_state(variables, optimiser, options, 0, with_term=True)


def activations_and_points(
    model: Model, dataset: Dataset, options: Options
) -> tuple[list[tuple[int, ...]], int]:
    """The shapes of an example's activations, layer by layer, and the number of sampled neurons."""
    x = jax.ShapeDtypeStruct((2, *dataset.input_shape), jnp.float32)

    # In one trace: activations by name would lose their order if returned from it.
    def outputs(x):
        _, activations = model.apply(model.init(jax.random.key(0), x), x, train=False)
        return activations, options.term().points(activations)

    activations, points = jax.eval_shape(outputs, x)
    return [leaf.shape[1:] for leaf in jax.tree.leaves(activations)], points.shape[0]


def _bytes(tree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
