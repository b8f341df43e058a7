"""Learn digits from two views without labels: what keeps the embeddings from collapsing.

    python -m docs.self_supervised [--seeds 5] [--epochs 200]

prints the table of docs/self_supervised.md: accuracy of a linear probe on what the encoder has
learned, over seeds, and the cost of a step. A few minutes on 2 cores.
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

BATCH, WIDTH, EMBEDDING = 200, 256, 64

of_samples = pj.make_term("t1", over="samples", distance="euclidean")
of_neurons = pj.make_term("t1")


def views(key: jax.Array, x: jax.Array) -> jax.Array:
    """Each image moved by up to a pixel each way, with noise and a square of 3 x 3 blanked."""

    def view(key, image):
        keys = jax.random.split(key, 3)
        shift = jax.random.randint(keys[0], (2,), 0, 3)
        image = jax.lax.dynamic_slice(jnp.pad(image, 1), shift, (8, 8))
        image = image + 0.2 * jax.random.normal(keys[1], image.shape)
        corner = jax.random.randint(keys[2], (2,), 0, 6)
        return jax.lax.dynamic_update_slice(image, jnp.zeros((3, 3)), corner)

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
    z = z - z.mean(0)
    deviation = jnp.sqrt(jnp.square(z).mean(0) + 1e-4)
    covariance = z.T @ z / (len(z) - 1)
    off = jnp.square(covariance).sum() - jnp.square(jnp.diag(covariance)).sum()
    return jax.nn.relu(1 - deviation).mean() + off / z.shape[1] / 25


# Each with the weight of its term; that of the distance between two views is 1.
TERMS: dict[str, tuple[float, Callable[[jax.Array], jax.Array]]] = {
    "nothing": (0.0, lambda z: jnp.zeros(())),
    "variance and covariance (VICReg)": (1.0, variance_covariance),
    "tree over samples (T-REGS)": (0.5, tree_of_samples),
    "tree over neurons (T1)": (0.5, tree_of_neurons),
}


def train(name: str, x: jax.Array, epochs: int, seed: jax.Array):
    """The encoder after some epochs on images without labels."""
    weight, term = TERMS[name]
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


def probe(params, data) -> float:
    """Test accuracy of a logistic regression on the last hidden layer, in percent."""
    def features(split):
        return np.asarray(encode(params, jnp.asarray(split.x).reshape(-1, 64))[0])

    return _regression(features(data.train), features(data.test), data)


def _regression(train_x, test_x, data) -> float:
    mean, deviation = train_x.mean(0), train_x.std(0) + 1e-6
    fitted = LogisticRegression(max_iter=500).fit((train_x - mean) / deviation, data.train.y)
    return 100 * fitted.score((test_x - mean) / deviation, data.test.y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=200)
    args = parser.parse_args()
    data = load_images("digits")
    x = jnp.asarray(data.train.x)[..., 0]
    flat = [np.asarray(split.x).reshape(-1, 64) for split in (data.train, data.test)]
    untrained = [probe(encoder(jax.random.split(jax.random.key(seed))[0]), data)
                 for seed in range(args.seeds)]  # fmt: skip
    print(f"pixels: {_regression(*flat, data):.1f} %, untrained: {_figure(untrained)}\n")
    print("| beside the distance of two views | linear probe, % | a step, ms |\n|---|---:|---:|")
    for name in TERMS:
        run = jax.jit(functools.partial(train, name, x, args.epochs))
        run = run.lower(jnp.int32(0)).compile()
        start = time.perf_counter()
        found = [jax.block_until_ready(run(jnp.int32(seed))) for seed in range(args.seeds)]
        steps = args.seeds * args.epochs * (len(x) // BATCH)
        milliseconds = 1000 * (time.perf_counter() - start) / steps
        accuracies = [probe(params, data) for params in found]
        print(f"| {name} | {_figure(accuracies)} | {milliseconds:.2f} |", flush=True)


def _figure(accuracies: list[float]) -> str:
    return f"{np.mean(accuracies):.1f} ± {np.std(accuracies, ddof=1):.1f}"


if __name__ == "__main__":
    main()
