"""Loading a run of a sweep; what that takes is imported with the first call."""

import os
from typing import TYPE_CHECKING

from persist_jax._plumbing.extras import needed_by

if TYPE_CHECKING:
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
        The model, its trained and its initial variables, the record, the history, the options and
        the data set. A run that diverged has the weights of its best epoch before.

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
