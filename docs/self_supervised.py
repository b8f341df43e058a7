"""Learn digits from two views without labels: what keeps the embeddings from collapsing.

    python -m docs.self_supervised [--seeds 5] [--epochs 200]

prints the table of docs/self_supervised.md: accuracy of a linear probe on what the encoder has
learned, over seeds, and the cost of a step. The weight of each term is the one with the best probe
of the validation images, under a seed of its own. Three minutes on 2 idle cores.
"""

import argparse
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.linear_model import LogisticRegression

import persist_jax as pj
from persist_jax.data import load_images
from persist_jax.data.dataset import Split

BATCH, WIDTH, EMBEDDING = 200, 256, 64

of_samples = pj.make_term("t1", over="samples", distance="euclidean")
of_neurons = pj.make_term("t1")


def views(key: jax.Array, x: jax.Array) -> jax.Array:
    """Each image moved by up to a pixel each way, with noise and a square of 2 x 2 blanked."""

    def view(key, image):
        keys = jax.random.split(key, 3)
        shift = jax.random.randint(keys[0], (2,), 0, 3)
        image = jax.lax.dynamic_slice(jnp.pad(image, 1), shift, (8, 8))
        image = image + 0.1 * jax.random.normal(keys[1], image.shape)
        corner = jax.random.randint(keys[2], (2,), 0, 7)
        return jax.lax.dynamic_update_slice(image, jnp.zeros((2, 2)), corner)

    return jax.vmap(view)(jax.random.split(key, len(x)), x).reshape(len(x), -1)


def encoder(key: jax.Array) -> list[dict[str, jax.Array]]:
    sizes = (64, WIDTH, WIDTH, EMBEDDING)
    keys, draw = jax.random.split(key, 3), jax.nn.initializers.he_normal()
    return [
        {"w": draw(key, (a, b)), "b": jnp.zeros((1, b))}
        for key, a, b in zip(keys, sizes, sizes[1:], strict=False)
    ]


def encode(params: list[dict[str, jax.Array]], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The last hidden layer, which the probe sees, and the embedding, which the loss sees."""
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x, x @ params[-1]["w"] + params[-1]["b"]


def sphere(z: jax.Array) -> jax.Array:
    """Holds the scale, which a tree could grow without end."""
    norms = jnp.sqrt(jnp.square(z).sum(1) + 1e-12)
    return jnp.square(norms - 1).mean()


def tree_of_samples(z: jax.Array) -> jax.Array:
    """T-REGS: a long minimum spanning tree of the embeddings, near the unit sphere."""
    return of_samples([z]) + sphere(z)


def tree_of_neurons(z: jax.Array) -> jax.Array:
    """T1 as in the rest of this project: coordinates of the embedding that are not correlated."""
    return of_neurons([z]) + sphere(z)


def variance_covariance(z: jax.Array) -> jax.Array:
    """VICReg: every coordinate varies, and no two do together."""
    z = z - z.mean(0, keepdims=True)
    deviation = jnp.sqrt(jnp.square(z).mean(0) + 1e-4)
    covariance = z.T @ z / (len(z) - 1)
    off = jnp.square(covariance).sum() - jnp.square(jnp.diag(covariance)).sum()
    return jax.nn.relu(1 - deviation).mean() + off / z.shape[1] / 25


TERMS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "nothing": lambda z: jnp.zeros(()),
    "variance and covariance (VICReg)": variance_covariance,
    "tree over samples (T-REGS)": tree_of_samples,
    "tree over neurons (T1)": tree_of_neurons,
}
# Of a term, that of the squared distance of two views being 1. VICReg's own is 64.
WEIGHTS = (4.0, 16.0, 64.0, 256.0, 1024.0)


def train(term: Callable, x: jax.Array, epochs: int, weight: jax.Array, seed: jax.Array):
    """The encoder after some epochs on images without labels."""
    optimiser = optax.adam(1e-3)

    def loss(params, key, batch):
        both = [encode(params, views(k, batch))[1] for k in jax.random.split(key)]
        apart = jnp.square(both[0] - both[1]).sum(1).mean()
        return apart + weight * (term(both[0]) + term(both[1]))

    def step(carry, inputs):
        params, state = carry
        key, rows = inputs
        gradient = jax.grad(loss)(params, key, x[rows])
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, key):
        order = jax.random.permutation(key, len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH)
        keys = jax.random.split(jax.random.fold_in(key, 1), len(order))
        return jax.lax.scan(step, carry, (keys, order))

    first, second = jax.random.split(jax.random.key(seed))
    params = encoder(first)
    start = params, optimiser.init(params)
    (params, _), _ = jax.lax.scan(epoch, start, jax.random.split(second, epochs))
    return params


def probe(features: Callable[[jax.Array], jax.Array], train: Split, other: Split) -> float:
    """Accuracy of a logistic regression on features of images, in percent."""
    seen, new = (np.asarray(features(jnp.asarray(s.x).reshape(-1, 64))) for s in (train, other))
    mean, deviation = seen.mean(0), seen.std(0) + 1e-6
    fitted = LogisticRegression(max_iter=500).fit((seen - mean) / deviation, train.y)
    return 100 * fitted.score((new - mean) / deviation, other.y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=200)
    args = parser.parse_args()
    data, seeds = load_images("digits"), range(1, args.seeds + 1)
    x = jnp.asarray(data.train.x)[..., 0]

    def figure(networks):
        found = [probe(lambda x, p=p: encode(p, x)[0], data.train, data.test) for p in networks]
        return f"{np.mean(found):.1f} ± {np.std(found, ddof=1):.1f}"

    print(f"pixels: {probe(lambda x: x, data.train, data.test):.1f} %")
    print(f"untrained: {figure(encoder(jax.random.key(seed)) for seed in seeds)} %\n")
    print("| beside the distance of two views | weight | linear probe, % | a step, ms |")
    print("|---|---:|---:|---:|")
    for name, term in TERMS.items():
        run = jax.jit(functools.partial(train, term, x, args.epochs))
        run = run.lower(jnp.float32(0), jnp.int32(0)).compile()
        validated = {}
        for weight in WEIGHTS if name != "nothing" else (0.0,):
            params = run(jnp.float32(weight), jnp.int32(0))
            validated[weight] = probe(
                lambda x, p=params: encode(p, x)[0], data.train, data.validation
            )
        weight = max(validated, key=validated.__getitem__)
        start = time.perf_counter()
        networks = [
            jax.block_until_ready(run(jnp.float32(weight), jnp.int32(seed))) for seed in seeds
        ]
        steps = args.seeds * args.epochs * (len(x) // BATCH)
        milliseconds = 1000 * (time.perf_counter() - start) / steps
        print(f"| {name} | {weight:g} | {figure(networks)} | {milliseconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
