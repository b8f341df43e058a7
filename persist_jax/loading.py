"""Loading runs of a sweep; the packages that this takes are imported with the first call."""

import os
from typing import TYPE_CHECKING

from persist_jax._plumbing.extras import needed_by

if TYPE_CHECKING:
    import pandas

    from persist_jax.sweep.loaded import LoadedRun


def load_run(
    workdir: str | os.PathLike[str],
    network: str,
    regulariser: str,
    weight: float | int = 0.0,
    seed: int = 0,
) -> "LoadedRun":
    """Load a run of a sweep that has ended.

    The data set comes from where the sweep had it: from its folder, or from the cache. Data and
    network must be those that the run was trained with.

    Args:
        workdir: the sweep's folder.
        network: the network's name.
        regulariser: the regulariser's name.
        weight: of the regulariser; 0 for `none`.
        seed: the seed.

    Returns:
        The model, its variables of the best and of the last epoch and its initial ones, the record,
        the history, the options and the data set. A run that diverged has the weights of its
        best epoch before.

    Raises:
        ValueError: one line: there is no such run, and which there are; the run has not ended; or
            its weights, its data or the code of its network is missing.
        ImportError: one line, where what the experiment needs is not installed.

    Example:
        >>> import persist_jax as pj
        >>> run = pj.load_run("runs/digits", "mlp_0", "t1", 0.01)  # doctest: +SKIP
        >>> x = run.dataset.test.x[:256]  # doctest: +SKIP
        >>> print(pj.redundancy(run.activations(x)))  # doctest: +SKIP
    """
    with needed_by("load_run", "experiment"):
        from persist_jax.sweep.loaded import read_run
    return read_run(workdir, network, regulariser, weight, seed)


def load_runs(workdir: str | os.PathLike[str]) -> "pandas.DataFrame":
    """A table of the runs of a sweep that have ended, one in each row.

    Args:
        workdir: the sweep's folder.

    Returns:
        Columns `network`, `regulariser`, `weight`, `seed`, `status`; `continued`, whether the run
        went on from a finished one without its regulariser; `epochs`, `best_epoch`,
        `best_iteration`, `validation_loss`, `seconds`; accuracies in fractions of 1 with the best
        weights, `train`, `validation`, `test`, and before training, `initial_train`, ...; `points`,
        the number of sampled neurons, of which with the best weights `constant` have one value on a
        batch of validation examples and `clustered` are in one of `clusters` of |corr| of at least
        0.9, and their `mean_correlation`; what was measured of the best and of the last weights,
        as `best_log_loss` and `last_log_loss` (see `persist_jax.store.record.NUMBERS`), and
        `epochs_to_loss`; the run's `folder`. Empty where a value is not known.

    Raises:
        ValueError: one line that names the file that cannot be read.
        ImportError: one line, where what the experiment needs is not installed.

    Example:
        >>> import persist_jax as pj
        >>> runs = pj.load_runs("runs/digits")  # doctest: +SKIP
        >>> runs.pivot_table(index="weight", columns="network", values="test")  # doctest: +SKIP
    """
    with needed_by("load_runs", "experiment"):
        from persist_jax.store.table import read_table
    return read_table(workdir)
