"""What a training is told: the fields of ``config.train``, checked once."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import optax

OPTIMISERS = ("sgd",)


@dataclasses.dataclass(frozen=True)
class Options:
    """Hyperparameters of a training; every run of a sweep has the same.

    Attributes:
      batch_size: examples per step; the last batch of an epoch may be smaller.
      epochs: epochs at most.
      patience: epochs without a better validation loss after which a run ends; ``None``: never.
      min_delta: by how much a validation loss must fall to count as better.
      optimiser: ``"sgd"``.
      learning_rate: of the first step.
      momentum: in [0, 1).
      nesterov: Nesterov's momentum.
      decay_rate, decay_steps: the learning rate is multiplied by ``decay_rate`` every
        ``decay_steps`` steps (a staircase); 0 steps: constant.
      sampling: share of each layer's neurons that enter the point cloud.
      alpha: the ``alpha`` of T2.
      term_every: the term's gradient is taken every so many iterations and reused in between.
      term_epochs: the term is applied in the first epochs only; ``None``: in all.
      checkpoint_every: epochs between checkpoints.
      snapshot_every: iterations between snapshots of the deaths; 0: none.
    """

    batch_size: int
    epochs: int
    patience: int | None
    min_delta: float
    optimiser: str
    learning_rate: float
    momentum: float
    nesterov: bool
    decay_rate: float
    decay_steps: int
    sampling: float
    alpha: float
    term_every: int
    term_epochs: int | None
    checkpoint_every: int
    snapshot_every: int

    def __post_init__(self):
        if self.optimiser not in OPTIMISERS:
            raise ValueError(
                f"train.optimiser: {self.optimiser!r} is not one of {', '.join(OPTIMISERS)}"
            )
        for field in ("batch_size", "epochs", "term_every", "checkpoint_every"):
            self._require(field, getattr(self, field) >= 1, "at least 1")
        for field in ("decay_steps", "snapshot_every", "min_delta"):
            self._require(field, getattr(self, field) >= 0, "at least 0")
        for field in ("patience", "term_epochs"):
            value = getattr(self, field)
            self._require(field, value is None or value >= 0, "at least 0, or None")
        for field in ("sampling", "alpha"):
            self._require(field, 0 <= getattr(self, field) <= 1, "in [0, 1]")
        self._require("learning_rate", self.learning_rate > 0, "above 0")
        self._require("momentum", 0 <= self.momentum < 1, "in [0, 1)")

    def _require(self, field: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ValueError(f"train.{field}: {getattr(self, field)!r} must be {wanted}")

    @classmethod
    def from_config(cls, train: Mapping[str, Any]) -> "Options":
        """Options of a ``config.train``; missing and unknown fields are errors that name them."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in train:
            if name not in known:
                raise ValueError(f"train.{name}: unknown field; known are {', '.join(known)}")
        for name in known:
            if name not in train:
                raise ValueError(f"train.{name}: missing")
        return cls(**{name: train[name] for name in known})


def make_optimiser(options: Options) -> optax.GradientTransformation:
    """SGD with Keras' momentum: the learning rate scales a gradient as it enters the velocity."""
    rate = options.learning_rate
    if options.decay_steps:
        rate = optax.exponential_decay(
            rate, options.decay_steps, options.decay_rate, staircase=True
        )
    return optax.chain(
        optax.scale_by_learning_rate(rate),
        optax.trace(decay=options.momentum, nesterov=options.nesterov),
    )
