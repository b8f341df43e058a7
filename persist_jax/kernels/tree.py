"""A spanning tree with its deaths, and conversions on the host for other libraries."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from scipy import sparse


class Tree(NamedTuple):
    """The minimum spanning tree of `n` points, ascending by (death, i, j).

    A pytree of two arrays: it passes in and out of `jit` and `vmap`, and the deaths stay
    differentiable. The methods convert one concrete tree to numpy arrays and to objects of other
    libraries.

    Attributes:
        edges: the points `(i, j)`, `i < j`, that each edge joins.
        deaths: the distance along each edge: the finite deaths of 0-dimensional persistence.

    Example:
        >>> tree = Tree(np.array([[0, 2], [0, 1]]), np.array([0.25, 0.5]))
        >>> tree.to_linkage().tolist()
        [[0.0, 2.0, 0.25, 2.0], [1.0, 3.0, 0.5, 3.0]]
    """

    edges: Int[Array, "*lanes n-1 2"]
    deaths: Float[Array, "*lanes n-1"]

    def to_sparse(self) -> "sparse.csr_array":
        """The deaths at their edges, in the upper triangle of an `(n, n)` matrix.

        Every edge is a stored entry, even if its death is exactly 0. scipy methods that drop zeros
        (`eliminate_zeros`, a comparison, a conversion from dense) lose such an edge.

        Example:
            >>> Tree(np.array([[0, 2], [0, 1]]), np.array([0.0, 0.5])).to_sparse().nnz
            2
        """
        from scipy import sparse

        edges, deaths = self._on_the_host()
        n = len(deaths) + 1
        return sparse.coo_array((deaths, (edges[:, 0], edges[:, 1])), shape=(n, n)).tocsr()

    def to_networkx(self, labels: Iterable[Any] | None = None) -> Any:
        """A `networkx.Graph` of the points `0 ... n - 1` with the deaths as `weight`.

        Args:
            labels: one label per point, in order; stored as the node attribute `label`.

        Raises:
            ValueError: if there is not one label for every point.
            ImportError: if networkx is not installed.

        Example:
            >>> tree = Tree(np.array([[0, 2], [0, 1]]), np.array([0.25, 0.5]))
            >>> tree.to_networkx(labels="abc").nodes[2]["label"]
            'c'
        """
        try:
            import networkx
        except ImportError as error:
            raise ImportError("Tree.to_networkx needs networkx: pip install networkx") from error
        edges, deaths = self._on_the_host()
        graph = networkx.Graph()
        graph.add_nodes_from(range(len(deaths) + 1))
        if labels is not None:
            labels = list(labels)
            if len(labels) != len(graph):
                raise ValueError(f"labels: {len(labels)} of them for {len(graph)} points")
            networkx.set_node_attributes(graph, dict(enumerate(labels)), "label")
        graph.add_weighted_edges_from(zip(*edges.T.tolist(), deaths.tolist(), strict=True))
        return graph

    def to_linkage(self) -> np.ndarray:
        """The single-linkage matrix of `scipy.cluster.hierarchy`, for `dendrogram` and `fcluster`.

        Returns:
            float64 (n - 1, 4). Row k joins clusters `[0] < [1]` at the death `[2]` into cluster
            `n + k` of `[3]` points.

        Raises:
            ValueError: if a death is NaN or there is only one point; scipy represents neither.
        """
        edges, deaths = self._on_the_host()
        n = len(deaths) + 1
        if n == 1:
            raise ValueError("deaths: a linkage needs at least two points, got one")
        if np.isnan(deaths).any():
            raise ValueError("deaths: NaN has no place in a linkage; the points hold NaN or inf")
        parent, sizes = list(range(2 * n - 1)), [1] * (2 * n - 1)
        rows = np.empty((n - 1, 4))
        for k, (i, j) in enumerate(edges.tolist()):
            first, second = sorted((_root(parent, i), _root(parent, j)))
            parent[first] = parent[second] = n + k
            sizes[n + k] = sizes[first] + sizes[second]
            rows[k] = first, second, deaths[k], sizes[n + k]
        return rows

    def to_giotto(self) -> np.ndarray:
        """The diagram as giotto-tda's `VietorisRipsPersistence` returns it for one point cloud.

        Deaths of exactly 0 are included; they lie on the diagonal, like the points with which
        giotto-tda pads a diagram. The infinite bar is omitted, as in giotto-tda.

        Returns:
            float64 (1, n - 1, 3): birth, death, dimension.
        """
        _, deaths = self._on_the_host()
        nothing = np.zeros_like(deaths, np.float64)
        return np.stack([nothing, deaths, nothing], 1)[None]

    def to_ripser(self) -> list[np.ndarray]:
        """The diagram as the entry `dgms` of ripser and of giotto-ph's `ripser_parallel`.

        Deaths of exactly 0 are included, although those libraries omit them.

        Returns:
            One array for dimension 0, float64 (n, 2): birth and death, the infinite bar last.
        """
        _, deaths = self._on_the_host()
        bars = np.zeros((len(deaths) + 1, 2))
        bars[:, 1] = np.append(deaths, np.inf)
        return [bars]

    def to_gudhi(self) -> list[tuple[int, tuple[float, float]]]:
        """The diagram as gudhi's `SimplexTree.persistence` returns it.

        Deaths of exactly 0 are included, as with gudhi's `min_persistence=-1`.

        Returns:
            `(dimension, (birth, death))`, longest bar first, so the infinite bar leads.
        """
        _, deaths = self._on_the_host()
        return [(0, (0.0, death)) for death in [float("inf"), *deaths[::-1].tolist()]]

    def _on_the_host(self) -> tuple[np.ndarray, np.ndarray]:
        edges, deaths = np.asarray(self.edges), np.asarray(self.deaths)
        if deaths.ndim != 1 or edges.shape != (len(deaths), 2):
            raise ValueError(
                "a conversion takes one tree, edges (n - 1, 2) and deaths (n - 1,), "
                f"got shapes {edges.shape} and {deaths.shape}"
            )
        return edges, deaths


def _root(parent: list[int], cluster: int) -> int:
    while parent[cluster] != cluster:
        parent[cluster] = parent[parent[cluster]]
        cluster = parent[cluster]
    return cluster
