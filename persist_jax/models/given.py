"""A network that starts from given weights instead of random ones."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from persist_jax.models.model import Model, Outputs, Variables


@dataclass(frozen=True, eq=False)
class GivenWeights:
    """A network with its initial weights: `init` returns them whatever the key.

    Attributes:
        network: the network.
        read: returns its initial variables; called once, when they are first needed.
        description: text that distinguishes networks with other layers, for `checksum`.

    Example:
        >>> from persist_jax.models import mlp
        >>> network, x = mlp((4,), 2, hidden=(3,)), jax.numpy.ones((1, 4))
        >>> variables = network.init(jax.random.key(0), x)
        >>> given = GivenWeights(network, lambda: variables)
        >>> given.init(jax.random.key(1), x) is variables
        True
    """

    network: Model
    read: Callable[[], Variables]
    description: str = ""

    @functools.cached_property
    def variables(self) -> Variables:
        """The initial variables."""
        with jax.ensure_compile_time_eval():  # concrete arrays, even if first read in a trace
            return self.read()

    @functools.cached_property
    def checksum(self) -> str:
        """A hash of the description and of every initial weight: equal for equal content."""
        digest = hashlib.sha256(self.description.encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.variables):
            array = np.asarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    @property
    def training_differs(self) -> bool:
        """See `Model`."""
        return self.network.training_differs

    def init(self, key: Array | None, x: Any) -> Variables:
        """The given variables."""
        return self.variables

    def apply(self, variables: Variables, x: Any, train: bool = False) -> Outputs:
        """Logits and activations in inference mode; see `Model`."""
        return self.network.apply(variables, x, train=train)

    def apply_in_training(
        self, variables: Variables, x: Any, key: Array, **how: Any
    ) -> tuple[Outputs, Variables]:
        """Logits, activations and moving averages of a pass in training mode; see `Model`."""
        return self.network.apply_in_training(variables, x, key, **how)

    def sharing(self, axis_name: str | None) -> "GivenWeights":
        """The same network for a batch split over a mapped axis; see `Model`."""
        shared = self.network.sharing(axis_name)
        return GivenWeights(shared, lambda: self.variables, self.description)
