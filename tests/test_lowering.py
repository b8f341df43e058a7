"""Every program is one for an accelerator too: it lowers for one where there is none."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import persist_jax as pj
from persist_jax.data import load_images
from persist_jax.terms import REGULARISERS
from persist_jax.training import Options
from persist_jax.training.epoch import make_epoch
from persist_jax.training.optimisers import make_optimiser
from persist_jax.training.state import Data, initial_state

PLATFORMS = ("cuda", "tpu")


def _check(function, *arguments, fixed=True, exact=False):
    """No call back to the host, and no loop whose end a device would have to tell the host.

    Where it is to be exact, no product is left to the precision that a device has by default.
    """
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=PLATFORMS)
    text = lowered.as_text()
    assert "callback" not in text
    if exact:
        products = text.count("stablehlo.dot_general")
        assert text.count("precision = [HIGHEST, HIGHEST]") == products
    conditions = re.findall(r"cond \{(.*?)\} do \{", text, re.DOTALL)
    assert len(conditions) == text.count("stablehlo.while")
    found = [re.findall(r"= \"?stablehlo\.(\w+)", condition) for condition in conditions]
    counted = [operations == ["constant", "compare"] for operations in found]
    assert all(counted) if fixed else not all(counted), found


KERNELS = {
    **{
        f"deaths of points, {algorithm}": (
            lambda x, a=algorithm: pj.correlation_deaths(x, algorithm=a).sum(), (40, 16)
        )
        for algorithm in ("auto", "prim", "boruvka", "matrix_free")
    },
    **{
        f"deaths of distances, {algorithm}": (
            lambda d, a=algorithm: pj.zeroth_deaths(d, algorithm=a).sum(), (40, 40)
        )
        for algorithm in ("auto", "prim", "boruvka")
    },
    "mean correlation": (pj.mean_correlation, (40, 16)),
    "pearson": (lambda x: pj.pearson_distance(x).sum(), (40, 16)),
    "euclidean": (lambda x: pj.euclidean_distance(x).sum(), (40, 16)),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_and_their_gradients(name):
    function, shape = KERNELS[name]
    # How long the matrix-free search goes on depends on the points, as its documentation says.
    fixed = "matrix_free" not in name
    _check(jax.value_and_grad(function), jnp.ones(shape), fixed=fixed, exact=True)
    _check(jax.vmap(jax.grad(function)), jnp.ones((2, *shape)), fixed=fixed, exact=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, name",
    [
        *(("mlp", name) for name in ("t1", "min_corr")),
        *(
            pytest.param("mlp", name, marks=pytest.mark.slow)
            for name in REGULARISERS
            if name not in ("t1", "min_corr")
        ),
        pytest.param("resnet", "t1", marks=pytest.mark.slow),
    ],
)
def test_an_epoch_of_lanes(kind, name):
    dataset = load_images("digits")
    fields = {"mlp": {"hidden": (12,), "dropout": 0.5}, "resnet": {"blocks": 1, "width": 2}}[kind]
    model = pj.models.build_model({"kind": kind, **fields}, dataset.input_shape, 10)
    options = Options(
        batch_size=32,
        epochs=2,
        optimiser={"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
        sampling=0.5,
        term_every=1 if kind == "mlp" else 3,
        snapshot_every=7,
    )
    optimiser, term = make_optimiser(options.optimiser), options.term(name)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    state = jax.eval_shape(
        lambda v: initial_state(v, optimiser, options, 0, with_term=name != "none"), variables
    )
    lanes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((3, *leaf.shape), leaf.dtype), state)
    epoch = make_epoch(model, optimiser, term, options, len(dataset.train.y))
    program = jax.vmap(epoch, in_axes=(0, 0, None, None))
    _check(program, lanes, np.ones(3, np.float32), Data.of(dataset), np.int32(0))
