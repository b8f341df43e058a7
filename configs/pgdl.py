"""The paper's experiment on PGDL task 1: eight CIFAR-10 networks, trained from their given weights.

    python -m launch.sweep --config=configs/pgdl.py --config.dataset.root=DIR    # the real data
    python -m launch.sweep --config=configs/pgdl.py                              # embedded sample

Data: the public data of the competition "Predicting Generalization in Deep Learning" (NeurIPS
2020). DIR, or the environment variable PGDL_ROOT, is the folder that holds
`input_data/task1_v4/model_*/` and `input_data/task1_v4/dataset_1/`. If neither is set, the sweep
trains on the embedded sample, scikit-learn's digits in the same layout: two small networks and a
small grid, about a minute on two cores, in `runs/pgdl_sample`.

Runs: 8 networks x (1 + 5 regularisers x 10 weights) = 408, of n = 2630 points (models 20, 22, 148
and 150) or n = 5252 (models 21, 23, 149 and 151), at most 1200 epochs. A finished run keeps its
best weights and one earlier state on disk. For fields that are not in this file, see
`configs/mnist.py`.
"""

from ml_collections import config_dict

TRAIN = dict(
    batch_size=256,
    epochs=1200,
    patience=20,
    min_delta=0.0,
    optimiser=dict(
        name="sgd",
        learning_rate=0.001,
        momentum=0.9,
        nesterov=False,
        schedule=dict(name="staircase", decay_rate=1.0, decay_steps=0),  # constant
    ),
    sampling=0.005,
    # Precision of the network's products; the term is always computed in float32. On a recent
    # NVIDIA GPU "default" is TF32; "highest" is float32, and "bfloat16" is the fastest.
    matmul_precision="default",
    term_every=1,
    checkpoint_every=10,
    snapshot_every=50,
)
# Fields that replace those of `get_config` for the embedded sample.
EMBEDDED = dict(
    name="pgdl_sample",
    notice="This is the embedded sample, not the PGDL data; its figures are not the "
    "paper's. For the paper's task give --config.dataset.root=DIR or set PGDL_ROOT=DIR, "
    "where DIR holds input_data/task1_v4.",
    dataset=dict(task="digits_sample"),
    networks=("model_20", "model_148"),
    weights=(1e-3, 1e-1),
    train=dict(
        # 1204 examples are 28 batches of 43: a smaller last batch would compile another step.
        batch_size=43,
        epochs=10,
        optimiser=dict(learning_rate=0.05),
        sampling=0.05,
        snapshot_every=10,
    ),
)


def get_config() -> config_dict.ConfigDict:
    return config_dict.create(
        name="pgdl",
        dataset=dict(
            kind="pgdl",
            root=config_dict.placeholder(str),
            task="task1_v4",
            validation_seed=0,
            cache=config_dict.placeholder(str),
        ),
        # The task defines these models.
        networks=tuple(f"model_{i}" for i in (20, 21, 22, 23, 148, 149, 150, 151)),
        regularisers=("none", "t1", "t2", "min_corr", "l1", "l2"),
        terms=dict(
            t1=dict(reduce="sum"),  # or "mean", whose scale does not depend on n
            t2=dict(alpha=0.5),
        ),
        weights=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 5.0, 10.0, 100.0),
        seeds=(0,),
        train=TRAIN,
        continued=False,  # True: afterwards, continue every run without its regulariser
        parallel="lanes",  # or "batch": every device takes a share of each batch
        embedded=EMBEDDED,
    )
