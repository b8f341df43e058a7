"""What a training is told: the fields of `config.train`, checked once."""

import math
from collections.abc import Mapping
from typing import Any

from persist_jax._plumbing.validation import Given
from persist_jax.models.precision import Precision
from persist_jax.parameters import INT32_MAX, Count, NotNegative, Part, Size
from persist_jax.terms import REGULARISERS, Term
from persist_jax.terms.sampling import Neurons
from persist_jax.training.optimisers import make_optimiser

# Fields that configurations of earlier versions lack; these versions trained with the defaults.
ADDED_FIELDS = ("neurons", "matmul_precision")


class Options(Given):
    """Hyperparameters of a training; `Options.read` also checks the optimiser's.

    Attributes:
        batch_size: examples per step; the last batch of an epoch may be smaller.
        epochs: epochs at most.
        patience: epochs in a row without a better validation loss that a run may have; it ends
            with the next one; null: it never ends for that.
        min_delta: by how much a validation loss must fall to count as better.
        optimiser: name, learning rate, parameters, schedule; see `make_optimiser`.
        sampling: share of each layer's neurons that enter the point cloud.
        neurons: what a neuron is, "positions" or "channels"; see `persist_jax.sample_neurons`.
        matmul_precision: of the network's products, "default", "highest" or "bfloat16"; the term
            is computed in float32 whatever it is. See `persist_jax.models.at_precision`.
        term_every: the term's gradient is taken every so many iterations and reused in between.
        term_epochs: the term is applied in the first epochs only; null: in all.
        checkpoint_every: epochs between checkpoints.
        snapshot_every: iterations between snapshots of the deaths; 0: none.

    Example:
        >>> options = Options(batch_size=32, epochs=2, optimiser={"name": "adam",
        ...                   "learning_rate": 1e-3})
        >>> options.sampling
        1.0
    """

    batch_size: Size
    epochs: Size
    patience: Count | None = None
    min_delta: NotNegative = 0.0
    optimiser: dict[str, Any]
    sampling: Part = 1.0
    neurons: Neurons = "positions"
    matmul_precision: Precision = "default"
    term_every: Size = 1
    term_epochs: Count | None = None
    checkpoint_every: Size = 10
    snapshot_every: Count = 0

    @classmethod
    def read(cls, fields: Any, where: str = "train") -> "Options":
        """Options of a `config.train`, which leaves nothing to defaults; see `Fields.read`."""
        for name in cls.model_fields:
            if isinstance(fields, Mapping) and name not in {*fields, *ADDED_FIELDS}:
                raise ValueError(f"{where}.{name}: missing")
        options = super().read(fields, where)
        make_optimiser(options.optimiser, f"{where}.optimiser")
        return options

    def check_iterations(self, examples: int, where: str = "train") -> None:
        """Refuse more iterations than a device can count.

        Args:
            examples: how many there are to train on.
            where: the section, for errors.

        Raises:
            ValueError: one line that names the field.
        """
        steps = math.ceil(examples / self.batch_size)
        if steps * self.epochs > INT32_MAX:
            raise ValueError(
                f"{where}.epochs: {self.epochs} of {steps} steps are {steps * self.epochs} "
                f"iterations, must be at most {INT32_MAX}"
            )

    def term(self, name: str = "none", parameters: Mapping[str, Any] | None = None) -> Term:
        """The term of a training that samples neurons as these options say.

        The paper's choices: all layers are one cloud, and the last one is kept whole.

        Args:
            name: a registered name.
            parameters: of the term, by name; its defaults for those left out.

        Raises:
            ValueError: if the name is unknown, with the known ones, or a parameter is wrong.

        Example:
            >>> options = Options(batch_size=32, epochs=2, sampling=0.5, optimiser={})
            >>> options.term("t2", {"alpha": 0.3}).fraction
            0.5
        """
        bound = REGULARISERS[name].parameters(parameters or {}, f"terms.{name}")
        return Term(name, tuple(bound.items()), self.sampling, neurons=self.neurons)
