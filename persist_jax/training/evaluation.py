"""The evaluation of a trained network: accuracy, calibration, wrong labels, noise, pruning."""

import math
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from pydantic import BeforeValidator

from persist_jax._plumbing.validation import Given
from persist_jax.data.dataset import Drawn, Split
from persist_jax.models.layers import (
    AveragePooling2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
)
from persist_jax.models.model import Model, Variables
from persist_jax.models.network import Network, layer_name
from persist_jax.models.precision import unwrapped
from persist_jax.parameters import NotNegative, Part, Positive, Rate, as_list
from persist_jax.redundancy import prune
from persist_jax.terms import Term, measures
from persist_jax.training.epoch import in_batches, own_share, take
from persist_jax.training.state import Data

BINS = 15  # bins of confidence for the calibration error
_EXAMPLES = 1024  # first validation examples, used to measure neurons
FITTED = 2048  # first training examples, used for pruning
_MASKS = 4  # random choices of dropped neurons, whose accuracies are averaged
_HALVINGS, _LARGEST = 30, 7.0  # bisections of the interval of log temperature, and its bound
# Iterations, which are folded into the same key, are below 2**31.
_NOISE, _DROPPED = np.uint32(2**32 - 1), np.uint32(2**32 - 2)

Numbers = dict[str, Float[Array, "*lanes"]]


class Evaluate(Given):
    """The measures to take of a finished run, with its best and with its last weights.

    Accuracies on the three parts of the data are always taken. All other measures use the test
    examples unless stated otherwise.

    Attributes:
        calibration: negative log-likelihood in nats and expected calibration error, before and
            after scaling by one temperature, which is fitted on the validation examples.
        memorised: the share of the wrong training labels that the network predicts; measured if the
            data has label noise.
        loss: a training cross-entropy. The first epoch whose mean is at most this value is
            recorded, with the validation accuracy after it; null: not recorded.
        measures: effective rank, mean |corr| and the share of constant neurons, of the hidden
            layers on the first 1024 validation examples; see `persist_jax.measures`.
        noise: standard deviation of normal noise that is added to every pixel; 0: not measured.
        dropped: share of each hidden layer's neurons whose output is set to 0; the accuracy is the
            mean over four random choices of neurons; 0: not measured.
        pruning: shares of each hidden layer's neurons to keep when the least important ones are
            pruned, with and without a least-squares fit; see `persist_jax.prune`. Empty: not
            measured.

    Neurons are dropped and pruned only if the network is a chain of dense and convolutional layers
    with biases and without normalisation.
    """

    calibration: bool = True
    memorised: bool = True
    loss: Positive | None = 0.5
    measures: bool = False
    noise: NotNegative = 0.0
    dropped: Rate = 0.0
    pruning: Annotated[tuple[Part, ...], BeforeValidator(as_list)] = ()


