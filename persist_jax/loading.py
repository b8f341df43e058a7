"""Load runs of a sweep; the first call imports the packages that this needs."""

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
    """Load a finished run of a sweep.

    The data set is loaded from the folder or cache that the sweep used. Data and network must be
    the same as in training.

    Args:
        workdir: the sweep's folder.
        network: the network's name.
        regulariser: the regulariser's name.
        weight: the regularisation weight; 0 for `none`.
        seed: the seed.

    Returns:
        The model, its initial variables and those of the best and of the last epoch, the record,
        the history, the options and the data set. A diverged run has the weights of its best epoch
        before it diverged.

    Raises:
        ValueError: there is no such run (the line lists the runs), the run has not finished, or
            its weights, its data or the code of its network is missing.
        ImportError: a package of the extra `experiment` is not installed.

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
    """Read the finished runs of a sweep as a table, one run per row.

    Args:
        workdir: the sweep's folder.

    Returns:
        A table with these columns; a cell is empty where the value is not known.

        * `network`, `regulariser`, `weight`, `seed`, `status`.
        * `continued`: whether the run continues a finished one without its regulariser.
        * `epochs`, `best_epoch`, `best_iteration`, `validation_loss`, `seconds`.
        * `train`, `validation`, `test`: accuracy of the best weights, as a fraction of 1;
          `initial_train`, ...: the same before training.
        * `points`: the number of sampled neurons. Of the best weights, on a batch of validation
          examples: `constant` neurons have one value, `clustered` neurons are in one of `clusters`
          of |corr| of at least 0.9, and `mean_correlation` is the mean |corr| over the pairs where
          it is not 0.
        * `best_log_loss`, `last_log_loss`, ...: measures of the best and of the last weights, see
          `persist_jax.store.record.NUMBERS`; `epochs_to_loss`.
        * `folder`: the run's folder.

    Raises:
        ValueError: a file cannot be read; the line names it.
        ImportError: a package of the extra `experiment` is not installed.

    Example:
        >>> import persist_jax as pj
        >>> runs = pj.load_runs("runs/digits")  # doctest: +SKIP
        >>> runs.pivot_table(index="weight", columns="network", values="test")  # doctest: +SKIP
    """
    with needed_by("load_runs", "experiment"):
        from persist_jax.store.table import read_table
    return read_table(workdir)
