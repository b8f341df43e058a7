"""Other libraries for the deaths of a distance matrix, each with its own best input format.

`prepare` converts a float32 matrix, which is not timed, and returns a function without arguments,
which is. `largest` is the n above which a library takes minutes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.sparse.csgraph import minimum_spanning_tree as scipy_tree
from scipy.spatial.distance import squareform


class Peer(NamedTuple):
    prepare: Callable[[np.ndarray], Callable[[], object]]
    largest: int


def scipy_linkage(distances):
    condensed = squareform(distances, checks=False).astype(np.float64)
    return lambda: linkage(condensed, "single")


def scipy_csgraph(distances):
    matrix = distances.astype(np.float64)
    return lambda: scipy_tree(matrix)


def sklearn_single(distances):
    from sklearn.cluster import AgglomerativeClustering

    model = AgglomerativeClustering(
        n_clusters=None, distance_threshold=0, metric="precomputed", linkage="single"
    )
    matrix = distances.astype(np.float64)
    return lambda: model.fit(matrix)


def giotto_ph(distances):
    from gph import ripser_parallel

    return lambda: ripser_parallel(distances, maxdim=0, metric="precomputed", n_threads=-1)


def ripser_py(distances):
    from ripser import ripser

    return lambda: ripser(distances, maxdim=0, distance_matrix=True)


def gudhi_rips(distances):
    import gudhi

    rows = [row[:i] for i, row in enumerate(distances.astype(np.float64))]

    def deaths():
        complex_ = gudhi.RipsComplex(distance_matrix=rows)
        tree = complex_.create_simplex_tree(max_dimension=1)
        return tree.persistence(homology_coeff_field=2, min_persistence=-1)

    return deaths


PEERS: dict[str, Peer] = {
    "scipy linkage": Peer(scipy_linkage, 8192),
    "scikit-learn": Peer(sklearn_single, 4096),
    "giotto-ph": Peer(giotto_ph, 4096),
    "scipy MST": Peer(scipy_csgraph, 2048),
    "ripser": Peer(ripser_py, 2048),
    "gudhi": Peer(gudhi_rips, 2048),
}
