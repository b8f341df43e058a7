"""Trees of any distance of points against scipy's single linkage and float64 differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import neurons, single_linkage
from scipy.spatial.distance import cdist

import persist_jax as pj
from persist_jax.kernels import Geometry, normalise
from persist_jax.kernels.matrix_free import edges_in_order, grow

GEOMETRIES = [
    ("correlation", True),
    ("cosine", False),
    ("cosine", True),
    ("pearson", False),
    ("euclidean", False),
]
ALGORITHMS = ["prim", "boruvka", "matrix_free"]
# Each distance by one algorithm, and the two kinds of gaps by the search that forms no matrix.
QUICK = {(*geometry, "prim") for geometry in GEOMETRIES}
QUICK |= {("cosine", True, "matrix_free"), ("euclidean", False, "matrix_free")}
EVERY = pytest.mark.parametrize(
    ("distance", "signed", "algorithm"),
    [
        pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
        for case in ((*geometry, name) for geometry in GEOMETRIES for name in ALGORITHMS)
    ],
)
OF_EUCLIDEAN = pytest.mark.parametrize(
    "algorithm", ["prim", pytest.param("boruvka", marks=pytest.mark.slow), "matrix_free"]
)
# Those with a sign share all of their program but the rows.
SLOPES = {("cosine", True), ("pearson", False), ("euclidean", False)}
SIZE = 40


def exact(points, distance, signed=False):
    """The matrix of distances in float64 by scipy."""
    points = np.asarray(points, np.float64)
    if distance == "euclidean":
        return cdist(points, points)
    if distance != "cosine":
        points = points - points.mean(1, keepdims=True)
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    unit = points / np.where(norms == 0, 1, norms)
    cosines = np.clip(unit @ unit.T, -1, 1)
    if distance == "pearson":
        return np.sqrt(1 - cosines**2)
    return 1 - (cosines if signed else np.abs(cosines))


@functools.cache
def compiled(distance, signed, algorithm):
    options = {"distance": distance, "signed": signed, "algorithm": algorithm}
    return jax.jit(
        lambda points: (
            pj.cloud_tree(points, **options),
            jax.grad(lambda x: (pj.cloud_deaths(x, **options) ** 2).sum())(points),
        )
    )


@EVERY
def test_deaths_are_single_linkage(distance, signed, algorithm):
    points = neurons(np.random.default_rng(0), SIZE, 12)
    tree, _ = compiled(distance, signed, algorithm)(points)
    expected = single_linkage(exact(points, distance, signed))
    # The sine of a small angle has half the digits of the cosine that it is made of.
    tolerance = 2e-3 if distance == "pearson" else 3e-6
    np.testing.assert_allclose(tree.deaths, expected, atol=tolerance)
    along = exact(points, distance, signed)[tuple(np.asarray(tree.edges).T)]
    np.testing.assert_allclose(tree.deaths, along, atol=tolerance)


def far_from_zero(rng):
    return rng.normal(size=(SIZE, 12)) + 1e4


def near_copies(rng):
    """Five points, each many times within a thousandth of a millionth of the cloud's size."""
    centres = np.repeat(rng.normal(size=(5, 12)), SIZE // 5, 0)
    return centres + 1e-6 * rng.normal(size=(SIZE, 12))


def an_outlier(rng):
    points = rng.normal(size=(SIZE, 12))
    points[3] *= 1e3
    return points


def large_and_small(rng):
    return rng.normal(size=(SIZE, 12)) * 1e30


@OF_EUCLIDEAN
@pytest.mark.parametrize("cloud", [far_from_zero, near_copies, an_outlier, large_and_small])
def test_euclidean_deaths_have_the_digits_of_the_points(cloud, algorithm):
    """To some 1e-7 of the cloud's size, where the products alone have 3e-4."""
    points = cloud(np.random.default_rng(1)).astype(np.float32)
    tree, gradient = compiled("euclidean", False, algorithm)(points)
    expected = single_linkage(exact(points, "euclidean"))
    size = np.abs(points - points.mean(0)).max()
    np.testing.assert_allclose(tree.deaths, expected, rtol=1e-5, atol=2e-7 * size)
    if cloud is not large_and_small:
        assert np.isfinite(gradient).all()


@OF_EUCLIDEAN
def test_equal_points_have_deaths_of_exactly_0_without_gradient(algorithm):
    points = np.random.default_rng(2).normal(size=(SIZE, 12)).astype(np.float32)
    points[1::2] = points[::2]
    tree, gradient = compiled("euclidean", False, algorithm)(points)
    assert (np.asarray(tree.deaths)[: SIZE // 2] == 0).all()
    assert np.asarray(tree.deaths)[SIZE // 2] > 0.1
    assert {tuple(edge) for edge in tree.edges[: SIZE // 2].tolist()} == {
        (i, i + 1) for i in range(0, SIZE, 2)
    }
    assert np.isfinite(gradient).all()
    same = np.repeat(points[:1], SIZE, 0)
    tree, gradient = compiled("euclidean", False, algorithm)(same)
    assert (np.asarray(tree.deaths) == 0).all() and (np.asarray(gradient) == 0).all()


@pytest.mark.parametrize(
    ("distance", "signed"),
    [
        pytest.param(*case, marks=[] if case in SLOPES else [pytest.mark.slow])
        for case in GEOMETRIES
    ],
)
def test_gradients_equal_differences_in_float64(distance, signed):
    with jax.enable_x64(True):
        points = np.random.default_rng(3).normal(size=(9, 7))
        _, gradient = compiled(distance, signed, "prim")(jnp.asarray(points))
        assert gradient.dtype == jnp.float64

        def value(points):
            return (single_linkage(exact(points, distance, signed)) ** 2).sum()

        step, expected = 1e-6, np.zeros_like(points)
        for k in np.ndindex(points.shape):
            moved = np.zeros_like(points)
            moved[k] = step
            expected[k] = (value(points + moved) - value(points - moved)) / (2 * step)
        np.testing.assert_allclose(gradient, expected, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distance", "signed", "algorithm"),
    [
        ("euclidean", False, "prim"),
        ("euclidean", False, "matrix_free"),
        pytest.param("cosine", True, "prim", marks=pytest.mark.slow),
        pytest.param("cosine", True, "matrix_free", marks=pytest.mark.slow),
    ],
)
def test_vmap_equals_a_loop(distance, signed, algorithm):
    rng = np.random.default_rng(4)
    lanes = np.stack([neurons(rng, SIZE, 12), near_copies(rng)]).astype(np.float32)
    one = compiled(distance, signed, algorithm)
    trees, gradients = jax.jit(jax.vmap(one))(lanes)
    for k, points in enumerate(lanes):
        tree, gradient = one(points)
        np.testing.assert_array_equal(trees.edges[k], tree.edges)
        np.testing.assert_allclose(trees.deaths[k], tree.deaths, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gradients[k], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("distance", "signed"), [("euclidean", False), ("cosine", True)])
def test_the_matrix_free_search_finds_the_tree_of_a_cloud_in_many_tiles(distance, signed):
    """Points of small whole numbers, whose distances are exact and full of ties."""
    points = np.random.default_rng(5).integers(-2, 3, size=(300, 8)).astype(np.float32)
    points[5] = points[100] = 0
    geometry = Geometry(distance, signed)
    rows = geometry.rows(jnp.asarray(points))
    edges = edges_in_order(grow(rows, tile=64, geometry=geometry).edges, len(points))
    assert len({tuple(edge) for edge in np.asarray(edges).tolist()}) == len(points) - 1
    matrix = exact(points, distance, signed)
    found = np.sort(matrix[tuple(np.asarray(edges).T)])
    np.testing.assert_allclose(found, single_linkage(matrix), atol=2e-6)


@EVERY
def test_nan_makes_every_death_nan(distance, signed, algorithm):
    points = np.random.default_rng(6).normal(size=(SIZE, 12)).astype(np.float32)
    for wrong in (np.nan, np.inf):
        points[7, 2] = wrong
        assert np.isnan(compiled(distance, signed, algorithm)(points)[0].deaths).all()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("distance", ["correlation", "cosine"])
def test_matrices_equal_those_of_scipy(distance, signed):
    points = neurons(np.random.default_rng(7), SIZE, 12)
    function = pj.correlation_distance if distance == "correlation" else pj.cosine_distance
    matrix = np.asarray(function(points, signed=signed))
    expected = exact(points, distance, signed)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(matrix, expected, atol=2e-6)
    assert (matrix == matrix.T).all()


def test_rows_of_norm_1():
    points = np.array([[3, 4], [0, 0], [1e-30, 0], [3e38, 3e38], [np.inf, 1]], np.float32)
    rows = normalise(points)
    expected = [[0.6, 0.8], [0, 0], [1, 0], [0.5**0.5, 0.5**0.5], [np.nan, np.nan]]
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


@pytest.mark.usefixtures("unchecked_types")
def test_errors_name_the_argument_and_the_choices():
    points = jnp.eye(4)
    for wrong, message in [
        ({"distance": "angle"}, "^distance: 'angle' is not one of correlation, cosine, pearson, "),
        ({"distance": "pearson", "signed": True}, "^signed: True, but the pearson distance has no"),
        (
            {"distance": "cosine", "signed": True, "mask": jnp.ones(4, bool)},
            "^mask: given, but the signed cosine distance has no largest value",
        ),
    ]:
        with pytest.raises(ValueError, match=wrong and message):
            pj.cloud_deaths(points, **wrong)


def test_euclidean_bounds_are_below_the_gaps_and_near_them():
    geometry = Geometry("euclidean")
    points = np.random.default_rng(3).normal(5, 1, (40, 30))
    rows = geometry.rows(jnp.asarray(points, jnp.float32))
    bounds = np.asarray(geometry.lower_bounds(rows, rows), np.float64)
    exact = np.asarray(rows, np.float64)[:, :-2]
    exact = np.square(exact[:, None] - exact[None]).sum(2) / 2
    half = np.square(np.asarray(rows, np.float64)[:, :-2]).sum(1) / 2
    slack = 4 * 32 * np.finfo(np.float32).eps * (half[:, None] + half[None])
    pairs = ~np.eye(40, dtype=bool)
    assert (bounds <= exact)[pairs].all() and (bounds >= exact - slack)[pairs].all()
