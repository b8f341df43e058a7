"""Check that a network of another library takes and returns the arrays that training needs."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from persist_jax.models.model import Outputs, Variables
from persist_jax.terms.activations import in_words, is_array

# Other names of the flag `train`. Ignoring such a flag would silently leave dropout off.
_OTHER_FLAGS = ("training", "is_training", "deterministic", "use_running_average")


def takes(function: Callable, argument: str) -> bool:
    """Whether a function, or the constructor of a class, has an argument of this name."""
    if isinstance(function, type):
        function = function.__init__
    return argument in inspect.signature(function).parameters


def takes_train(function: Callable, name: str) -> bool:
    """Whether a network is called with `train=True` or `train=False`.

    Raises:
        ValueError: if it has such a flag under another name.
    """
    for flag in _OTHER_FLAGS:
        if takes(function, flag):
            raise ValueError(f"{name}: its argument {flag!r} must be train=True or train=False")
    return takes(function, "train")


def in_inference(train: bool, name: str) -> None:
    """Raise `ValueError` for `apply` in training mode, for which it has no key."""
    if train:
        raise ValueError(f"{name}: apply is for inference, apply_in_training for train=True")


def cannot_share(name: str, where: str) -> ValueError:
    """The error for a network whose batch cannot be split over devices."""
    return ValueError(
        f'{name}: {where} has no axis_name, so parallel="batch" cannot equal one device on the '
        'whole batch; use parallel="lanes"'
    )


def outputs_of(result: Any, name: str) -> Outputs:
    """Check that a network returned logits and activations, and return them.

    Raises:
        ValueError: one line that describes any other output.
    """
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise ValueError(f"{name}: returned {in_words(result)}, not (logits, activations)")
    logits, activations = result
    if not is_array(logits) or logits.ndim != 2:
        raise ValueError(f"{name}: the logits are {in_words(logits)}, not an array (b, classes)")
    if isinstance(activations, Mapping):
        # JAX's transformations sort the keys of a dict, which would lose the order of the layers.
        activations = OrderedDict(activations)
        layers = list(activations.items())
    elif isinstance(activations, Sequence) and not isinstance(activations, str):
        layers = list(enumerate(activations))
    else:
        wanted = "a sequence or a mapping of arrays"
        raise ValueError(f"{name}: the activations are {in_words(activations)}, not {wanted}")
    if not layers:
        raise ValueError(f"{name}: the activations are empty")
    for layer, array in layers:
        if not is_array(array) or array.ndim < 2 or array.shape[0] != logits.shape[0]:
            wanted = f"an array ({logits.shape[0]}, ...)"
            raise ValueError(f"{name}: activation {layer!r} is {in_words(array)}, not {wanted}")
    return logits, activations


def variables_of(variables: Mapping[str, Any], name: str) -> Variables:
    """Return variables as nested dicts with text keys and arrays as leaves.

    Raises:
        ValueError: one line that names the first key that is not text or leaf that is no array.
    """
    return {collection: _plain(tree, collection, name) for collection, tree in variables.items()}


def _plain(tree: Any, path: str, name: str) -> Any:
    if isinstance(tree, Mapping):
        wrong = [key for key in tree if not isinstance(key, str)]
        if wrong:
            raise ValueError(f"{name}: {path} has the key {wrong[0]!r}, which is not text")
        return {key: _plain(branch, f"{path}.{key}", name) for key, branch in tree.items()}
    if not is_array(tree):
        wanted = "an array or a dict of arrays"
        raise ValueError(f"{name}: {path} is {in_words(tree)}, not {wanted}")
    return tree