def make_evaluation(
    model: Model, term: Term, evaluate: Evaluate, batch_size: int, axis_name: str | None = None
) -> Callable[[Variables, Int[Array, ""], Drawn | None, Data], Numbers]:
    """Make the function that evaluates one network's weights, except after pruning.

    Args:
        model: the network.
        term: the term that samples the neurons.
        evaluate: the measures to take.
        batch_size: examples per batch.
        axis_name: the mapped axis over which every batch is split.

    Returns:
        `evaluation(variables, seed, drawn, data)`, which returns scalars by name. `train`,
        `validation` and `test` are accuracies; see `persist_jax.store.record.NUMBERS` for the
        others.
    """
    shared, chain = model.sharing(axis_name), chain_of(model)

    def evaluation(variables, seed, drawn, data):
        def logits(name, variables=variables, change=None):
            split, own = getattr(data, name), drawn if name == "train" else None
            return logits_of(shared, variables, split, batch_size, axis_name, own, change)

        labels = {name: split.y for name, split in data._asdict().items()}
        labels |= {"train": drawn.y} if drawn is not None else {}
        found = {name: logits(name) for name in labels}
        numbers = {name: accuracy(found[name], y) for name, y in labels.items()}
        if evaluate.calibration:
            temperature = fitted_temperature(found["validation"], labels["validation"])
            numbers |= _calibration(found["test"], labels["test"], temperature)
        if evaluate.memorised and drawn is not None:
            own = jnp.take(data.train.y, drawn.positions, mode="clip")
            numbers["memorised"] = memorised(found["train"], drawn.y, own)
        if evaluate.measures:
            numbers |= _measures(model, term, variables, data.validation.x[:_EXAMPLES])
        key = jax.random.key(seed)
        if evaluate.noise:
            noise = _noise(jax.random.fold_in(key, _NOISE), evaluate.noise)
            noisy = accuracy(logits("test", change=noise), labels["test"])
            numbers[f"noise_{evaluate.noise:g}"] = noisy
        if evaluate.dropped and chain:

            def with_few(key):
                params = without_neurons(variables["params"], chain, evaluate.dropped, key)
                return accuracy(logits("test", {**variables, "params": params}), labels["test"])

            keys = jax.random.split(jax.random.fold_in(key, _DROPPED), _MASKS)
            numbers[f"dropped_{evaluate.dropped:g}"] = jnp.mean(jax.lax.map(with_few, keys))
        return numbers

    return evaluation


def make_test_accuracy(
    model: Model, batch_size: int, axis_name: str | None = None
) -> Callable[[Variables, Data], Float[Array, ""]]:
    """Make the function that computes the test accuracy of one network's weights."""
    shared = model.sharing(axis_name)

    def test_accuracy(variables, data):
        logits = logits_of(shared, variables, data.test, batch_size, axis_name)
        return accuracy(logits, data.test.y)

    return test_accuracy


def logits_of(
    model: Model,
    variables: Variables,
    split: Split,
    batch_size: int,
    axis_name: str | None = None,
    drawn: Drawn | None = None,
    change: Callable[[Array, Int[Array, "b"]], Array] | None = None,
) -> Float[Array, "examples classes"]:
    """Logits of a split, or of the examples drawn from it, in inference mode and in batches.

    Args:
        model: the network; with a mapped axis, its `sharing` over this axis.
        variables: the network's variables.
        split: the examples.
        batch_size: examples per batch.
        axis_name: the mapped axis over which every batch is split.
        drawn: the examples to use; all by default.
        change: `change(x, indices)` returns the inputs to use in place of the examples `x`.
    """
    examples = (split if drawn is None else drawn).y.shape[0]

    def body(_, indices):
        indices = jnp.minimum(own_share(indices, axis_name), examples - 1)
        x = take(split, indices, None, drawn).x
        x = x if change is None else change(x, indices)
        return None, model.apply(variables, x, train=False)[0]

    _, logits = jax.lax.scan(body, None, in_batches(examples, batch_size, axis_name))
    if axis_name is not None:
        logits = jax.lax.all_gather(logits, axis_name, axis=1, tiled=True)
    return logits.reshape(-1, logits.shape[-1])[:examples]


def accuracy(logits: Float[Array, "b c"], y: Int[Array, "b"]) -> Float[Array, ""]:
    """The share of examples whose largest logit is that of their label."""
    right = jnp.sum(jnp.argmax(logits, axis=-1) == y, dtype=jnp.int32)
    return right.astype(jnp.float32) / len(y)


