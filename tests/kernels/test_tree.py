"""Trees of points, and what other libraries make of them, against scipy, networkx and the peers."""

import sys

import jax
import jax.numpy as jnp
import networkx
import numpy as np
import pytest
from oracles import kruskal, neurons, single_linkage, symmetric, with_dependent_rows
from scipy.cluster import hierarchy
from scipy.sparse import csgraph
from scipy.spatial.distance import squareform

from persist_jax.kernels import (
    Tree,
    correlation_deaths,
    correlation_tree,
    minimum_spanning_tree,
    zeroth_deaths,
)

ALGORITHMS = ("auto", "prim", "boruvka", "matrix_free")
N = 24


def distances_of(points):
    distances = 1 - np.abs(np.corrcoef(np.asarray(points, np.float64)))
    np.fill_diagonal(distances, 0)
    return np.minimum(distances, distances.T)


def of_matrix(distances):
    distances = jnp.asarray(distances, jnp.float32)
    return Tree(minimum_spanning_tree(distances), zeroth_deaths(distances))


@pytest.fixture(scope="module")
def points():
    return jnp.asarray(np.random.default_rng(0).normal(size=(N, 10)), jnp.float32)


@pytest.fixture(scope="module")
def tree(points):
    return jax.jit(correlation_tree)(points)


@pytest.fixture(scope="module")
def tied():
    """Equal deaths, deaths of 0 and, between its two halves, an infinite one."""
    distances = symmetric(np.random.default_rng(1), N, "tied")
    distances[:9, 9:] = distances[9:, :9] = np.inf
    return distances


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_edges_are_kruskals_and_the_deaths_their_weights(points, algorithm):
    tree = correlation_tree(points, algorithm=algorithm)
    assert tree.edges.dtype == jnp.int32
    distances = distances_of(points)
    np.testing.assert_array_equal(tree.edges, kruskal(distances))
    np.testing.assert_allclose(tree.deaths, distances[tuple(tree.edges.T)], atol=1e-6)


def test_equal_deaths_are_in_the_order_of_their_neurons():
    """Orthogonal patterns and copies of them: every distance is 0 or 1 to the last bit."""
    patterns = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1], [0, 0, 0, 0]])
    points = patterns[np.array([3, 1, 0, 1, 2, 0, 0, 3])].astype(np.float32)
    distances = np.where(points @ points.T == 4, 0.0, 1.0)
    for algorithm in ALGORITHMS[1:3]:
        tree = correlation_tree(jnp.asarray(points), algorithm=algorithm)
        np.testing.assert_array_equal(tree.edges, kruskal(distances), err_msg=algorithm)
        np.testing.assert_array_equal(tree.deaths, [0, 0, 0, 1, 1, 1, 1])


def test_deaths_and_their_derivatives_are_those_of_correlation_deaths():
    lanes = np.stack([neurons(np.random.default_rng(seed), N, 12) for seed in range(2)])

    def of(deaths_of):
        weights = jnp.arange(1.0, N)
        term = jax.value_and_grad(
            lambda x: (weights * deaths_of(with_dependent_rows(x)) ** 2).sum()
        )
        return jax.jit(jax.vmap(term))(lanes)

    found, expected = of(lambda x: correlation_tree(x).deaths), of(correlation_deaths)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
    trees = jax.jit(jax.vmap(correlation_tree))(lanes)
    with pytest.raises(ValueError, match=r"takes one tree.*\(2, 23, 2\)"):
        trees.to_linkage()


@pytest.mark.parametrize(
    "shapes", [((2, 3, 2), (2, 3)), ((1, 2), (2,)), ((3, 2), (2,)), ((0, 2), ())]
)
def test_no_library_is_given_what_is_not_one_tree(shapes):
    tree = Tree(*map(np.zeros, shapes))
    for convert in (
        tree.to_sparse,
        tree.to_networkx,
        tree.to_linkage,
        tree.to_giotto,
        tree.to_ripser,
        tree.to_gudhi,
    ):
        with pytest.raises(ValueError, match="takes one tree.*got shapes") as error:
            convert()
        assert all(str(shape) in str(error.value) for shape in shapes)


def test_a_nan_gives_the_star_and_one_neuron_no_edges(points):
    tree = correlation_tree(points.at[5, 0].set(jnp.nan))
    assert jnp.isnan(tree.deaths).all()
    np.testing.assert_array_equal(tree.edges, [(0, k) for k in range(1, N)])
    for deaths in (tree.deaths, tree.deaths.at[:-1].set(0)):
        with pytest.raises(ValueError, match="NaN has no place in a linkage"):
            Tree(tree.edges, deaths).to_linkage()
    alone = correlation_tree(points[:1])
    assert alone.edges.shape == (0, 2) and alone.to_sparse().shape == (1, 1)
    assert len(alone.to_networkx()) == 1 and alone.to_gudhi() == [(0, (0.0, np.inf))]
    assert alone.to_giotto().shape == (1, 0, 3) and len(alone.to_ripser()[0]) == 1
    with pytest.raises(ValueError, match="at least two points"):
        alone.to_linkage()


