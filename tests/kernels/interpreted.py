"""Our kernels in Triton's interpreter, which runs them on a CPU, one program at a time.

    TRITON_INTERPRET=1 python -m pytest -o addopts= tests/kernels/interpreted.py

The interpreter takes PyTorch's tensors. Here it takes NumPy arrays, so that no PyTorch is needed.
"""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax
from oracles import KINDS, kruskal, neurons, single_linkage, symmetric
from triton.runtime import interpreter

from persist_jax.kernels import Geometry, cloud_deaths, gpu, standardise, triton_kernels
from persist_jax.kernels.matrix_free import matrix_free_edges

_NAN_OF_A_GPU = np.int32(0x7FFFFFFF).view(np.float32)
_TYPES = {"float32": "*fp32", "bfloat16": "*bf16", "int32": "*i32"}


class _Pointer:
    def __init__(self, array: np.ndarray):
        self.array = array


def take_numpy_arrays(monkeypatch) -> None:
    convert = interpreter._implicit_cvt

    def converted(argument):
        if not isinstance(argument, _Pointer):
            return convert(argument)
        array = argument.array
        kind = interpreter.tl.str_to_ty(_TYPES[array.dtype.name], None)
        address = np.array([array.ctypes.data], np.uint64)
        return interpreter.tl.tensor(interpreter.TensorHandle(address, kind), kind)

    def dot(self, left, right, added, *_, **__):
        # The interpreter multiplies the bits of a bfloat16 as if they were an integer.
        left, right = (
            each.data
            if each.dtype.scalar.is_fp32()
            else each.data.view(ml_dtypes.bfloat16).astype(np.float32)
            for each in (left, right)
        )
        product = left @ right + added.data
        product[np.isnan(product)] = _NAN_OF_A_GPU
        return interpreter.TensorHandle(product, added.dtype.scalar)

    monkeypatch.setattr(interpreter, "_implicit_cvt", converted)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", dot)
    executor = interpreter.GridExecutor
    monkeypatch.setattr(
        executor, "_init_args_hst", lambda self, arguments, named: (list(arguments), dict(named))
    )
    monkeypatch.setattr(executor, "_restore_args_dev", lambda self, *arguments: None)


def use_interpreter(monkeypatch) -> None:
    """Let `gpu` launch kernels in the interpreter; what a kernel must write holds rubbish first."""
    take_numpy_arrays(monkeypatch)
    monkeypatch.setenv(gpu.SWITCH, "1")

    def call(name, arrays, results, *, grid, warps, stages=2, in_place=None, **constants):
        shapes = [
            jax.ShapeDtypeStruct(*(one if isinstance(one[0], tuple) else (one, np.int32)))
            for one in results
        ]

        def run(*arrays):
            arrays = [np.ascontiguousarray(array) for array in arrays]
            written = [np.full(one.shape, -7, one.dtype) for one in shapes]
            pointers = map(_Pointer, [*arrays, *written])
            vars(triton_kernels)[name][grid](*pointers, **constants)
            return written

        return jax.pure_callback(run, shapes, *arrays)

    monkeypatch.setattr(gpu, "_call", call)


def sorted_edges(distances, edges):
    """The edges in the order of the tree: by (weight, lower, higher)."""
    lower, higher = edges.T
    return edges[np.lexsort((higher, lower, np.asarray(distances)[lower, higher]))]


@pytest.fixture
def interpreted(monkeypatch):
    use_interpreter(monkeypatch)
    # Small tiles, so that few points fill several of them.
    small = {"_TILE": 16, "_DEPTH": 16, "_ROWS": 4, "_WIDTH": 16, "_LEAST_GROUP": 16}
    small |= {"_BOUND_ROWS": 16, "_BOUND_COLUMNS": 8, "_BOUND_DEPTH": 16, "_BOUND_VERTICES": 64}
    small |= {"LOOK_ROWS": 4, "_LOOK_COLUMNS": 8, "_LOOK_DEPTH": 16, "_LOOK_BOUNDS": 4}
    for name, value in small.items():
        monkeypatch.setattr(gpu, name, value)


@pytest.mark.parametrize("n", [2, 3, 5, 16, 33])
def test_the_rounds_find_the_tree_of_any_matrix(interpreted, n):
    rng = np.random.default_rng(n)
    matrices = np.stack([symmetric(rng, n, kind) for kind in KINDS])
    edges, comparable = gpu.edges_of_matrices(jnp.asarray(matrices))
    assert comparable.all()
    for matrix, found in zip(matrices, np.asarray(edges), strict=True):
        np.testing.assert_array_equal(sorted_edges(matrix, found), kruskal(matrix))


def test_a_nan_is_seen_unless_it_is_on_the_diagonal(interpreted):
    matrices = np.stack([symmetric(np.random.default_rng(0), 9)] * 3)
    matrices[1, 4, 4] = np.nan
    matrices[2, 3, 5] = matrices[2, 5, 3] = np.nan
    _, comparable = gpu.edges_of_matrices(jnp.asarray(matrices))
    assert comparable.tolist() == [True, True, False]