def log_loss(logits: Float[Array, "b c"], y: Int[Array, "b"]) -> Float[Array, ""]:
    """Mean negative log-likelihood of the labels, in nats."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))


def calibration_error(logits: Float[Array, "b c"], y: Int[Array, "b"]) -> Float[Array, ""]:
    r"""Expected calibration error of the most probable class over 15 bins of equal width.

    $$ \sum_k \frac{|B_k|}{n} \bigl|\mathrm{accuracy}(B_k) - \mathrm{confidence}(B_k)\bigr| $$

    where $B_k$ has the examples with a confidence in $((k - 1) / 15, k / 15]$.

    Reference:
        Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    probabilities = jax.nn.softmax(logits)
    confidence, right = probabilities.max(-1), jnp.argmax(logits, axis=-1) == y
    place = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
    # Sum over bins in a fixed order, which a scatter on a GPU would not keep.
    gaps = jnp.where(place[None] == jnp.arange(BINS)[:, None], (right - confidence)[None], 0)
    return jnp.abs(gaps.sum(1)).sum() / len(y)


def fitted_temperature(logits: Float[Array, "b c"], y: Int[Array, "b"]) -> Float[Array, ""]:
    """The temperature T that minimises the negative log-likelihood of `logits / T`.

    T is between `exp(-7)` and `exp(7)`. The log-likelihood is concave in 1 / T, so the sign of its
    derivative tells on which side of the optimum a temperature lies.

    Reference:
        Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    # Relative to the label's logit, so that the derivative is exact if one class is near certain.
    above = logits - jnp.take_along_axis(logits, y[:, None], axis=1)

    def halve(_, interval):
        low, high = interval
        middle = (low + high) / 2
        slope = jnp.mean(jnp.sum(jax.nn.softmax(jnp.exp(middle) * above) * above, axis=1))
        return jnp.where(slope <= 0, middle, low), jnp.where(slope <= 0, high, middle)

    ends = jnp.float32(-_LARGEST), jnp.float32(_LARGEST)
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, ends)
    return jnp.exp(-(low + high) / 2)


def memorised(
    logits: Float[Array, "b c"], y: Int[Array, "b"], own: Int[Array, "b"]
) -> Float[Array, ""]:
    """The share of the wrong labels, `y != own`, that are predicted; NaN without wrong labels."""
    wrong, predicted = y != own, jnp.argmax(logits, axis=-1) == y
    count = wrong.sum()
    return jnp.where(count, (wrong & predicted).sum() / count, jnp.nan)


def without_neurons(params: Any, chain: tuple[str, ...], share: float, key: Array) -> Any:
    """The weights of a chain with a random share of each hidden layer's neurons disconnected."""
    params = dict(params)
    for k, (name, following) in enumerate(zip(chain, chain[1:], strict=False)):
        count = len(params[name]["bias"])
        order = jax.random.permutation(jax.random.fold_in(key, k), count)
        kernel = params[following]["kernel"]
        rows = kernel.reshape(-1, count, kernel.shape[-1])
        rows = jnp.where((order >= round(share * count))[None, :, None], rows, 0)
        params[following] = {**params[following], "kernel": rows.reshape(kernel.shape)}
    return params


def chain_of(model: Model) -> tuple[str, ...]:
    """Names of a network's layers with weights if it is a chain that can be pruned, else empty."""
    network = unwrapped(model)
    if not isinstance(network, Network):
        return ()
    plain = (Flatten, MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D, Dropout)
    names = []
    for index, layer in enumerate(network.layers):
        weighted = isinstance(layer, Dense | Conv2D) and layer.use_bias
        if weighted and getattr(layer, "groups", 1) == 1:
            names.append(layer_name(index))
        elif not isinstance(layer, plain):
            return ()
    return tuple(names) if len(names) > 1 else ()


