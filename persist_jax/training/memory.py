"""How much memory of a device training takes, by shapes: nothing is compiled or allocated."""

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

# A step of two convolutions of width 256 on 32 x 32 pixels, batch 256, takes 4.3 GB for activations
# of 0.54 GB in float32.
PER_ACTIVATION = 8
# Correlations as the kernels keep them: matrices while one has at most so many bytes, two for the
# tree and three for `min_corr` with its gradient. Beyond, the matrix-free search takes 5.8 GB for
# points of 0.54 GB and 11 GB for 1.07 GB.
_MATRICES, _PER_POINT = 3, 11


class Footprint(NamedTuple):
    """Bytes on each device.

    Attributes:
        once: of the data, and of a step where lanes take their steps one after another.
        lane: of each lane: its state twice, before and after an epoch, and its step where lanes
            advance together.
    """

    once: int
    lane: int

    def lanes(self, limit: int) -> int:
        """How many lanes fit into so many bytes of a device."""
        return max(0, (limit - self.once) // self.lane)


def footprint(model: Model, dataset: Dataset, options: Options, layout: Layout) -> Footprint:
    """About the memory that a network in training takes, under the most demanding term.

    A step takes its gradients, the activations of its batch, and the points and correlations of
    the term. Compare with what XLA says of a compiled program:
    `programs.compile(lanes).memory_analysis()`.
    """
    data = _bytes(Data.of(dataset))
    state = jax.eval_shape(lambda: _initial(model, dataset, options))
    examples = options.batch_size
    shared = examples // len(layout.devices) if layout.axis_name else examples
    activations, points = _of_a_batch(model, dataset, options)
    n = points.shape[0]
    matrix = n * n * 4
    term = matrix * _MATRICES if matrix <= LARGEST_MATRIX else n * examples * 4 * _PER_POINT
    step = _bytes(state.params) + shared * activations * 4 * PER_ACTIVATION + term
    if layout.lane_strategy == "vmap":
        return Footprint(data, 2 * _bytes(state) + step)
    return Footprint(data + step, 2 * _bytes(state))


def _initial(model: Model, dataset: Dataset, options: Options):
    variables = initial_variables(model, dataset.input_shape, 0)
    optimiser = make_optimiser(options.optimiser)
    return initial_state(variables, optimiser, options, 0, with_term=True)


def _of_a_batch(
    model: Model, dataset: Dataset, options: Options
) -> tuple[int, jax.ShapeDtypeStruct]:
    """Activations of an example, and the points, by shape."""
    x = jax.ShapeDtypeStruct((2, *dataset.input_shape), jnp.float32)

    # In one trace: activations by name would lose their order on the way out.
    def outputs(x):
        _, activations = model.apply(model.init(jax.random.key(0), x), x, train=False)
        return activations, options.term().points(activations)

    activations, points = jax.eval_shape(outputs, x)
    shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(activations)]
    return sum(map(math.prod, shapes)), points


def _bytes(tree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
