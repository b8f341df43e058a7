"""Do T1 and T2 regularise, or do networks fit faster with them? Fashion-MNIST, wrong labels.

    python -m launch.sweep --config=configs/study.py:40 --config.dataset.manual_dir=DIR
    python -m launch.sweep --config=configs/study.py:0 --config.dataset.manual_dir=DIR
    python -m launch.sweep --config=configs/study.py:20 --config.dataset.manual_dir=DIR
    python -m launch.sweep --config=configs/study.py:cnn --config.dataset.manual_dir=DIR
    python -m launch.report --workdir=runs/study_0 --workdir=runs/study_20 --workdir=runs/study_40

40, 0 or 20 percent of the training labels are wrong; validation and test labels are right. Each
seed draws its own 6000 training examples, its wrong labels and its initial weights: if all seeds
had the same images, their spread would miss most of the effect of another training set.

The network is the paper's first perceptron with the paper's hyperparameters, except for a constant
learning rate and a fixed number of epochs. At their end, without a term, it has memorised about
half of the wrong labels. Best and last weights are both evaluated. docs/study.md has the
predictions, made before the first run. T1 is a mean here, and its weight -1 has the opposite sign.

`cnn` is the small convolutional network with 40 percent wrong labels. To save time, it has 3000
training examples and a learning rate of 0.05. Its neurons are the positions of the feature maps, of
which each step takes the most active.

Runs: 10 seeds x (1 + 3 + 2 + 1 + 1 + 1 + 1) = 100 for each share of wrong labels, and 60 for
`cnn`. On two shared
cores a run took 10 seconds without a term and 24 with T1, and its evaluation 7; 90 runs took 54
minutes. 30 runs of `cnn` took 64 minutes beside other work.
"""

from ml_collections import config_dict

try:
    from configs import mnist
except ModuleNotFoundError:  # installed without a clone
    from persist_jax.configs import mnist

# A training loss that the runs of each variant reach.
LOSSES = {"40": 1.2, "0": 0.3, "20": 0.8, "cnn": 1.6}
WEIGHTS = dict(
    t1=(-1.0, 0.3, 1.0), t2=(1.0, 3.0), min_corr=(1.0,), l1=(1e-4,), l2=(0.003,), dropout=(0.2,)
)


def get_config(variant: str = "40") -> config_dict.ConfigDict:
    if variant not in LOSSES:
        raise ValueError(f"{variant!r} is not one of {', '.join(LOSSES)}")
    config = mnist.get_config("fashion_mnist")
    config.name = f"study_{variant}"
    config.dataset.train_examples = 6000
    config.dataset.label_noise = 0.4 if variant == "cnn" else int(variant) / 100
    config.dataset.validation_fraction = 0.05
    config.networks = ("mlp_0",)
    config.regularisers = ("none", *WEIGHTS)
    config.terms.t1.reduce = "mean"
    config.weights_of = WEIGHTS
    config.seeds = tuple(range(10))
    config.train.update(epochs=60, patience=None, checkpoint_every=20, snapshot_every=100)
    config.train.optimiser.schedule = dict(name="constant")
    config.evaluate = dict(
        loss=LOSSES[variant], measures=True, noise=0.8, dropped=0.1, pruning=(0.75, 0.5, 0.35)
    )
    if variant == "cnn":
        config.networks = ("cnn",)
        config.regularisers = ("none", "t1", "t2", "l2", "dropout")
        config.weights_of.update(t1=(-1.0, 1.0), t2=(1.0,))
        config.dataset.train_examples = 3000
        config.train.epochs = 30
        config.train.optimiser.learning_rate = 0.05
    return config