def pruned(
    model: Model,
    variables: Variables,
    x: Float[np.ndarray, "b ..."],
    keep: float,
    *,
    repair: bool,
    apply: Callable | None = None,
) -> Variables | None:
    """Prune a network with `persist_jax.prune`; return weights of the original shapes.

    Returns `None` if activations are not finite, as after a run that diverged.

    Args:
        model: a network with a `chain_of`.
        variables: the network's variables, on the host.
        x: training examples, which decide which neurons are removed.
        keep: the share of each hidden layer's neurons to keep.
        repair: whether to fit the kept neurons to the removed ones.
        apply: `model.apply`, compiled.
    """
    chain, params = chain_of(model), dict(variables["params"])
    activations = (apply or model.apply)(variables, x)[1]
    hidden = [np.asarray(layer) for layer in activations][:-1]
    if not all(np.isfinite(layer).all() for layer in hidden):
        return None
    layers = {name: params[name] for name in chain}
    smaller, kept = prune(layers, hidden, keep=keep, repair=repair)
    for k, name in enumerate(chain):
        kernel, bias = (np.zeros_like(params[name][part]) for part in ("kernel", "bias"))
        stays = kept[k] if k < len(kept) else np.arange(len(bias))
        before = kept[k - 1] if k else np.arange(kernel.shape[-2])
        width = len(params[chain[k - 1]]["bias"]) if k else kernel.shape[-2]
        # A dense layer after a convolution has rows for every position.
        rows = (np.arange(kernel.shape[-2] // width)[:, None] * width + before).ravel()
        kernel[..., rows[:, None], stays] = smaller[name]["kernel"]
        bias[stays] = smaller[name]["bias"]
        params[name] = {**params[name], "kernel": kernel, "bias": bias}
    return {**variables, "params": params}


def pruning_names(evaluate: Evaluate) -> list[tuple[str, float, bool]]:
    """The name, kept share and choice of a fit of each number that pruning gives."""
    return [
        (f"pruned_{keep:g}{'_fitted' if repair else ''}", keep, repair)
        for keep in evaluate.pruning
        for repair in (False, True)
    ]


def loss_reached(
    history: dict[str, np.ndarray], examples: int, batch_size: int, level: float
) -> tuple[int, float] | None:
    """The first epoch with a training cross-entropy of at most `level`, and its accuracy.

    Args:
        history: a run's history; see `persist_jax.training.cohort.history_rows`.
        examples: training examples per epoch.
        batch_size: examples per step.
        level: bound on the mean over an epoch's examples, each at its step.

    Returns:
        The number of epochs trained by then, and the validation accuracy after them; None if no
        epoch's loss is as low.
    """
    steps, epochs = math.ceil(examples / batch_size), len(history["validation_accuracy"])
    # Only complete epochs: in the epoch in which a run diverged, the loss is not finite.
    loss, term = (history[f"train_{name}"][: epochs * steps] for name in ("loss", "term"))
    sizes = np.full(steps, batch_size)
    sizes[-1] = examples - (steps - 1) * batch_size
    means = (loss.astype(np.float64) - term).reshape(epochs, steps) @ sizes / examples
    low = np.flatnonzero(means <= level)
    if not len(low):
        return None
    return int(low[0]) + 1, float(history["validation_accuracy"][low[0]])


def _calibration(logits, y, temperature) -> Numbers:
    scaled = logits / temperature
    return {
        "log_loss": log_loss(logits, y),
        "calibration_error": calibration_error(logits, y),
        "temperature": temperature,
        "scaled_log_loss": log_loss(scaled, y),
        "scaled_calibration_error": calibration_error(scaled, y),
    }


def _measures(model: Model, term: Term, variables: Variables, x: Float[Array, "b ..."]) -> Numbers:
    _, activations = model.apply(variables, x, train=False)
    hidden = len(activations) - 1
    if not hidden:
        return {}
    found = measures(
        activations,
        fraction=term.fraction,
        whole=None,
        layers=range(hidden),
        neurons=term.neurons,
        per_layer=False,
    )
    names = ("effective_rank", "mean_correlation", "constant")
    return {name: found[name] for name in names}


def _noise(key: Array, deviation: float) -> Callable[[Array, Int[Array, "b"]], Array]:
    """Make a function that adds noise, drawn per example whatever its batch."""

    def change(x, indices):
        def of_one(index, x):
            return jax.random.normal(jax.random.fold_in(key, index), x.shape, x.dtype)

        return x + deviation * jax.vmap(of_one)(indices, x)

    return change