@pytest.mark.parametrize("n", [6, 16, 33])
def test_the_tree_of_units(interpreted, n):
    rng = np.random.default_rng(n)
    units = jnp.stack([standardise(jnp.asarray(neurons(rng, n, 10))) for _ in range(2)])
    edges = np.asarray(gpu.edges_of_units(units))
    for unit, found in zip(np.asarray(units, np.float64), edges, strict=True):
        gaps = 1 - np.abs(unit @ unit.T)
        weights = np.sort(gaps[found[:, 0], found[:, 1]])
        np.testing.assert_allclose(weights, single_linkage(np.maximum(gaps, 0)), atol=1e-6)
        assert (found[:, 0] < found[:, 1]).all()


def test_a_unit_of_nan_has_an_edge(interpreted):
    units = standardise(jnp.asarray(neurons(np.random.default_rng(0), 20, 10)).at[7, 3].set(np.nan))
    edges = np.asarray(gpu.edges_of_units(units[None])[0])
    assert 7 in edges and (edges[:, 0] < edges[:, 1]).all()


@pytest.mark.parametrize("n", [3, 17, 33])
def test_sums_of_correlations_and_their_slopes(interpreted, n):
    rng = np.random.default_rng(n)
    units = jnp.stack([standardise(jnp.asarray(neurons(rng, n, 10))) for _ in range(2)])
    total, slopes = gpu.absolute_sums(units)
    for lane, unit in enumerate(np.asarray(units, np.float64)):
        correlations = unit @ unit.T
        np.fill_diagonal(correlations, 0)
        size = np.minimum(np.abs(correlations), 1)
        signs = np.where(size < 1 - 1e-6, np.sign(correlations), 0)
        counted = size > 1e-9
        np.testing.assert_allclose(total[lane], size.sum(), rtol=1e-5)
        np.testing.assert_allclose(slopes[lane], np.where(counted, signs, 0) @ unit, atol=1e-5)


def _near_ties(rng, n, b):
    """Neurons whose distances to several others differ by less than bfloat16 can tell."""
    centres = np.repeat(rng.normal(size=(n // 4, b)), 4, 0)
    return rng.permutation(centres) + 0.05 * rng.normal(size=centres.shape)


@pytest.mark.parametrize(
    ("kind", "signed"),
    [("network", False), ("near ties", False), ("random", False), ("network", True)],
)
def test_the_matrix_free_tree_is_exact(interpreted, monkeypatch, kind, signed):
    rng = np.random.default_rng(3)
    points = {
        "network": lambda: neurons(rng, 70, 24),
        "near ties": lambda: _near_ties(rng, 64, 24),
        "random": lambda: rng.normal(size=(50, 24)),
    }[kind]()
    points = jnp.asarray(points, jnp.float32)

    def on_gpu(*operands, default, **platforms):
        return platforms.get("cuda", default)(*operands)

    expected = cloud_deaths(points, signed=signed, algorithm="prim")
    monkeypatch.setattr(lax, "platform_dependent", on_gpu)
    calls = []
    call = gpu._call

    def counted(name, *arguments, **options):
        calls.append(name)
        return call(name, *arguments, **options)

    monkeypatch.setattr(gpu, "_call", counted)
    geometry = Geometry(signed=signed)
    edges = matrix_free_edges(standardise(points), tile=32, geometry=geometry)
    assert {"group_bounds", "look_at_group"} <= set(calls)
    unit = np.asarray(standardise(points), np.float64)
    products = (unit[edges[:, 0]] * unit[edges[:, 1]]).sum(1)
    found = 1 - (products if signed else np.abs(products))
    np.testing.assert_allclose(np.sort(found), expected, atol=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_bounds_are_below_the_distances_and_near_them(interpreted, signed):
    rng = np.random.default_rng(4)
    points = np.concatenate([neurons(rng, 60, 24), _near_ties(rng, 60, 24)])
    unit = standardise(jnp.asarray(points, jnp.float32))
    labels = jnp.asarray(rng.integers(0, 9, 128), jnp.int32)
    padded = jnp.pad(unit, ((0, 8), (0, 0)))
    before = jnp.zeros((32, 8))
    bounds = gpu.group_bounds(
        padded[16:48], labels[16:48], padded, labels, before, 120, 16, signed
    )
    bounds = np.asarray(bounds)
    products = np.asarray(unit[16:48]) @ np.asarray(unit).T
    gaps = 1 - (products if signed else np.abs(products))
    gaps = np.where(np.asarray(labels[16:48, None] != labels[None, :120]), gaps, np.inf)
    gaps = np.pad(gaps, ((0, 0), (0, 8)), constant_values=np.inf).reshape(32, 8, 16).min(2)
    assert (bounds <= gaps + 1e-7).all()
    finite = np.isfinite(gaps)
    assert (np.isinf(bounds) == ~finite).all() and (gaps - bounds)[finite].max() < 0.01
