"""Remove redundant neurons from a trained chain of layers, without retraining."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from persist_jax.redundancy.find import redundancy

# Examples times positions that a fit uses. More would cost memory and hardly change the fit.
_MOST_ROWS = 200_000


class Pruned(NamedTuple):
    """A smaller chain.

    Attributes:
        layers: numpy arrays, in the form of the argument `layers`.
        kept: for every layer but the last, the indices of the kept neurons.

    Example:
        >>> layers = [(np.ones((2, 3)), np.zeros(3)), (np.ones((3, 1)), np.zeros(1))]
        >>> layers, kept = prune(layers, [np.eye(3) * [1, 3, 2]], keep=0.7)
        >>> kept[0].tolist(), layers[0][0].shape
        ([1, 2], (2, 2))
    """

    layers: Any
    kept: tuple[Int[np.ndarray, " kept"], ...]


class _Layer(NamedTuple):
    kernel: np.ndarray
    bias: np.ndarray


def prune(
    layers: Sequence[Sequence[Any]] | Mapping[str, Mapping[str, Any]],
    activations: Sequence[Any],
    *,
    keep: float | None = None,
    threshold: float | None = None,
    repair: bool = True,
) -> Pruned:
    r"""Remove neurons from a chain of dense and convolutional layers.

    With `keep`, the least important neurons are removed: those with the smallest product of the
    standard deviation of their activation and the norm of their outgoing weights. With `threshold`,
    copies are merged: of each cluster of `redundancy`, only the neuron most like the others is
    kept.

    The kept neurons take over a removed neuron's contribution to the next layer. With `repair`, a
    least-squares fit on the examples predicts all removed neurons, $A_g$, from all kept ones,
    $A_k$,

    $$ A_g \approx A_k M + c,\qquad W_k \leftarrow W_k + M W_g,\qquad b \leftarrow b + c\, W_g, $$

    which is also the best fit of the input of the next dense layer. Without `repair`, a removed
    neuron is replaced by its mean, or in a cluster by a linear function of the kept neuron.

    A neuron of a convolution is a channel, with one fit for all positions; the fit ignores the next
    convolution's zero padding at the border. A chain has no normalisation layers and no branches.
    Everything is computed on the host, in float64.

    Args:
        layers: all layers of the chain, in order: pairs (kernel, bias), or a mapping from names to
            mappings with a "kernel" and a "bias", as in flax.linen. A kernel is `(in, out)` or
            `(height, width, in, out)`. A dense layer after a convolution takes the flattened
            feature map, channels last.
        activations: the activations of every layer but the last, after the nonlinearity, `(b, m)`
            or `(b, ..., c)`.
        keep: the share of each layer's neurons to keep, except in the last layer, in (0, 1].
        threshold: the least |corr| that joins two neurons of a cluster, in (0, 1].
        repair: whether to fit the kept neurons to the removed ones.

    Returns:
        The smaller chain, and the indices of the kept neurons.

    Raises:
        ValueError: one line that names the argument and the layer that does not fit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> hidden = np.maximum(rng.normal(size=(50, 3)), 0)
        >>> hidden = np.concatenate([hidden, 2 * hidden[:, :1]], 1)  # neuron 3 copies neuron 0
        >>> layers = [(np.ones((2, 4)), np.zeros(4)), (np.ones((4, 1)), np.zeros(1))]
        >>> smaller = prune(layers, [hidden], threshold=0.99)
        >>> smaller.kept[0].tolist()
        [0, 1, 2]
        >>> kernel, bias = smaller.layers[1]
        >>> kernel.round(6).ravel().tolist()
        [3.0, 1.0, 1.0]

    Reference:
        Least squares after pruning: He, Zhang and Sun, Channel pruning for accelerating very deep
        neural networks, ICCV 2017.
    """
    if isinstance(activations, Mapping):
        raise ValueError("activations: a mapping; give a list of arrays in the order of the layers")
    chain = _chain(layers)
    hidden = [np.asarray(layer, np.float64) for layer in activations]
    _check(chain, hidden, keep, threshold)
    kept = []
    for k, values in enumerate(hidden):
        values = values.reshape(-1, values.shape[-1])
        outgoing = chain[k + 1].kernel.reshape(-1, values.shape[1], chain[k + 1].kernel.shape[-1])
        if keep is not None:
            stays, replaced = _most_important(values, outgoing, keep)
        else:
            stays, replaced = _one_of_each(values, threshold)
        goes = np.setdiff1d(np.arange(values.shape[1]), stays)
        matrix, offset = _fit(values, stays, goes) if repair else replaced(stays, goes)
        chain[k] = _Layer(chain[k].kernel[..., stays], chain[k].bias[stays])
        chain[k + 1] = _without(chain[k + 1], outgoing, stays, goes, matrix, offset)
        kept.append(stays)
    return Pruned(_as_given(layers, chain), tuple(kept))


def _most_important(values, outgoing, keep):
    """Keep the share of neurons with the largest deviation times norm of the outgoing weights."""
    deviation = values.std(0)
    importance = deviation * np.sqrt(np.square(outgoing).sum((0, 2)))
    # The binary product may fall just short of a whole number: 0.29 * 100 is 28.999999999999996.
    count = max(math.floor(round(keep * len(importance), 9)), 1)
    stays = np.sort(np.argsort(-importance, kind="stable")[:count])

    def by_means(stays, goes):
        return np.zeros((len(stays), len(goes))), values[:, goes].mean(0)

    return stays, by_means


def _one_of_each(values, threshold):
    """Remove the constant neurons and, from each cluster, all neurons but one."""
    stand_in, means = {}, values.mean(0)
    # Scaled before it is rounded to float32: correlations are the same whatever mean and scale.
    centred = np.where(np.ptp(values, axis=0) == 0, 0, values - means)
    centred /= np.maximum(np.abs(centred).max(0), np.finfo(float).tiny)
    found = redundancy([centred.astype(np.float32)], threshold=threshold, top=0)
    for cluster in found.clusters:
        columns = [neuron.index for neuron in cluster]
        likeness = np.abs(np.corrcoef(values[:, columns].T)).sum(0)
        stand_in |= dict.fromkeys(columns, columns[int(likeness.argmax())])
    constant = [neuron.index for neuron in found.constant]
    gone = {column for column, other in stand_in.items() if column != other}
    # A layer of constant neurons keeps one, so that no array is empty.
    stays = np.setdiff1d(np.arange(values.shape[1]), [*gone, *constant])
    stays = stays if len(stays) else np.array([0])

    def by_lines(stays, goes):
        matrix, offset = np.zeros((len(stays), len(goes))), means[goes]
        place = {neuron: row for row, neuron in enumerate(stays.tolist())}
        for column, neuron in enumerate(goes.tolist()):
            if neuron in stand_in:
                other = stand_in[neuron]
                centred = values[:, other] - means[other]
                slope = centred @ values[:, neuron] / (centred @ centred)
                matrix[place[other], column] = slope
                offset[column] -= slope * means[other]
        return matrix, offset

    return stays, by_lines


def _fit(
    values: Float[np.ndarray, "rows m"], stays: Int[np.ndarray, " k"], goes: Int[np.ndarray, " g"]
) -> tuple[Float[np.ndarray, "k g"], Float[np.ndarray, " g"]]:
    """The least-squares fit of the removed neurons by the kept neurons, and its offset."""
    rows = values
    if len(values) > _MOST_ROWS:  # at random: every k-th row may be one border of all feature maps
        chosen = np.random.default_rng(0).choice(len(values), _MOST_ROWS, replace=False)
        rows = values[np.sort(chosen)]
    mean = rows.mean(0)
    centred = rows - mean
    matrix = np.linalg.lstsq(centred[:, stays], centred[:, goes], rcond=None)[0]
    return matrix, mean[goes] - mean[stays] @ matrix


def _without(layer, outgoing, stays, goes, matrix, offset):
    """The next layer, with only the kept neurons as its inputs."""
    merged = outgoing[:, stays] + np.einsum("kg,pgo->pko", matrix, outgoing[:, goes])
    bias = layer.bias + np.einsum("g,pgo->o", offset, outgoing[:, goes])
    shape = layer.kernel.shape
    if len(shape) == 2:
        return _Layer(merged.reshape(-1, shape[-1]), bias)
    return _Layer(merged.reshape(*shape[:-2], len(stays), shape[-1]), bias)


def _chain(layers: Any) -> list[_Layer]:
    chain = []
    named = layers.items() if isinstance(layers, Mapping) else enumerate(layers)
    for name, layer in named:
        if isinstance(layer, Mapping) and {"kernel", "bias"} <= layer.keys():
            layer = layer["kernel"], layer["bias"]
        if isinstance(layer, Mapping) or len(layer) != 2:
            raise ValueError(f"layers: {name!r} is not a kernel and a bias (give zeros for none)")
        kernel, bias = (np.asarray(part, np.float64) for part in layer)
        if kernel.ndim < 2 or bias.shape != kernel.shape[-1:]:
            raise ValueError(
                f"layers: {name!r} has a kernel {kernel.shape} and a bias {bias.shape}, "
                "not (..., in, out) and (out,)"
            )
        chain.append(_Layer(kernel, bias))
    return chain


def _check(
    chain: list[_Layer],
    hidden: list[np.ndarray],
    keep: float | None,
    threshold: float | None,
) -> None:
    if (keep is None) == (threshold is None):
        raise ValueError("keep, threshold: give exactly one")
    for name, share in (("keep", keep), ("threshold", threshold)):
        if share is not None and not 0 < share <= 1:
            raise ValueError(f"{name}: {share} is not in (0, 1]")
    if len(hidden) != len(chain) - 1:
        raise ValueError(
            f"activations: {len(hidden)} layers, expected {len(chain) - 1}: every layer but the "
            "last"
        )
    for k, values in enumerate(hidden):
        if values.ndim < 2 or not len(values) or values.shape[-1] != chain[k].kernel.shape[-1]:
            raise ValueError(
                f"activations: layer {k} has shape {values.shape}, but its kernel makes "
                f"{chain[k].kernel.shape[-1]} neurons"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"activations: layer {k} has values that are not finite")
        receives = chain[k + 1].kernel.shape[-2]
        convolution = chain[k + 1].kernel.ndim > 2
        if receives != values.shape[-1] and (convolution or receives % values.shape[-1]):
            raise ValueError(
                f"layers: number {k + 1} takes {receives} inputs, which do not match the "
                f"{values.shape[-1]} neurons before it"
            )


def _kept_type(kernel: Any) -> np.dtype:
    """The type of a kernel, or float64 for whole numbers, which a fit would not leave whole."""
    dtype = np.asarray(kernel).dtype
    return np.dtype(np.float64) if dtype.kind in "iub" else dtype


def _as_given(layers: Any, chain: list[_Layer]) -> Any:
    given = [
        layer.values() if isinstance(layer, Mapping) else layer
        for layer in (layers.values() if isinstance(layers, Mapping) else layers)
    ]
    arrays = [
        tuple(part.astype(_kept_type(next(iter(old)))) for part in new)
        for old, new in zip(given, chain, strict=True)
    ]
    if not isinstance(layers, Mapping):
        return arrays
    return {
        name: dict(zip(("kernel", "bias"), pair, strict=True))
        for name, pair in zip(layers, arrays, strict=True)
    }
