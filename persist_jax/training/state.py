"""The state of one run between steps; a group of runs stacks states along a leading lane axis."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from persist_jax.data.dataset import Dataset, Drawn, Split
from persist_jax.models.model import Model, Variables
from persist_jax.training.options import Options

# Why a run diverged; `LaneState.reason` is the index.
REASONS = (
    None,
    "the loss is not finite",
    "the gradient is not finite",
    "the validation loss is not finite",
)
LOSS, GRADIENT, VALIDATION = 1, 2, 3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KeyData:
    """A typed key of `jax.random` as an array of numbers, which the host can hold."""

    data: Any
    implementation: str = field(metadata={"static": True})


flax.serialization.register_serialization_state(
    KeyData,
    lambda key: {"data": key.data},
    lambda key, fields: KeyData(fields["data"], key.implementation),
)


def pack_keys(tree: PyTree) -> PyTree:
    """Replace every typed key in the tree by `KeyData`."""

    def pack(leaf):
        if not jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
            return leaf
        return KeyData(jax.random.key_data(leaf), str(jax.random.key_impl(leaf)))

    return jax.tree.map(pack, tree)


def unpack_keys(tree: PyTree) -> PyTree:
    """Replace every `KeyData` in the tree by its typed key."""

    def unpack(leaf):
        if isinstance(leaf, KeyData):
            return jax.random.wrap_key_data(leaf.data, impl=leaf.implementation)
        return leaf

    return jax.tree.map(unpack, tree, is_leaf=lambda leaf: isinstance(leaf, KeyData))


class Best(NamedTuple):
    """The weights of the epoch with the lowest validation loss so far."""

    params: PyTree
    collections: dict[str, PyTree]  # updated by a pass in training mode, such as moving averages
    loss: Float[Array, "*lanes"]
    epoch: Int[Array, "*lanes"]  # epochs trained by then; 0 before the first

    @property
    def variables(self) -> Variables:
        return unpack_keys({"params": self.params, **self.collections})


class TermGradient(NamedTuple):
    """The last weighted term and its gradient, reused until the term is due again."""

    value: Float[Array, "*lanes"]
    gradient: PyTree


class LaneState(NamedTuple):
    """One run: its weights, its optimiser, and where its early stopping stands.

    Between steps, typed keys of the optimiser and of the collections are `KeyData`.
    """

    params: PyTree
    collections: dict[str, PyTree]
    opt_state: Any
    last_term: TermGradient | None
    seed: Int[Array, "*lanes"]
    active: Bool[Array, "*lanes"]
    reason: Int[Array, "*lanes"]  # index into REASONS; 0 unless the run diverged
    ended_at: Int[Array, "*lanes"]  # the iteration at which it diverged, else -1
    wait: Int[Array, "*lanes"]
    best: Best

    @property
    def variables(self) -> Variables:
        return unpack_keys({"params": self.params, **self.collections})


class Lane(NamedTuple):
    """A run in training: its state, the weight of its term, and the examples that its seed drew."""

    state: LaneState
    weight: Float[Array, "*lanes"]
    drawn: Drawn | None = None  # None: all train examples, with their own labels


class Data(NamedTuple):
    """A data set as arrays for the device, with at most 32 bits per number, as in all training."""

    train: Split
    validation: Split
    test: Split

    @classmethod
    def of(cls, dataset: Dataset) -> "Data":
        parts = cls(dataset.train, dataset.validation, dataset.test)
        return jax.tree.map(
            lambda x: x.astype(f"{x.dtype.kind}4") if x.dtype.itemsize > 4 else x, parts
        )


def initial_variables(
    model: Model, input_shape: tuple[int, ...], seed: int | Int[Array, ""]
) -> Variables:
    """The initial weights of a run with this seed."""
    return model.init(jax.random.key(seed), jnp.zeros((1, *input_shape), jnp.float32))


def initial_state(
    variables: Variables,
    optimiser: optax.GradientTransformation,
    options: Options,
    seed: int,
    *,
    with_term: bool,
) -> LaneState:
    """The state of a run before its first step."""
    collections = jax.tree.map(jnp.asarray, dict(variables))
    params = collections.pop("params")
    reuses = with_term and options.term_every > 1
    state = LaneState(
        params=params,
        collections=collections,
        opt_state=optimiser.init(params),
        last_term=(
            TermGradient(jnp.float32(0), jax.tree.map(jnp.zeros_like, params)) if reuses else None
        ),
        seed=jnp.asarray(seed, jnp.int32),
        active=jnp.asarray(True),
        reason=jnp.asarray(0, jnp.int32),
        ended_at=jnp.asarray(-1, jnp.int32),
        wait=jnp.asarray(0, jnp.int32),
        best=Best(params, collections, jnp.float32(jnp.inf), jnp.asarray(0, jnp.int32)),
    )
    return pack_keys(state)
