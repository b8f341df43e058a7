"""The hyperparameters of a training: the fields of `config.train`, checked once."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from persist_jax._plumbing.validation import Given, MayChange, Mistakes, not_one_of
from persist_jax.models.precision import Precision
from persist_jax.parameters import INT32_MAX, Count, NotNegative, NotZero, Part, Size
from persist_jax.terms import REGULARISERS, Term
from persist_jax.terms.sampling import Neurons
from persist_jax.training.optimisers import make_optimiser

# The paper's optimiser on MNIST.
_OPTIMISER = {
    "name": "sgd",
    "learning_rate": 0.01,
    "momentum": 0.9,
    "nesterov": True,
    "schedule": {"name": "staircase", "decay_rate": 0.95, "decay_steps": 3520},
}


def _over(default: Any, given: Any) -> Any:
    """Return the given section or, if it has no name, the default with the given fields changed."""
    if not isinstance(given, Mapping) or not isinstance(default, Mapping) or "name" in given:
        return given
    return {**default, **{name: _over(default.get(name), given[name]) for name in given}}


class Options(Given):
    """Hyperparameters of a training, the paper's by default; see also `Options.read`.

    Attributes:
        batch_size: examples per step; the last batch of an epoch may be smaller.
        epochs: largest number of epochs.
        patience: largest number of consecutive epochs without a better validation loss; one more
            ends the run; null: no early stopping.
        min_delta: by how much a validation loss must fall to count as better.
        optimiser: name, learning rate, parameters, schedule; see `make_optimiser`.
        sampling: share of each layer's neurons that enter the point cloud.
        neurons: the meaning of a neuron, "positions", "channels" or "tokens"; see `sample_neurons`.
        matmul_precision: precision of the network's matrix products, "default", "highest" or
            "bfloat16"; see `persist_jax.models.at_precision`. The term is always computed in
            float32.
        term_every: iterations between two computations of the term's gradient, which is reused in
            between.
        term_epochs: number of first epochs in which the term is applied; null: all epochs.
        checkpoint_every: epochs between checkpoints.
        snapshot_every: iterations between snapshots of the deaths; 0: none.
        measures: whether to take `persist_jax.measures` of the sampled neurons after every epoch.
            Training then takes some 1.4 times as long to compile.

    Example:
        >>> options = Options(batch_size=32, epochs=2, optimiser={"name": "adam",
        ...                   "learning_rate": 1e-3})
        >>> options.sampling
        1.0
    """

    batch_size: Size = 256
    epochs: Size = 1200
    patience: Count | None = 20
    min_delta: NotNegative = 0.0
    optimiser: dict[str, Any] = _OPTIMISER
    sampling: Part = 1.0
    neurons: Neurons = "positions"
    matmul_precision: Precision = "default"
    term_every: Size = 1
    term_epochs: Count | None = None
    checkpoint_every: Annotated[Size, MayChange] = 10
    snapshot_every: Count = 50
    measures: Annotated[bool, MayChange] = False

    @classmethod
    def read(cls, fields: Any, where: str = "train") -> "Options":
        """Read the options of a `config.train` and check its optimiser too; see `Fields.read`.

        An optimiser without a name is the default one, with the given parameters changed.
        """
        optimiser = fields.get("optimiser") if isinstance(fields, Mapping) else None
        if isinstance(optimiser, Mapping):
            optimiser = _over(_OPTIMISER, optimiser)
            fields = {**fields, "optimiser": optimiser}
        mistakes = Mistakes()
        with mistakes:
            options = super().read(fields, where)
        if isinstance(optimiser, Mapping):
            with mistakes:
                make_optimiser(optimiser, f"{where}.optimiser")
        mistakes.check()
        return options

    def check_iterations(self, examples: int, where: str = "train") -> None:
        """Raise `ValueError` for more iterations than a device can count.

        Args:
            examples: number of training examples.
            where: name of the section, for error messages.

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
        """Make a term that samples neurons as these options say.

        As in the paper, all layers form one cloud, and the last layer is kept whole.

        Args:
            name: a registered name.
            parameters: the term's parameters by name; missing ones take their defaults.

        Raises:
            ValueError: if the name is unknown or a parameter is wrong.

        Example:
            >>> options = Options(batch_size=32, epochs=2, sampling=0.5, optimiser={})
            >>> options.term("t2", {"alpha": 0.3}).fraction
            0.5
        """
        bound = REGULARISERS[name].parameters(parameters or {}, f"terms.{name}")
        return self._term(name, bound)

    def terms(
        self, name: str, parameters: Mapping[str, Any] | None = None
    ) -> tuple[Term, tuple[tuple[Term, float], ...]]:
        """Make a regulariser's term and, for a sum such as `t2+l2`, its further weighted terms.

        Args:
            name: a registered name, or several names joined by `+`.
            parameters: as for `parameters_of`.

        Raises:
            ValueError: as for `parameters_of`.

        Example:
            >>> options = Options(batch_size=32, epochs=2, optimiser={})
            >>> term, ((other, weight),) = options.terms("t2+l2", {"l2": {"weight": 0.003}})
            >>> term.name, other.name, weight
            ('t2', 'l2', 0.003)
        """
        bound = parameters_of(name, parameters or {}, f"terms.{name}")
        if "+" not in name:
            return self._term(name, bound), ()
        (first, own), *others = bound.items()
        added = [(self._term(part, fields), fields.pop("weight")) for part, fields in others]
        return self._term(first, own), tuple(added)

    def _term(self, name: str, bound: Mapping[str, Any]) -> Term:
        own = tuple((field, value) for field, value in bound.items() if field != "weight")
        return Term(name, own, self.sampling, neurons=self.neurons)


def parameters_of(
    name: str, given: Mapping[str, Any], where: str, field: str = "regulariser"
) -> dict[str, Any]:
    """Check a regulariser's parameters and fill in defaults for missing ones.

    Args:
        name: a registered name, or several names joined by `+` for a sum of terms. The run's weight
            applies to the first term; every other term has its own `weight`.
        given: for one name, its parameters by name; for a sum, a mapping from each part's name to
            its parameters and its `weight`.
        where: name of the parameters' section, for error messages.
        field: name of the field that holds `name`, for error messages.

    Raises:
        ValueError: a line for every invalid name, parameter or weight.

    Example:
        >>> parameters_of("t2+l2", {"l2": {"weight": 0.003}}, "terms.t2+l2")
        {'t2': {'alpha': 0.5}, 'l2': {'weight': 0.003}}
    """
    parts = name.split("+")
    if len(parts) == 1:
        return REGULARISERS.find(name, field).parameters(given, where)
    mistakes, found = Mistakes(), {}
    if len(set(parts)) < len(parts) or "none" in parts:
        mistakes.append(f"{field}: {name!r} is not a sum of different terms")
    mistakes.extend(not_one_of(where, part, parts) for part in given if part not in parts)
    for part in dict.fromkeys(parts):
        with mistakes:
            entry, place = REGULARISERS.find(part, field), f"{where}.{part}"
            shared = {"weight": (NotZero, ...)} if part != parts[0] else {}
            found[part] = entry.parameters(given.get(part, {}), place, shared)
            if shared and (words := entry.properties.refused(found[part]["weight"])):
                raise ValueError(f"{place}.weight: {found[part]['weight']:g} {words}")
    mistakes.check()
    return found
