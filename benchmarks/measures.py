"""Time `persist_jax.measures` in a training loop: in every step, and in every hundredth step.

    python -m benchmarks.measures [--network mlp_0] [--batch 256] [--terms none t1] [--output DIR]

prints a Markdown table and writes `measures.json`: milliseconds per step of a scan over 100 steps
of SGD on synthetic images. Times are medians of scans that take turns for a minute per term.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import persist_jax as pj
from benchmarks.measure import interleaved_medians
from benchmarks.training_step import NETWORKS, synthetic
from persist_jax.models import build_model
from persist_jax.training.step import cross_entropy

STEPS = 100
WAYS = {
    "plain": None,
    "measures, all layers together": (1, {"per_layer": False}),
    "measures, and each layer": (1, {}),
    f"the same in one of {STEPS} steps": (STEPS, {}),
}


def scan(model, name: str, batch: int, way: tuple | None):
    """Compile a scan over training steps; return it as a function without arguments."""
    term, optimiser = pj.make_term(name), optax.sgd(0.01, momentum=0.9)
    every, options = way or (1, None)
    data = synthetic(batch)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)

    def measured(activations):
        return pj.measures(activations, **options)

    def step(carry, number):
        params, opt_state = carry

        def loss(params):
            logits, activations = model.apply({"params": params}, x, train=False)
            return cross_entropy(logits, y) + 1e-3 * term(activations), activations

        (value, activations), slope = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimiser.update(slope, opt_state, params)
        row = {"loss": value}
        if way is not None and every == 1:
            row |= measured(activations)
        elif way is not None:
            shapes = jax.eval_shape(measured, activations)
            nothing = jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes)
            row |= jax.lax.cond(number % every == 0, measured, lambda _: nothing, activations)
        return (optax.apply_updates(params, updates), opt_state), row

    params = model.init(jax.random.key(0), x[:1])["params"]
    start = params, optimiser.init(params)
    numbers = jnp.arange(STEPS, dtype=jnp.int32)
    compiled = jax.jit(lambda start: jax.lax.scan(step, start, numbers)).lower(start).compile()
    return lambda: compiled(start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="mlp_0", choices=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--terms", nargs="+", default=["none", "t1"])
    parser.add_argument("--seconds", type=float, default=60.0, help="per term")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    arguments = parser.parse_args()
    model = build_model(NETWORKS[arguments.network], (28, 28, 1), 10)
    device, record = jax.devices()[0].device_kind, {}
    print(f"\n{arguments.network}, batch {arguments.batch}, {device}\n")
    print("| term | step | ms per step | over plain |\n|---|---|---:|---:|")
    for term in arguments.terms:
        scans = {way: scan(model, term, arguments.batch, WAYS[way]) for way in WAYS}
        seconds = interleaved_medians(scans, seconds=arguments.seconds)
        record[term] = {way: 1e3 * value / STEPS for way, value in seconds.items()}
        for way, value in record[term].items():
            print(f"| {term} | {way} | {value:.3g} | {value / record[term]['plain']:.2f} |")
    arguments.output.mkdir(parents=True, exist_ok=True)
    fields = {"device": device, "network": arguments.network, "batch": arguments.batch}
    text = json.dumps(fields | {"milliseconds": record}, indent=1)
    (arguments.output / "measures.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
