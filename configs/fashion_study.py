"""Whether the method helps: Fashion-MNIST, two perceptrons, seven regularisers, five seeds.

    python -m launch.sweep --config=configs/fashion_study.py:1000 --config.dataset.manual_dir=DIR
    python -m launch.sweep --config=configs/fashion_study.py:6000 --config.dataset.manual_dir=DIR
    python -m launch.sweep --config=configs/fashion_study.py --config.dataset.manual_dir=DIR

The first so many training examples, or all 48000; the 12000 validation and 10000 test examples of
the whole set. Networks and hyperparameters are those of `configs/mnist.py`, the paper's; weights
are those of its ten that neither do nothing nor leave the network at chance, and with few examples
one more, since a regulariser has more to do there. T1, as a mean, and T2 are also taken over the
living neurons alone.

Runs: 2 networks x 5 seeds x (1 + 7 regularisers x 3 weights) = 220, or 290 with 4 weights.
"""

from ml_collections import config_dict

try:
    from configs import mnist
except ModuleNotFoundError:  # installed without a clone
    from persist_jax.configs import mnist

EXAMPLES = {"all": None, "6000": 6000, "1000": 1000}
WEIGHTS = dict(
    t1=(1e-4, 1e-3, 1e-2, 1e-1),
    t2=(0.1, 1.0, 5.0, 10.0),
    min_corr=(0.01, 0.1, 1.0, 5.0),
    l1=(1e-6, 1e-5, 1e-4, 1e-3),
    l2=(1e-5, 1e-4, 1e-3, 1e-2),
    t1_living=(0.1, 1.0, 10.0, 100.0),
    t2_living=(0.1, 1.0, 5.0, 10.0),
)


def get_config(examples: str = "all") -> config_dict.ConfigDict:
    if examples not in EXAMPLES:
        raise ValueError(f"{examples!r} is not one of {', '.join(EXAMPLES)}")
    config = mnist.get_config("fashion_mnist")
    config.name = f"fashion_study_{examples}"
    config.dataset.train_examples = EXAMPLES[examples]
    config.dataset.draw = "first"
    config.networks = ("mlp_0", "mlp_2")
    config.regularisers = ("none", *WEIGHTS)
    count = 3 if examples == "all" else 4
    config.weights_of = {name: weights[:count] for name, weights in WEIGHTS.items()}
    config.seeds = (0, 1, 2, 3, 4)
    return config
