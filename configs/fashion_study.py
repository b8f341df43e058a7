"""Does the method help? Fashion-MNIST, two perceptrons, seven regularisers, five seeds.

    python -m launch.sweep --config=configs/fashion_study.py:1000 --config.dataset.manual_dir=DIR
    python -m launch.sweep --config=configs/fashion_study.py:6000 --config.dataset.manual_dir=DIR
    python -m launch.sweep --config=configs/fashion_study.py --config.dataset.manual_dir=DIR

Training uses the first 1000 or 6000 examples, or all 48000; validation and test always use 12000
and 10000. Networks and hyperparameters are the paper's, from `configs/mnist.py`. The weights are
those of the paper that have an effect without leaving the network at chance, and with few examples
one more, since a regulariser can help more there. `t1_living` (a mean) and `t2_living` are T1 and
T2 over the living neurons only.

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
