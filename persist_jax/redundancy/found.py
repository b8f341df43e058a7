"""The result of `redundancy` and its printed form."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from persist_jax._plumbing.extras import needed_by
from persist_jax.kernels import Geometry, Tree
from persist_jax.terms.sampling import Neuron

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 10  # lines of a list, and neurons of a cluster


class Pair(NamedTuple):
    """Two neurons and their |corr|, or their cosine or signed correlation if requested."""

    first: Neuron
    second: Neuron
    correlation: float


class LayerCount(NamedTuple):
    """How many neurons a layer has, and how many of them are constant or in a cluster."""

    name: Any
    neurons: int
    constant: int
    clustered: int


@dataclass(frozen=True, eq=False, repr=False)
class Redundancy:
    """The result of `persist_jax.redundancy`; `print` it, or `plot` it.

    Attributes:
        threshold: the least |corr| of the clusters.
        geometry: the distance between neurons: "correlation" or "cosine", and whether `signed`.
        examples: size of the batch.
        layers: counts per layer.
        constant: neurons that have one value on the whole batch.
        pairs: the strongest pairs of neurons, strongest first.
        clusters: neurons joined by correlations of at least the threshold, largest cluster first.
        neurons: the neuron of every point of `tree`.
        tree: the minimum spanning tree under this distance, on the host.

    Example:
        >>> from persist_jax.redundancy import redundancy
        >>> found = redundancy([np.array([[0.0, 0.0], [1.0, 2.0], [4.0, 8.0]], np.float32)])
        >>> found.n, found.redundant
        (2, 1)
    """

    threshold: float
    geometry: Geometry
    examples: int
    layers: tuple[LayerCount, ...]
    constant: tuple[Neuron, ...]
    pairs: tuple[Pair, ...]
    clusters: tuple[tuple[Neuron, ...], ...]
    neurons: tuple[Neuron, ...]
    tree: Tree

    @property
    def n(self) -> int:
        """The number of neurons searched."""
        return len(self.neurons)

    @property
    def likeness(self) -> str:
        """The measure of likeness: "|corr|", "corr", "|cos|" or "cos"."""
        word = "corr" if self.geometry.distance == "correlation" else "cos"
        return word if self.geometry.signed else f"|{word}|"

    @property
    def deaths(self) -> np.ndarray:
        """The distance along each edge of the tree, `1 - |corr|` by default, ascending."""
        return self.tree.deaths

    @property
    def redundant(self) -> int:
        """How many neurons could be removed: constant ones, and all but one of every cluster."""
        return len(self.constant) + sum(len(cluster) - 1 for cluster in self.clusters)

    @property
    def quantiles(self) -> dict[float, float]:
        """Minimum, quartiles and maximum of the deaths, by quantile; empty without deaths."""
        if not len(self.deaths):
            return {}
        shares = (0.0, 0.25, 0.5, 0.75, 1.0)
        return dict(zip(shares, np.quantile(self.deaths, shares).tolist(), strict=True))

    def plot(self) -> "Figure":
        """A dendrogram of the most redundant neurons, and the histogram of the deaths.

        The figure has the colours of Matplotlib's style: light by default, dark with
        `plt.style.use("dark_background")`.

        Raises:
            ImportError: one line, if Matplotlib is not installed.
        """
        from persist_jax.redundancy.plot import plot

        with needed_by("Redundancy.plot", "experiment"):
            return plot(self)

    def __str__(self) -> str:
        blocks = [self._head(), self._layer_table(), self._death_line(), *self._lists()]
        return "\n\n".join(blocks)

    __repr__ = __str__

    def _head(self) -> str:
        return (
            f"{self.n} neurons on {self.examples} examples: {self.redundant} redundant "
            f"({self.redundant - len(self.constant)} in clusters, {len(self.constant)} constant)"
        )

    def _layer_table(self) -> str:
        rows = [("layer", "neurons", "constant", "in clusters")]
        rows += [tuple(map(str, count)) for count in self.layers]
        return "\n".join(_aligned(rows))

    def _death_line(self) -> str:
        words = ("least", "quarter", "median", "three quarters", "largest")
        values = zip(words, self.quantiles.values(), strict=False)
        shown = ", ".join(f"{word} {value:.3g}" for word, value in values)
        return f"deaths, 1 - {self.likeness}: {shown or 'none'}"

    def _lists(self) -> list[str]:
        pairs = [
            f"{pair.correlation:.4f}  {name(pair.first)}  {name(pair.second)}"
            for pair in self.pairs
        ]
        clusters = [
            f"{len(cluster):6}  {_some([name(neuron) for neuron in cluster], ', ')}"
            for cluster in self.clusters
        ]
        at = f"clusters at {self.likeness} >= {self.threshold:g}"
        return [
            f"{self.likeness.ljust(6)}  strongest pairs\n{_some(pairs, chr(10)) or 'none'}",
            f"  size  {at}\n{_some(clusters, chr(10)) or '  none'}",
        ]


def name(neuron: Neuron) -> str:
    """A neuron as text.

    Example:
        >>> name(Neuron("hidden", 3))
        'hidden[3]'
    """
    return f"{neuron.layer}[{neuron.index}]"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]


def _some(lines: list[str], between: str) -> str:
    more = [f"... {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return between.join([*lines[:_SHOWN], *more])
