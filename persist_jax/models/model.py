"""The interface that training needs of a network, whatever library it is written in."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, PyTree

# Trainable weights under "params"; anything else that a pass in training mode renews, as moving
# averages under "batch_stats", in collections beside them.
Variables = dict[str, PyTree]
Outputs = tuple[Float[Array, "b ..."], Any]  # logits, and activations per counted layer


@runtime_checkable
class Model(Protocol):
    """A pure network: its variables are arguments, never attributes.

    Activations are a sequence or a mapping of arrays `(b, ...)` in the order of the layers, the
    logits or last layer last: what `persist_jax.sample_neurons` takes.

    Attributes:
        training_differs: whether a pass in training mode gives other outputs than one in
            inference mode (dropout, batch normalisation). Where it does, a term costs a pass of
            its own.
    """

    training_differs: bool

    def init(self, key: Any, x: Any) -> Variables:
        """Variables for inputs of the shape of `x`, drawn from a key or given."""
        ...

    def apply(self, variables: Variables, x: Any, train: bool = False) -> Any:
        """Logits and activations in inference mode."""
        ...

    def apply_in_training(self, variables: Variables, x: Any, key: Any) -> tuple[Any, Variables]:
        """Logits and activations in training mode, and every collection but `params` after it.

        The key draws the dropout of this pass.
        """
        ...

    def sharing(self, axis_name: str | None) -> "Model":
        """The same network for a batch whose examples lie on the devices of a mapped axis.

        Its passes must give what one device gives for the whole batch: batch normalisation takes
        statistics over the axis, and dropout the mask that one device would draw.

        Raises:
            ValueError: where this network cannot.
        """
        ...