def test_sparse_is_scipys_tree_and_keeps_deaths_of_zero(points, tree, tied):
    expected = csgraph.minimum_spanning_tree(np.triu(distances_of(points))).tocoo()
    found = tree.to_sparse()
    assert found.format == "csr" and found.shape == (N, N)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-6)
    with_zeros = of_matrix(tied)
    assert (with_zeros.deaths == 0).any()
    found = with_zeros.to_sparse()
    assert found.nnz == N - 1 and (np.diff(found.tocoo().coords, axis=0) > 0).all()
    assert csgraph.connected_components(found, directed=False)[0] == 1


def test_networkx_finds_the_same_tree(points, tree, tied):
    graph = tree.to_networkx()
    complete = networkx.from_numpy_array(distances_of(points))
    expected = networkx.minimum_spanning_tree(complete)
    assert set(graph.nodes) == set(range(N)) and networkx.is_tree(graph)
    assert networkx.utils.edges_equal(graph.edges, expected.edges)
    for i, j, death in graph.edges(data="weight"):
        assert type(death) is float and abs(death - expected[i][j]["weight"]) < 1e-6
    assert networkx.is_tree(of_matrix(tied).to_networkx())
    named = tree.to_networkx(labels=(("hidden", k) for k in range(N)))
    assert named.nodes[7]["label"] == ("hidden", 7)
    for number in (3, 25):
        with pytest.raises(ValueError, match=f"labels: {number} of them for 24 points"):
            tree.to_networkx(labels=range(number))


def test_without_networkx_the_error_names_it(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match="needs networkx: pip install networkx"):
        tree.to_networkx()


def test_linkage_is_scipys(points, tree, tied):
    found = tree.to_linkage()
    condensed = squareform(distances_of(points), checks=False)
    expected = hierarchy.linkage(condensed, "single")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for threshold in np.linspace(0, 1, 7):
        clusters = (hierarchy.fcluster(z, threshold, "distance") for z in (found, expected))
        np.testing.assert_array_equal(*clusters)
    with_ties = of_matrix(tied).to_linkage()
    assert hierarchy.is_valid_linkage(with_ties) and hierarchy.is_monotonic(with_ties)
    np.testing.assert_array_equal(with_ties[:, 2], single_linkage(tied))
    order = hierarchy.dendrogram(found, no_plot=True)["leaves"]
    assert order == hierarchy.dendrogram(expected, no_plot=True)["leaves"]


def test_giotto_ph_and_ripser_return_this(points, tree):
    mine = tree.to_ripser()
    distances = distances_of(points)
    theirs = pytest.importorskip("ripser").ripser(distances, distance_matrix=True, maxdim=0)
    _same_arrays(mine, theirs["dgms"])
    parallel = pytest.importorskip("gph").ripser_parallel
    theirs = parallel(distances, metric="precomputed", maxdim=0)["dgms"]
    _same_arrays(mine, [bars.astype(np.float64) for bars in theirs])


def _same_arrays(mine, theirs):
    assert type(mine) is type(theirs) and len(mine) == len(theirs) == 1
    assert mine[0].dtype == theirs[0].dtype
    np.testing.assert_allclose(mine[0], theirs[0], atol=1e-6)


def test_gudhi_returns_this(points, tree, tied):
    gudhi = pytest.importorskip("gudhi")
    for distances, mine in ((distances_of(points), tree), (tied, of_matrix(tied))):
        rips = gudhi.RipsComplex(distance_matrix=distances, max_edge_length=10)
        theirs = rips.create_simplex_tree(max_dimension=1).persistence(min_persistence=-1)
        mine = mine.to_gudhi()
        assert len(mine) == len(theirs)
        for (dimension, bar), (other_dimension, other_bar) in zip(mine, theirs, strict=True):
            assert dimension == other_dimension and type(bar) is type(other_bar)
            np.testing.assert_allclose(bar, other_bar, atol=1e-6)


def test_the_diagrams_without_the_peers(tied):
    """giotto-tda is in no extra; its form: (samples, bars, 3), finite bars, float64."""
    tree = of_matrix(tied)
    heights = single_linkage(tied)
    giotto = tree.to_giotto()
    assert giotto.shape == (1, N - 1, 3) and giotto.dtype == np.float64
    np.testing.assert_array_equal(giotto[0].T, [np.zeros(N - 1), heights, np.zeros(N - 1)])
    (bars,) = tree.to_ripser()
    assert bars.shape == (N, 2) and bars.dtype == np.float64
    np.testing.assert_array_equal(bars.T, [np.zeros(N), np.append(heights, np.inf)])
    assert sorted(death for _, (_, death) in tree.to_gudhi()) == bars[:, 1].tolist()
