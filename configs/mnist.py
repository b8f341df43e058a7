"""The paper's experiment on MNIST: three perceptrons, five regularisers, ten weights.

    python -m launch.sweep --config=configs/mnist.py                    # MNIST
    python -m launch.sweep --config=configs/mnist.py:fashion_mnist      # Fashion-MNIST
    python -m launch.sweep --config=configs/mnist.py:digits             # embedded, 8x8, minutes

Data: tensorflow-datasets downloads `mnist` and `fashion_mnist`, or reads the four original files
from `--config.dataset.manual_dir=DIR`; `digits` is part of scikit-learn.

Runs: 3 networks x (1 + 5 regularisers x 10 weights) = 153, of n = 1010 points each (mlp_0 and
mlp_1: 450 + 350 + 200 + 10; mlp_2: 300 + 250 + 200 + 150 + 100 + 10), at most 1200 epochs of 188
steps. A smaller grid on the command line:

    --config.networks=mlp_0,mlp_2 --config.regularisers=none,t1 --config.weights=0.01,0.1

A small training set, with unchanged validation and test sets, and a share of wrong labels; each
seed draws its own images, unless `--config.dataset.draw=first`:

    --config.dataset.train_examples=1000 --config.dataset.label_noise=0.4

Further measures of finished runs, which take longer than the others (see
`persist_jax.training.Evaluate`):

    --config.evaluate.measures=True --config.evaluate.pruning=0.5,0.25 --config.evaluate.noise=0.5

A small convolutional and a small residual network, whose neurons are the most active positions of
the feature maps, or the channels:

    --config.networks=mlp_0,cnn,resnet,resnet_channels

Fields that are not in this file have the defaults of `persist_jax.store.Configuration` and, in
`train`, of `persist_jax.training.Options`. The command line can set them too:

    --config.devices=1 --config.weights_of.t1=0.001,0.01 --config.report.test=wilcoxon
"""

from ml_collections import config_dict

DATASETS = ("mnist", "fashion_mnist", "digits")
MODELS = dict(
    mlp_0=dict(kind="mlp", hidden=(450, 350, 200), dropout=0.0),
    mlp_1=dict(kind="mlp", hidden=(450, 350, 200), dropout=0.5),
    mlp_2=dict(kind="mlp", hidden=(300, 250, 200, 150, 100), dropout=0.0),
    cnn=dict(
        kind="cnn", filters=(16, 32), hidden=(64,),
        sampling=dict(fraction=0.05, neurons="positions"),
    ),
    resnet=dict(
        kind="resnet", blocks=1, width=16, sampling=dict(fraction=0.01, neurons="positions")
    ),
    resnet_channels=dict(
        kind="resnet", blocks=1, width=16, sampling=dict(fraction=1.0, neurons="channels")
    ),
)
TRAIN = dict(
    batch_size=256,
    epochs=1200,
    patience=20,
    min_delta=0.0,
    optimiser=dict(
        name="sgd",
        learning_rate=0.01,
        momentum=0.9,
        nesterov=True,
        schedule=dict(name="staircase", decay_rate=0.95, decay_steps=3520),
    ),
    sampling=1.0,
    # Precision of the network's products; the term is always computed in float32. On a recent
    # NVIDIA GPU "default" is TF32; "highest" is float32, and "bfloat16" is the fastest.
    matmul_precision="default",
    term_every=1,
    checkpoint_every=10,
    snapshot_every=50,
)


def get_config(dataset: str = "mnist") -> config_dict.ConfigDict:
    if dataset not in DATASETS:
        raise ValueError(f"{dataset!r} is not one of {', '.join(DATASETS)}")
    config = config_dict.create(
        name=dataset,
        dataset=dict(
            kind="images",
            name=dataset,
            train_examples=config_dict.placeholder(int),  # number to train on; unset: all
            draw="per_seed",  # or "first": the first ones, the same for all seeds
            label_noise=0.0,  # share of the training labels that are wrong, drawn per seed
            double_division=False,  # the published code divided the pixels by 255 twice
            data_dir=config_dict.placeholder(str),
            manual_dir=config_dict.placeholder(str),
            cache=config_dict.placeholder(str),
        ),
        networks=("mlp_0", "mlp_1", "mlp_2"),
        models=MODELS,
        regularisers=("none", "t1", "t2", "min_corr", "l1", "l2"),
        terms=dict(
            t1=dict(reduce="sum"),  # or "mean", whose scale does not depend on n
            t2=dict(alpha=0.5),
        ),
        weights=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 5.0, 10.0, 100.0),
        seeds=(0,),
        train=TRAIN,
        evaluate=dict(
            calibration=True,
            memorised=True,
            loss=0.5,
            measures=False,
            noise=0.0,
            dropped=0.0,
            pruning=(),
        ),
        continued=False,  # True: afterwards, continue every run without its regulariser
        parallel="lanes",  # or "batch": every device takes a share of each batch
    )
    if dataset == "digits":
        config.networks = ("mlp_0", "mlp_1")
        config.models.mlp_0.hidden = config.models.mlp_1.hidden = (64, 48, 32)
        config.models.mlp_2.hidden = (48, 40, 32, 24, 16)
        config.weights = (1e-4, 1e-2, 1.0)
        config.train.update(batch_size=64, epochs=40, patience=5, snapshot_every=20)
    return config
