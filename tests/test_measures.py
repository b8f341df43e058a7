"""The measures of planted networks, against NumPy and scipy in float64."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

import persist_jax as pj

B, TAU = 24, 0.1
QUANTILES = ("deaths_min", "deaths_q25", "deaths_median", "deaths_q75", "deaths_max")


def _planted(seed=0):
    """A copied, a dormant and a dead neuron in one layer; a dead layer; one of rank 3; a single."""
    rng = np.random.default_rng(seed)
    hidden = np.maximum(rng.normal(size=(B, 7)), 0)
    hidden[:, 2] = 0.25 + 3 * hidden[:, 5]
    hidden[:, 3] *= 0.03
    hidden[:, 6] = 0
    return {
        "hidden": hidden,
        "dead": np.zeros((B, 3)),
        "low": rng.normal(size=(B, 3)) @ rng.normal(size=(3, 30)),
        "one": rng.normal(size=(B, 1)),
    }


def _as(dtype, layers):
    return {name: jnp.asarray(layer, dtype) for name, layer in layers.items()}


def _of_cloud(points, dtype, threshold=0.9):
    """The measures of one cloud but `dormant`, by their definitions."""
    n = len(points)
    constant = np.ptp(points, axis=1) == 0
    centred = points - points.mean(1, keepdims=True)
    centred[constant] = 0
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(constant[:, None], 1, norms)
    sizes = np.minimum(np.abs(unit @ unit.T), 1)
    varying = sizes[~constant][:, ~constant]
    pairs = varying[np.triu_indices(len(varying), 1)]
    values = np.linalg.svd(centred, compute_uv=False)
    values = values[values > np.sqrt(4 * np.finfo(dtype).eps) * values[0]]
    shares = values / values.sum()
    found = {
        "constant": constant.mean(),
        "mean_correlation": pairs.mean() if len(pairs) else 0,
        "effective_rank": np.exp(-(shares * np.log(shares)).sum()) if len(shares) else 0,
    }
    if n == 1:
        quantiles, clusters = [np.nan] * 5, 1
    else:
        tree = linkage(squareform(1 - sizes, checks=False), "single")
        quantiles = np.quantile(tree[:, 2], (0, 0.25, 0.5, 0.75, 1))
        clusters = fcluster(tree, 1 - threshold, "distance").max()
    found |= dict(zip(QUANTILES, quantiles, strict=True))
    return found | {"clusters": clusters, "redundant": (n - clusters + constant.sum()) / n}


def _expected(layers, dtype="float32", tau=TAU):
    layers = {name: np.asarray(layer, np.float64) for name, layer in layers.items()}
    activity = {name: np.abs(layer).mean(0) for name, layer in layers.items()}
    asleep = {name: mean <= tau * mean.mean() for name, mean in activity.items()}
    found = _of_cloud(np.concatenate(list(layers.values()), 1).T, dtype)
    found["dormant"] = np.concatenate(list(asleep.values())).mean()
    for name, layer in layers.items():
        own = _of_cloud(layer.T, dtype) | {"dormant": asleep[name].mean()}
        found |= {f"layer/{name}/{measure}": value for measure, value in own.items()}
    return found


def _assert_same(found, expected, tolerance=1e-4):
    assert set(found) == set(expected)
    for name, value in expected.items():
        # Of small singular values, squared, float32 keeps few digits.
        rtol = 20 * tolerance if "rank" in name else tolerance
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=1e-5, err_msg=name)


measured = jax.jit(partial(pj.measures, dormant=TAU))


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_measures_are_those_of_numpy_and_scipy(dtype):
    with jax.enable_x64(dtype == "float64"):
        layers = _as(dtype, _planted())
        found = measured(layers)
        assert {(value.shape, value.dtype) for value in found.values()} == {((), jnp.dtype(dtype))}
        _assert_same(found, _expected(layers, dtype), 1e-9 if dtype == "float64" else 1e-4)


def test_activations_of_half_precision_are_measured_in_single():
    layers = _as("bfloat16", _planted())
    options = {"layers": ["hidden", "low"], "dormant": TAU, "per_layer": False}
    found = pj.measures(layers, **options)
    assert {value.dtype for value in found.values()} == {jnp.dtype("float32")}
    expected = _expected({name: layers[name] for name in options["layers"]})
    _assert_same(found, {name: expected[name] for name in expected if "/" not in name}, 1e-3)


def test_what_is_planted_is_found():
    found = {name: float(value) for name, value in measured(_as("float32", _planted())).items()}
    assert found["layer/hidden/constant"] == pytest.approx(1 / 7)
    assert found["layer/hidden/dormant"] == pytest.approx(2 / 7)
    assert found["layer/hidden/clusters"] == 6 and found["layer/hidden/deaths_min"] == 0
    assert found["layer/hidden/redundant"] == pytest.approx(2 / 7)
    for name, value in {
        "constant": 1, "dormant": 1, "redundant": 1, "clusters": 3, "mean_correlation": 0,
        "effective_rank": 0, "deaths_min": 1, "deaths_max": 1,
    }.items():  # fmt: skip
        assert found[f"layer/dead/{name}"] == value
    assert 2 < found["layer/low/effective_rank"] <= 3
    assert found["layer/one/clusters"] == 1 and found["layer/one/redundant"] == 0
    assert found["layer/one/effective_rank"] == 1 and np.isnan(found["layer/one/deaths_min"])
    assert found["dormant"] == pytest.approx((2 + 3) / 41)


def test_they_agree_with_redundancy():
    layers = _as("float32", _planted())
    options = {"fraction": 0.5, "whole": "hidden", "layers": ["low", "hidden", "dead"]}
    found = pj.measures(layers, per_layer=False, dormant=TAU, **options)
    report = pj.redundancy(layers, **options)
    joined = sum(len(cluster) - 1 for cluster in report.clusters)
    assert float(found["clusters"]) == report.n - joined
    np.testing.assert_allclose(found["redundant"], report.redundant / report.n, rtol=1e-6)
    np.testing.assert_allclose(found["constant"], len(report.constant) / report.n, rtol=1e-6)
    quantiles = [found[name] for name in QUANTILES]
    np.testing.assert_allclose(quantiles, list(report.quantiles.values()), atol=1e-6)
    # What a fraction leaves out is what is dormant: it counts all the same.
    assert float(found["dormant"]) == pytest.approx((2 + 3) / 40)


def test_lanes_and_every_other_step():
    batches = [_as("float32", {"hidden": _planted(seed)["hidden"]}) for seed in (0, 1, 2)]
    lanes = jax.tree.map(lambda *layers: jnp.stack(layers), *batches)
    measured = jax.jit(partial(pj.measures, dormant=TAU, per_layer=False))
    expected = [measured(batch) for batch in batches]
    together = jax.jit(jax.vmap(measured))(lanes)
    nothing = {name: jnp.full_like(value, jnp.nan) for name, value in expected[0].items()}

    def step(number, layers):
        due = number % 2 == 0
        return number + 1, jax.lax.cond(due, measured, lambda _: nothing, layers)

    _, in_turn = jax.jit(partial(jax.lax.scan, step, 0))(lanes)
    for name in nothing:
        each = np.stack([found[name] for found in expected])
        np.testing.assert_allclose(together[name], each, rtol=1e-5, atol=1e-6, err_msg=name)
        each[1] = np.nan
        np.testing.assert_allclose(in_turn[name], each, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.needs_devices(4)
@pytest.mark.parametrize(
    "how", ["shard_map", "explicit", "auto", pytest.param("pmap", marks=pytest.mark.slow)]
)
def test_a_batch_on_four_devices_has_the_measures_of_the_whole(how):
    layers = _planted()
    layers["hidden"][6:, 0] = 0  # dormant on three of the shares
    layers = _as("float32", layers)
    options = {"fraction": 0.5, "whole": "hidden", "dormant": TAU, "per_layer": False}
    expected = jax.jit(partial(pj.measures, **options))(layers)
    share = partial(pj.measures, **options, axis_name="devices")
    if how == "pmap":
        shares = {name: layer.reshape(4, 6, -1) for name, layer in layers.items()}
        found = jax.pmap(share, axis_name="devices", devices=jax.devices()[:4])(shares)
        assert all((value == value[0]).all() for value in found.values())
        found = {name: value[0] for name, value in found.items()}
    else:
        kind = AxisType.Explicit if how == "explicit" else AxisType.Auto
        mesh = jax.make_mesh((4,), ("devices",), axis_types=(kind,), devices=jax.devices()[:4])
        with jax.set_mesh(mesh):
            layers = jax.device_put(layers, NamedSharding(mesh, P("devices")))
            function = partial(pj.measures, **options)
            if how == "shard_map":
                function = jax.shard_map(share, in_specs=P("devices"), out_specs=P())
            found = jax.jit(function)(layers)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_tokens_that_do_not_count_change_nothing():
    hidden = _planted()["hidden"]
    mask = np.arange(B) % 4 != 1
    padded = np.where(mask[:, None], hidden, 1e3).reshape(4, 6, 7)
    options = {"neurons": "tokens", "dormant": TAU, "per_layer": False}
    found = pj.measures(
        [jnp.asarray(padded, jnp.float32)], mask=jnp.asarray(mask.reshape(4, 6)), **options
    )
    expected = _expected({"hidden": hidden[mask]})
    _assert_same(found, {name: expected[name] for name in expected if "/" not in name})


def test_a_value_that_is_not_finite_is_seen_where_it_is():
    layers = _as("float32", _planted())
    fine = measured(layers)
    layers["hidden"] = layers["hidden"].at[3, 0].set(jnp.nan)
    found = measured(layers)
    lost = {name for name in found if np.isnan(found[name]) and not np.isnan(fine[name])}
    names = (*QUANTILES, "clusters", "redundant", "dormant", "effective_rank")
    assert lost == {f"{where}{name}" for where in ("", "layer/hidden/") for name in names}
    assert found["constant"] == fine["constant"]
    rest = _expected({**_planted(), "hidden": _planted()["hidden"][:, 1:]})
    for where in ("", "layer/hidden/"):
        name = f"{where}mean_correlation"
        np.testing.assert_allclose(found[name], rest[name], rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_no_scale_matters_and_nothing_overflows(scale):
    layers = _planted()
    found = measured(_as("float32", {name: scale * layer for name, layer in layers.items()}))
    _assert_same(found, _expected(layers))


def test_a_layer_of_which_nothing_is_kept():
    layers = _as("float32", _planted())
    found = pj.measures(layers, fraction=0.5, whole=None, layers=["one", "dead"])
    assert np.isnan(found["layer/one/constant"]) and found["layer/one/dormant"] == 0
    assert found["constant"] == 1 and found["layer/dead/constant"] == 1


@pytest.mark.needs_cpu("how the tree is found elsewhere is another program")
def test_one_tree_and_one_product_serve_the_term_too():
    term = pj.make_term("t1")

    def both(x):
        layers = [jnp.tanh(x)]
        return term(layers), pj.measures(layers, per_layer=False)

    def count(function):
        text = jax.jit(function).lower(jnp.zeros((16, 40))).compile().as_text()
        # The Gram matrix of the effective rank is 16 x 16.
        return len(re.findall(r" while\(", text)), len(re.findall(r"\[40,40\]\S* dot\(", text))

    assert count(both) == (1, 1)
    alone = count(jax.value_and_grad(lambda x: both(x)[0]))  # A scatter may be a loop, too.
    assert count(jax.value_and_grad(both, has_aux=True)) == alone


@pytest.mark.parametrize(
    "options, words",
    [
        ({"threshold": 0.0}, "threshold: 0.0 is not in (0, 1]"),
        ({"threshold": 1.5}, "threshold: 1.5 is not in (0, 1]"),
        ({"dormant": -0.1}, "dormant: -0.1 is not a finite number of at least 0"),
        ({"dormant": np.inf}, "dormant: inf is not a finite number of at least 0"),
        ({"fraction": 0.5}, "whole: missing, but fraction 0.5 leaves neurons out; say"),
        ({"fraction": 0.0, "whole": None}, "fraction: 0.0 keeps no neuron of any layer"),
        ({"layers": "h3"}, "layers: 'h3' is not one of hidden, dead, low, one"),
        ({"neurons": "rows"}, "neurons: 'rows' is not one of positions, channels"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_wrong_choices_are_one_line(options, words):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        pj.measures(_as("float32", _planted()), **options)
    assert str(error.value).startswith(words)
