"""What is redundant in activations, against brute force over the whole correlation matrix."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform

import persist_jax as pj
from persist_jax.redundancy.pairs import strongest_pairs
from persist_jax.redundancy.plot import linkage_of_the_first

B = 40


def _activations(order=None):
    """Two layers after a ReLU; planted are a pair across them, a cluster of four, two dead."""
    rng = np.random.default_rng(0)
    first = np.maximum(rng.normal(size=(B, 20)), 0)
    second = np.maximum(rng.normal(size=(B, 12)), 0)
    for place, copy in enumerate((3, 8, 17)):
        first[:, copy] = (2 + place) * first[:, 5] + 0.1 * rng.normal(size=B)
    second[:, 7] = 5 - 3 * first[:, 11] + 0.02 * rng.normal(size=B)
    first[:, 2], second[:, 0] = 0.0, 4.0
    # Everything that was not planted is of little activity, so that a share of 0.5 drops much.
    planted = [3, 5, 8, 17, 11, 2]
    first[:, [k for k in range(20) if k not in planted]] *= rng.uniform(0.1, 0.2, 14)
    if order is not None:
        first = first[:, order]
    logits = rng.normal(size=(B, 3))
    layers = {"conv": first.reshape(B, 2, 2, 5), "dense": second, "logits": logits}
    return {name: jnp.asarray(layer, jnp.float32) for name, layer in layers.items()}


ORDER = np.random.default_rng(1).permutation(20)


@pytest.mark.parametrize(
    "order, fraction, algorithm",
    [
        pytest.param(None, 1.0, "auto", id="whole", marks=pytest.mark.slow),
        pytest.param(None, 0.5, "auto", id="sampled", marks=pytest.mark.slow),
        pytest.param(ORDER, 0.5, "auto", id="sampled and reordered"),
        pytest.param(ORDER, 1.0, "matrix_free", id="reordered, without a matrix"),
    ],
)
def test_planted_neurons_are_found_with_layer_and_index(order, fraction, algorithm):
    place = np.arange(20) if order is None else np.argsort(order)
    activations = _activations(order)
    found = pj.redundancy(activations, fraction=fraction, whole=-1, algorithm=algorithm, top=7)
    assert found.n == (35 if fraction == 1 else 10 + 6 + 3)
    cluster = {("conv", place[k]) for k in (3, 5, 8, 17)}
    pair = (("conv", place[11]), ("dense", 7))
    assert [set(group) for group in found.clusters] == [cluster, set(pair)]
    assert found.pairs[0][:2] == pair
    assert {neuron for strong in found.pairs[1:] for neuron in strong[:2]} == cluster
    dead = {("conv", place[2]), ("dense", 0)}
    # The dense one has an activity of 4; that of the other is none, and a share leaves it out.
    assert set(found.constant) == (dead if fraction == 1 else {("dense", 0)})
    assert found.redundant == 3 + 1 + len(found.constant)


def test_counts_of_chosen_layers_by_position():
    found = pj.redundancy(list(_activations().values()), layers=[1, 0])
    assert [tuple(count) for count in found.layers] == [(1, 12, 1, 1), (0, 20, 1, 5)]
    assert found.constant == ((1, 0), (0, 2)) and found.neurons[0] == (1, 0)
    assert set(found.clusters[1]) == {(1, 7), (0, 11)}
    # The last layer of the network is kept whole, not the last of the chosen ones.
    assert pj.redundancy(_activations(), layers=["dense"], fraction=0.5, whole=-1).n == 6


def _cloud(seed, n=30):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 4)) @ rng.normal(size=(4, 16)) + 0.3 * rng.normal(size=(n, 16))
    points[n // 2] = 1.5
    return points.astype(np.float32)


@pytest.mark.parametrize("seed", range(2))
def test_pairs_and_clusters_are_those_of_the_matrix_of_condensed(seed):
    points = _cloud(seed)
    with np.errstate(invalid="ignore"):
        size = np.nan_to_num(np.abs(np.corrcoef(points.astype(np.float64))))
    upper = np.triu(size, 1)
    found = pj.redundancy([jnp.asarray(points.T)], threshold=0.8, top=25)
    expected = np.sort(upper.ravel())[::-1][:25]
    np.testing.assert_allclose([pair.correlation for pair in found.pairs], expected, atol=1e-6)
    for (_, i), (_, j), correlation in found.pairs:
        np.testing.assert_allclose(correlation, upper[i, j], atol=1e-6)
    reached = np.linalg.matrix_power(np.eye(30) + (size >= 0.8), 30) > 0
    groups = {frozenset(np.flatnonzero(row)) for row in reached if row.sum() > 1}
    ours = [{index for _, index in cluster} for cluster in found.clusters]
    assert sorted(map(sorted, ours)) == sorted(map(sorted, groups)) and len(groups) > 0
    assert [len(cluster) for cluster in ours] == sorted(map(len, groups), reverse=True)
    tree = linkage(squareform(1 - size, checks=False), "single")[:, 2]
    np.testing.assert_allclose(found.deaths, tree, atol=1e-6)
    np.testing.assert_allclose(found.quantiles[0.5], np.median(tree), atol=1e-6)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("signed", [False, True])
def test_cosines_with_and_without_their_sign(signed):
    points = _cloud(3)
    points[4], points[9], points[15] = 2 * points[5], -3 * points[8], 0
    unit = points / np.linalg.norm(points, axis=1, keepdims=True).clip(1e-30)
    likeness = unit @ unit.T
    likeness = likeness if signed else np.abs(likeness)
    found = pj.redundancy(
        [jnp.asarray(points.T)], threshold=0.99, top=5, distance="cosine", signed=signed
    )
    expected = np.sort(likeness[np.triu_indices(30, 1)])[::-1][:5]
    np.testing.assert_allclose([pair.correlation for pair in found.pairs], expected, atol=1e-6)
    clusters = [{4, 5}] if signed else [{4, 5}, {8, 9}]
    assert [{index for _, index in cluster} for cluster in found.clusters] == clusters
    assert found.constant == ((0, 15),)
    assert ("cos  " if signed else "|cos|") in str(found)
    assert found.plot().axes[1].get_xlim() == ((0, 2) if signed else (0, 1))
    with pytest.raises(ValueError, match="^distance: 'pearson' is not one of correlation, cosine$"):
        pj.redundancy([jnp.asarray(points.T)], distance="pearson")


@pytest.mark.parametrize(
    "tile, count", [(1, 20), (7, 1), (7, 20), (7, 435), (30, 20), (1024, 435)]
)
def test_strongest_pairs_do_not_depend_on_the_tile(tile, count):
    # Whole numbers whose products round nowhere, and with them many ties.
    unit = jnp.asarray(np.random.default_rng(0).integers(-2, 3, (30, 6)), jnp.float32)
    size = np.abs(np.asarray(unit) @ np.asarray(unit).T)
    pairs = [(-size[i, j], i, j) for i in range(30) for j in range(i + 1, 30)]
    expected = sorted(pairs)[:count]
    ours = strongest_pairs(unit, count, tile)
    np.testing.assert_array_equal(np.stack([-ours.size, ours.lower, ours.higher], 1), expected)


def test_of_equal_pairs_a_later_tile_may_have_the_first():
    unit = jnp.eye(9)[jnp.array([0, 1, 2, 3, 4, 5, 5, 7, 0])]
    assert [int(column[0]) for column in strongest_pairs(unit, 1, 7)] == [1, 0, 8]


def test_the_dendrogram_has_the_heights_of_the_whole_tree():
    points = _cloud(1)
    found = pj.redundancy([jnp.asarray(points.T)])
    leaves, merges = linkage_of_the_first(found.tree.edges, found.deaths, 12)
    assert len(leaves) in (12, 13)
    whole = squareform(cophenet(linkage(squareform(_distances(points)), "single")))
    np.testing.assert_allclose(
        squareform(cophenet(merges)), whole[np.ix_(leaves, leaves)], atol=1e-6
    )


def _distances(points):
    distances = np.asarray(pj.correlation_distance(jnp.asarray(points)), np.float64)
    return (distances + distances.T) / 2


def test_it_prints_what_it_found():
    text = str(pj.redundancy(_activations(), top=12))
    assert text.startswith("35 neurons on 40 examples: 6 redundant (4 in clusters, 2 constant)\n")
    assert "\nconv         20         1            5\n" in text
    assert "  conv[11]  dense[7]\n" in text
    assert "\n     4  conv[3], conv[5], conv[8], conv[17]\n     2  conv[11], dense[7]" in text
    assert "\n... 2 more\n" in text
    assert max(map(len, text.splitlines())) < 100


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_it_plots(style):
    import matplotlib.style

    found = pj.redundancy(_activations())
    with matplotlib.style.context(style):
        figure = found.plot()
    tree, histogram = figure.axes
    labels = {label.get_text() for label in tree.get_yticklabels()}
    assert {"conv[3]", "conv[17]", "dense[7]"} <= labels
    assert sum(patch.get_height() for patch in histogram.patches) == 34
    assert "2 constant" in {text.get_text() for text in histogram.texts}


def test_a_notebook_without_pyplot_shows_the_plot():
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(pj.redundancy(_activations()).plot())
    assert shown["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("points", [np.ones((3, 4)), np.arange(4.0)[None]])
def test_nothing_redundant_prints_and_plots(points):
    found = pj.redundancy([jnp.asarray(points.T, jnp.float32)])
    assert found.pairs == found.clusters == ()
    assert len(found.constant) == (3 if len(points) == 3 else 0)
    assert "strongest pairs\nnone" in str(found)
    found.plot()


def test_equal_neurons_are_a_cluster_at_a_threshold_of_one():
    layer = np.random.default_rng(0).random((B, 8))
    copies = 0.7 - 0.1 * layer  # in float32, their products are just below 1
    found = pj.redundancy([jnp.asarray(np.hstack([layer, copies]), jnp.float32)], threshold=1.0)
    assert set(found.clusters) == {((0, k), (0, k + 8)) for k in range(8)}
    assert all(pair.correlation <= 1.0 for pair in found.pairs)
    assert (found.deaths[:8] == 0).all() and found.deaths[8] > 0


@pytest.mark.parametrize(
    "options, words",
    [
        ({"threshold": 0.0}, r"threshold: 0.0 is not in \(0, 1\]"),
        ({"top": -1}, "top: -1 is below 0"),
        ({"fraction": 2.0}, "fraction: 2.0 is not in"),
        ({"layers": ["last"]}, "layers: 'last' is not one of conv, dense, logits"),
        ({"layers": "con"}, "layers: 'con' is not one of conv, dense, logits"),
        ({"layers": ["conv", "conv"]}, "layers: 'conv' is there more than once"),
        ({"layers": ["conv"], "fraction": 0.5}, "whole: missing, but fraction 0.5 leaves"),
        ({"layers": "conv", "fraction": 0.0, "whole": None}, "fraction: 0.0 keeps no neuron of"),
        ({"algorithm": "kruskal"}, "algorithm 'kruskal' is not one of"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_wrong_arguments_are_one_line(options, words):
    with pytest.raises(ValueError) as error:
        pj.redundancy(_activations(), **options)
    assert re.fullmatch(f"{words}.*", str(error.value))


def test_what_is_not_finite_or_not_there_yet_is_named():
    activations = _activations()
    activations["dense"] = activations["dense"].at[3, 4].set(jnp.nan).at[0, 6].set(jnp.inf)
    with pytest.raises(ValueError, match="^activations: neuron 4 of layer 'dense' .*, and 1 more$"):
        pj.redundancy(activations)
    with pytest.raises(ValueError, match="^activations: redundancy returns Python values; call it"):
        jax.jit(lambda a: pj.redundancy([a]).n)(jnp.ones((2, 3)))
