import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import KINDS, kruskal, symmetric

from persist_jax.kernels import minimum_spanning_tree
from persist_jax.kernels.spanning_tree import MOST_POINTS, _Frontier, _least_in_one_pass

# On a CPU "auto" is Prim, as `test_on_a_cpu_prim_is_one_kernel` sees.
ALGORITHMS = ("auto", "boruvka") if jax.default_backend() == "cpu" else ("auto", "prim", "boruvka")
tree = jax.jit(minimum_spanning_tree, static_argnames="algorithm")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n", [2, 3, 31, 33, 70])
def test_edges_equal_kruskals(algorithm, n):
    rng = np.random.default_rng(n)
    for kind in KINDS:
        for _ in range(3):
            distances = symmetric(rng, n, kind)
            edges = tree(jnp.asarray(distances), algorithm=algorithm)
            assert edges.dtype == jnp.int32
            np.testing.assert_array_equal(edges, kruskal(distances), err_msg=kind)
    # Every vertex is nearest to the next one: a single round of Boruvka joins the whole chain.
    chain = np.full((n, n), n + 1.0, np.float32)
    for i in range(n - 1):
        chain[i, i + 1] = chain[i + 1, i] = n - i
    np.testing.assert_array_equal(tree(chain, algorithm=algorithm), kruskal(chain))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_float64_tells_apart_what_float32_cannot(algorithm):
    distances = symmetric(np.random.default_rng(0), 20, "constant").astype(np.float64)
    noise = np.random.default_rng(1).random((20, 20)) * 1e-12
    distances += noise + noise.T
    with jax.enable_x64(True):
        edges = tree(jnp.asarray(distances), algorithm=algorithm)
    np.testing.assert_array_equal(edges, kruskal(distances))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_a_gpu_finds_the_least_keys_of_rows_in_one_pass(dtype):
    keys = np.random.default_rng(0).integers(-3, 3, (40, 33)).astype(dtype)
    keys[7] = np.iinfo(dtype).max
    with jax.enable_x64(dtype == np.int64):
        least, index = _least_in_one_pass(jnp.asarray(keys))
    np.testing.assert_array_equal(least, keys.min(1))
    np.testing.assert_array_equal(index, keys.argmin(1))
    assert (least.dtype, index.dtype) == (dtype, np.int32)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision(dtype):
    distances = jnp.asarray(symmetric(np.random.default_rng(0), 40), dtype)
    expected = kruskal(np.asarray(distances, np.float32))
    for algorithm in ALGORITHMS:
        edges = tree(distances, algorithm=algorithm)
        np.testing.assert_array_equal(edges, expected)


def test_zeros_of_either_sign_are_equal():
    distances = np.zeros((6, 6), np.float32)
    distances[2:4] = distances[:, 2:4] = -0.0
    for algorithm in ALGORITHMS:
        edges = tree(jnp.asarray(distances), algorithm=algorithm)
        np.testing.assert_array_equal(edges, kruskal(np.zeros((6, 6))))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_vmap_equals_a_loop(algorithm):
    rng = np.random.default_rng(0)
    distances = np.stack([symmetric(rng, 33, kind) for kind in KINDS])
    expected = np.stack([kruskal(lane) for lane in distances])

    def lane(distances):
        return minimum_spanning_tree(distances, algorithm=algorithm)

    np.testing.assert_array_equal(jax.jit(jax.vmap(lane))(distances), expected)
    nested = jax.vmap(jax.vmap(lane, in_axes=2))(np.moveaxis(distances[None], 1, -1))
    np.testing.assert_array_equal(nested[0], expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_gives_the_star_wherever_it_is(algorithm):
    for entry in itertools.combinations(range(8), 2):
        distances = symmetric(np.random.default_rng(0), 8)
        distances[entry] = distances[entry[::-1]] = np.nan
        edges = tree(jnp.asarray(distances), algorithm=algorithm)
        np.testing.assert_array_equal(edges[:, 0], 0)
        np.testing.assert_array_equal(np.sort(edges[:, 1]), np.arange(1, 8))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("diagonal", [np.nan, np.inf, -1.0])
def test_the_diagonal_is_not_read(algorithm, diagonal):
    distances = symmetric(np.random.default_rng(0), 40)
    expected = kruskal(distances)
    np.fill_diagonal(distances, diagonal)
    edges = tree(jnp.asarray(distances), algorithm=algorithm)
    np.testing.assert_array_equal(edges, expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_point_has_no_edges(algorithm):
    assert minimum_spanning_tree(jnp.zeros((1, 1)), algorithm=algorithm).shape == (0, 2)


def test_an_edge_of_the_most_points_is_a_number_of_32_bits():
    n = MOST_POINTS
    for lower, higher in ((n - 2, n - 1), (0, n - 1), (32_768, 32_769)):
        edge = jnp.uint32(lower * n + higher)
        assert [int(end) for end in _Frontier.ends(SimpleNamespace(n=n), edge)] == [lower, higher]


@pytest.mark.usefixtures("unchecked_types")
def test_errors_name_the_argument_and_the_choices():
    for shape in [(0, 0), (3,), (3, 4), (2, 3, 3)]:
        words = r"^distances must have shape \(n, n\) with at least one point, got shape"
        with pytest.raises(ValueError, match=rf"{words} \({shape[0]},"):
            minimum_spanning_tree(jnp.zeros(shape))
    with pytest.raises(ValueError, match="'kruskal' is not one of auto, prim, boruvka"):
        minimum_spanning_tree(jnp.zeros((3, 3)), algorithm="kruskal")


@pytest.mark.needs_cpu("elsewhere Prim's loop is compiled as any other")
@pytest.mark.parametrize("algorithm", ["auto", "prim"])
def test_on_a_cpu_prim_is_one_kernel(algorithm):
    """The mark survives until the program is compiled, on a call that is not inlined."""
    text = tree.lower(jnp.ones((9, 9)), algorithm=algorithm).compile().as_text()
    calls = [line for line in text.splitlines() if " call(" in line and "s32[8]" in line]
    assert any('xla_cpu_small_call="true"' in line for line in calls)
