"""The record of a finished run, `result.json`, written atomically."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from persist_jax._plumbing.validation import Fields
from persist_jax.parameters import Count, NotNegative, Positive, Share, Size
from persist_jax.store.files import read_json, replace_json
from persist_jax.store.run import CONTINUED, Run, runs_folder

RESULT_FILE = "result.json"
_NOT_IN_ALL = ("points", "chance", "redundancy", "examples", "evaluation", "origins")
# Measures of a set of weights, on the test examples unless others are named. Further accuracies
# have their level in the name: `noise_<deviation>` under normal noise, `dropped_<share>`
# without this share of the hidden neurons, and `pruned_<share>` and `pruned_<share>_fitted` with
# only this share of each hidden layer's neurons, without and with a least-squares fit.
NUMBERS = {
    "train": "accuracy on the labels trained on",
    "validation": "accuracy on the validation examples",
    "test": "accuracy",
    "log_loss": "negative log-likelihood in nats",
    "calibration_error": "expected calibration error over 15 bins",
    "temperature": "the temperature that fits the validation examples best",
    "scaled_log_loss": "negative log-likelihood at this temperature",
    "scaled_calibration_error": "expected calibration error at this temperature",
    "memorised": "of the training labels that are wrong, the share predicted",
    "effective_rank": "effective rank of the hidden layers, on validation examples",
    "mean_correlation": "mean |corr| of their neurons",
    "constant": "share of constant neurons",
}
# In some folders, noise and dropped have no number.
_CHANGED = re.compile(r"(noise|dropped)(_[0-9.e+-]+)?|pruned_[0-9.e-]+(_fitted)?")


class Accuracy(Fields):
    """Accuracy of one set of weights on each part of the data; null where it is not finite."""

    train: Share | None
    validation: Share | None
    test: Share | None


class Accuracies(Fields):
    """Accuracy before training and with the best weights."""

    initial: Accuracy
    trained: Accuracy


class RedundantCounts(Fields):
    """Counts of redundant neurons, on one batch."""

    neurons: Size  # sampled
    constant: Count  # one value on the whole batch
    clusters: Count  # neurons joined by correlations of at least the threshold
    clustered: Count  # neurons in a cluster
    # Minimum, quartiles and maximum of `1 - |corr|` on the minimum spanning tree.
    deaths: tuple[Share, ...]
    # Mean |corr| over the pairs where it is not 0; missing in files from before 0.2.
    mean_correlation: Share | None = None

    @field_validator("deaths")
    @classmethod
    def _are_five(cls, deaths: tuple[float, ...]) -> tuple[float, ...]:
        if len(deaths) not in (0, 5) or list(deaths) != sorted(deaths):
            raise ValueError(f"{list(deaths)} are not five ascending numbers")
        return deaths

    @model_validator(mode="after")
    def _are_among_the_neurons(self) -> "RedundantCounts":
        for name in ("constant", "clustered"):
            if getattr(self, name) > self.neurons:
                raise ValueError(f"{name}: {getattr(self, name)} of {self.neurons} neurons")
        return self


class Redundancies(Fields):
    """Redundancy before training and with the best weights; null where it is not known."""

    threshold: Share  # smallest |corr| that joins neurons to a cluster
    examples: Size  # in the batch: the first validation examples
    initial: RedundantCounts | None
    trained: RedundantCounts | None


class Chance(Fields):
    """Accuracy of the best constant guess on the validation examples, and their number."""

    share: Share
    examples: Size


class Examples(Fields):
    """The examples that a run trained on."""

    train: Size  # examples
    of: Size  # examples that the seed drew them from
    wrong_labels: Count
    checksum: str | None  # of positions and labels; null if all are used, with their own labels


class LossReached(Fields):
    """When the training cross-entropy first reached a level; null if never."""

    level: Positive
    epochs: Size | None
    validation_accuracy: Share | None  # after this epoch


class Evaluation(Fields):
    """Measures of the best and of the last weights, by the names of `NUMBERS`."""

    best: dict[str, float | None]
    last: dict[str, float | None]
    loss: LossReached | None = None

    @field_validator("best", "last")
    @classmethod
    def _are_known(cls, numbers: dict[str, float | None]) -> dict[str, float | None]:
        for name in numbers:
            if name not in NUMBERS and not _CHANGED.fullmatch(name):
                known = ", ".join((*NUMBERS, "noise_...", "dropped_...", "pruned_..."))
                raise ValueError(f"{name!r} is not one of {known}")
        return numbers


class Origin(Fields):
    """The machine and the versions that trained a part of a run; its last bits depend on them."""

    device: str  # kind of the devices, as "NVIDIA H100"
    devices: Size  # number of training devices, over all processes
    processes: Size = 1
    cores: Size  # that this process could use
    matmul_precision: str = "default"  # see `persist_jax.models.at_precision`
    versions: dict[str, str]  # of Python and of the packages that compute
    revision: str | None  # git commit, with "-dirty" if the code was changed
    configuration: str  # checksum of the fields that affect the runs

    def differences(self, other: "Origin") -> list[str]:
        """List the fields that differ from another origin's, with both values, as text.

        Example:
            >>> one = Origin(device="cpu", devices=1, cores=2, versions={"jax": "0.10.2"},
            ...              revision=None, configuration="9f")
            >>> one.replace(devices=2).differences(one)
            ['devices 2, before 1']
        """
        ours, theirs = ((fields := o.plain()).pop("versions") | fields for o in (self, other))
        names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
        return [f"{name} {ours.get(name)}, before {theirs.get(name)}" for name in names]


class Record(Fields):
    """The fields of `result.json`.

    Attributes:
        network: name of the network.
        regulariser: name of the regulariser.
        weight: the regularisation weight, 0 for `none`.
        seed: the seed.
        status: "diverged" if the loss or its gradient was not finite at some step.
        reason: why it diverged, as text.
        epochs: epochs trained.
        best_epoch: number of epochs after which the weights were best.
        best_iteration: the same in steps.
        validation_loss: validation loss of the best weights.
        accuracy: accuracy of the initial and of the best weights, as fractions of 1.
        seconds: time of training.
        points: size of the point cloud, the number of sampled neurons.
        chance: accuracy of guessing on the validation examples.
        redundancy: redundancy of the initial and of the best weights.
        examples: the examples that the run trained on.
        evaluation: measures of the best and of the last weights.
        origins: the machines and versions that trained the run, in order. Files from before 0.2
            have no field from `points` on; files of 0.2 have neither `examples` nor `evaluation`.
        folder: the folder that the record was read from; not in the file.
    """

    network: str
    regulariser: str
    weight: float
    seed: int
    status: Literal["completed", "diverged"]
    reason: str | None
    epochs: Count
    best_epoch: Count
    best_iteration: Count
    validation_loss: float | None
    accuracy: Accuracies
    seconds: NotNegative
    points: Size | None = None
    chance: Chance | None = None
    redundancy: Redundancies | None = None
    examples: Examples | None = None
    evaluation: Evaluation | None = None
    origins: tuple[Origin, ...] = ()
    folder: Path | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _holds(self) -> "Record":
        _ = self.run
        if self.status == "completed":
            for moment, accuracy in self.accuracy:
                for part, value in accuracy:
                    if value is None:
                        raise ValueError(f"accuracy.{moment}.{part}: None is not in [0, 1]")
        return self

    def plain(self) -> dict[str, Any]:
        """Return the fields as JSON values, without optional fields that are not known."""
        fields = super().plain()
        return {n: value for n, value in fields.items() if value or n not in _NOT_IN_ALL}

    @property
    def run(self) -> Run:
        """The run, a point of the grid."""
        return Run(self.network, self.regulariser, self.weight, self.seed)

    @property
    def continued(self) -> bool:
        """Whether this run continues a finished one without the regulariser."""
        return self.folder is not None and self.folder.name == CONTINUED


def write_result(folder: str | os.PathLike[str], record: Record | Mapping[str, Any]) -> Path:
    """Write `result.json` atomically.

    Args:
        folder: the run's folder, created if missing.
        record: the record, or a mapping with the fields of `result.json`. A loss or accuracy of a
            diverged run that is not finite is written as null.

    Returns:
        The path of the file.

    Raises:
        ValueError: a field is wrong; one line that names it.
    """
    fields = record.plain() if isinstance(record, Record) else _plain(record)
    return replace_json(Path(folder) / RESULT_FILE, Record.read(fields).plain())


def read_result(folder: str | os.PathLike[str]) -> Record:
    """Read the `result.json` of one run.

    Raises:
        ValueError: the file is missing or wrong; one line that names it.
    """
    path = Path(folder) / RESULT_FILE
    fields = read_json(path)
    try:
        return Record.read(fields).model_copy(update={"folder": Path(folder)})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def has_result(folder: str | os.PathLike[str]) -> bool:
    """Return whether a run has a result; a damaged result raises, and is not trained again."""
    return (Path(folder) / RESULT_FILE).exists() and read_result(folder) is not None


def result_files(workdir: str | os.PathLike[str]) -> Iterator[Path]:
    """Find the result files of a sweep, also while it is training.

    A search of all folders (`**`) fails if a checkpoint in them is deleted meanwhile.
    """
    for name in (RESULT_FILE, f"{CONTINUED}/{RESULT_FILE}"):
        yield from runs_folder(workdir).glob(f"*/*/*/*/{name}")


def read_results(workdir: str | os.PathLike[str]) -> list[Record]:
    """Read the records of all finished runs of a sweep.

    Returns:
        The records, sorted by run; a continued run follows the run that it continues.

    Raises:
        ValueError: a file is wrong or in the wrong folder; one line that names it.
    """
    records = []
    for path in result_files(workdir):
        record = read_result(path.parent)
        folder = record.run.folder(workdir)
        if path.parent not in (folder, folder / CONTINUED):
            raise ValueError(f"{path}: the record of {record.run.label} belongs in {folder}")
        records.append(record)
    return sorted(records, key=lambda record: (record.run, record.continued))


def _plain(value: Any) -> Any:
    """Convert NumPy's numbers to Python's, and those that are not finite to None."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
