"""The interface that training needs of a network, whatever library it is written in."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, PyTree

# Trainable weights are under "params". Other values that a pass in training mode updates, such as
# moving averages under "batch_stats", are in further collections.
Variables = dict[str, PyTree]
Outputs = tuple[Float[Array, "b ..."], Any]  # logits, and activations per counted layer


@runtime_checkable
class Model(Protocol):
    """A pure network: its variables are arguments, never attributes.

    Activations are a sequence or a mapping of arrays `(b, ...)` in the order of the layers, the
    logits or last layer last, as `persist_jax.sample_neurons` takes them.

    Attributes:
        training_differs: whether training and inference mode give different outputs (dropout, batch
            normalisation). If true, a term costs an extra pass.
    """

    training_differs: bool

    def init(self, key: Any, x: Any) -> Variables:
        """Variables for inputs of the shape of `x`, drawn from a key or given."""
        ...

    def apply(self, variables: Variables, x: Any, train: bool = False) -> Any:
        """Logits and activations in inference mode."""
        ...

    def apply_in_training(self, variables: Variables, x: Any, key: Any) -> tuple[Any, Variables]:
        """Logits and activations in training mode, and every updated collection but `params`.

        The key draws the dropout of this pass.
        """
        ...

    def sharing(self, axis_name: str | None) -> "Model":
        """The same network for a batch that is split over the devices of a mapped axis.

        Its passes must equal one device's pass on the whole batch: batch normalisation takes
        statistics over the axis, and dropout draws the mask that one device would draw.

        Raises:
            ValueError: if this network does not support a split batch.
        """
        ...
