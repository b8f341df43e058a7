"""Our kernels for NVIDIA GPUs: run by an interpreter, lowered on any machine, held against XLA."""

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export
from jax.sharding import Mesh, PartitionSpec
from oracles import KINDS, neurons, single_linkage, symmetric

import persist_jax as pj
from persist_jax.kernels import gpu, standardise
from persist_jax.kernels.spanning_tree import boruvka_edges, in_order

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton has no wheel for this machine"
)
TARGET = "__gpu$xla.gpu.ptx"


@pytest.mark.slow
@pytest.mark.needs_cpu("the interpreter runs there")
def test_the_kernels_in_tritons_interpreter():
    # Triton is imported either to interpret or to compile, so the interpreter has its own process.
    path = Path(__file__).with_name("interpreted.py")
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", str(path)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout


@pytest.fixture(scope="module", autouse=True)
def without_a_gpu_too(forget_kernels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(gpu.SWITCH, "1")
        forget_kernels()
        yield
    forget_kernels()


def lowered(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    traced = jax.jit(function).trace(*arguments)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def in_order_of(edges, distances):
    return in_order(distances[edges[:, 0], edges[:, 1]], edges)[1]


def value_and_gradient(points):
    return jax.value_and_grad(lambda x: (pj.correlation_deaths(x) ** 2).sum())(points)


def search(points):
    return jax.grad(lambda x: pj.correlation_deaths(x, algorithm="matrix_free").sum())(points)


def test_programs_for_a_gpu_hold_our_kernels_and_no_more_of_them_for_more_lanes():
    one = lowered(value_and_gradient, (40, 16)).count(TARGET)
    # The product, the least of its tiles, the first joins, and five rounds of two.
    assert one == 3 + 2 * 5
    assert lowered(jax.vmap(value_and_gradient), (3, 40, 16)).count(TARGET) == one
    mean = jax.vmap(jax.value_and_grad(pj.mean_correlation))
    assert lowered(mean, (3, 40, 16)).count(TARGET) == 2
    # Bounds of groups and looks at them.
    assert lowered(search, (70_000, 8)).count(TARGET) == 2


@pytest.mark.slow
def test_lanes_of_lanes_matrices_and_few_points():
    one = lowered(value_and_gradient, (40, 16)).count(TARGET)
    assert lowered(jax.vmap(jax.vmap(value_and_gradient)), (2, 3, 40, 16)).count(TARGET) == one
    assert lowered(jax.vmap(pj.zeroth_deaths), (3, 40, 40)).count(TARGET) == 2 + 2 * 5
    assert TARGET not in lowered(lambda x: pj.correlation_deaths(x, algorithm="prim"), (40, 16))
    # Groups of fewer points are not searched by our kernels.
    assert TARGET not in lowered(search, (4000, 8))


def test_other_numbers_and_sizes_take_xlas_way(monkeypatch, traced_anew):
    monkeypatch.setattr(gpu, "MOST_POINTS", 39)
    for n, there in ((40, False), (39, True)):
        text = lowered(lambda points: value_and_gradient(points), (n, 16))
        assert (TARGET in text) == there
    assert not gpu.has_kernels_for(jnp.zeros((9, 4), jnp.bfloat16))
    assert not gpu.has_kernels_for(jnp.zeros((1, 4)))


def test_without_triton_one_line_says_what_would_be_faster(monkeypatch, caplog):
    points = jnp.zeros((9, 4))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    gpu._say_what_would_be_faster.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not gpu.has_kernels_for(points)
        # There is nothing to gain where there is no GPU.
        monkeypatch.delenv(gpu.SWITCH)
        assert (not caplog.records) == (jax.default_backend() != "gpu")
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        assert not gpu.has_kernels_for(points) and not gpu.has_kernels_for(points)
    (record,) = caplog.records
    assert 'pip install "persist_jax[cuda]"' in record.getMessage()


def test_an_environment_variable_turns_the_kernels_off(monkeypatch):
    points, here = jnp.zeros((9, 4)), jax.default_backend() == "gpu"
    for value, expected in (("1", True), ("", here), ("0", False)):
        monkeypatch.setenv("PERSIST_JAX_GPU_KERNELS", value)
        assert gpu.has_kernels_for(points) == expected


def test_a_gpu_without_products_of_bfloat16_takes_xlas_way(monkeypatch):
    points = jnp.zeros((9, 4))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    cases = (("7.5", False), ("8.0", True), ("12.0", True), ("gfx942", False))
    for capability, expected in cases:
        devices = [SimpleNamespace(compute_capability=capability)]
        monkeypatch.setattr(jax, "devices", lambda devices=devices: devices)
        assert gpu.has_kernels_for(points) == expected


def test_a_program_for_a_gpu_can_be_exported_without_one():
    check = export.DisabledSafetyCheck.custom_call(TARGET)
    exported = export.export(
        jax.jit(value_and_gradient), platforms=["cuda"], disabled_checks=[check]
    )(jax.ShapeDtypeStruct((40, 16), jnp.float32))
    assert TARGET in export.deserialize(exported.serialize()).mlir_module()


@pytest.mark.needs_gpu
class TestOnAGPU:
    """The same edges to the bit as XLA's, for the same distances."""

    both = {
        "ours": jax.jit(jax.vmap(lambda d: in_order_of(gpu.edges_of_matrices(d[None])[0][0], d))),
        "XLA": jax.jit(jax.vmap(lambda d: in_order_of(boruvka_edges(d)[0], d))),
    }

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), n=st.sampled_from([2, 3, 17, 64, 130]))
    def test_the_same_tree(self, seed, n):
        rng = np.random.default_rng(seed)
        matrices = [symmetric(rng, n, kind) for kind in KINDS]
        # Copies of a point, and points at an infinite distance from all others.
        copied = matrices[0][np.ix_(*[rng.integers(0, n, n)] * 2)]
        lonely = matrices[0].copy()
        lonely[n // 2] = lonely[:, n // 2] = np.inf
        matrices = np.stack([*matrices, copied, lonely])
        ours = self.both["ours"](matrices)
        np.testing.assert_array_equal(ours, self.both["XLA"](matrices))

    @pytest.mark.parametrize("n", [40, 1010, 2500])
    def test_deaths_of_points(self, n):
        points = jnp.asarray(neurons(np.random.default_rng(n), n, 64))
        found = jax.jit(lambda x: pj.correlation_deaths(x))(points)
        unit = np.asarray(standardise(points), np.float64)
        expected = single_linkage(np.maximum(1 - np.abs(unit @ unit.T), 0))
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_every_way_to_run_it_gives_the_same(self):
        points = jnp.asarray(neurons(np.random.default_rng(1), 90, 32))
        deaths = jax.jit(lambda x: pj.correlation_deaths(x))
        expected = deaths(points)
        lanes = jnp.stack([points[::-1], points, points + 1])
        mesh = Mesh(np.array(jax.devices()[:1]), ("d",))
        spec = PartitionSpec("d")
        mapped = jax.shard_map(jax.vmap(deaths), mesh=mesh, in_specs=spec, out_specs=spec)
        check = export.DisabledSafetyCheck.custom_call(TARGET)
        exported = export.export(deaths, disabled_checks=[check])(points)
        ways = {
            "vmap": jax.jit(jax.vmap(deaths))(lanes)[1],
            "two vmaps": jax.jit(jax.vmap(jax.vmap(deaths)))(lanes[None])[0, 1],
            "shard_map": jax.jit(mapped)(lanes)[1],
            "scan": jax.lax.scan(lambda carry, x: (carry, deaths(x)), 0, lanes)[1][1],
            "export": export.deserialize(exported.serialize()).call(points),
        }
        for name, found in ways.items():
            np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)

    def test_the_matrix_free_tree(self):
        rng = np.random.default_rng(3)
        clusters = np.repeat(rng.normal(size=(2000, 64)), 20, 0)
        points = neurons(rng, 40_000, 64)
        points[100:20_100] += clusters[:20_000].astype(np.float32) * 4
        deaths = jax.jit(lambda x: pj.correlation_deaths(x, algorithm="matrix_free"))
        found = deaths(points)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gpu, "has_search_kernels_for", lambda array, size: False)
            jax.clear_caches()
            expected = deaths(points)
        jax.clear_caches()
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_mean_correlation_and_its_gradient(self):
        points = jnp.asarray(np.random.default_rng(2).normal(size=(300, 40)).astype(np.float32))
        function = jax.jit(jax.value_and_grad(pj.mean_correlation))
        value, gradient = function(points)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gpu, "has_kernels_for", lambda array: False)
            jax.clear_caches()
            expected, slope = function(points)
        jax.clear_caches()
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(gradient, slope, atol=1e-9)
