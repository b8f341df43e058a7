"""Optional packages: one error line says how to install a missing one."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed_by(what: str, extra: str) -> Iterator[None]:
    """Name the extra of `setup.py` to install when an import inside the block fails.

    Example:
        >>> with needed_by("the moon", "experiment"):
        ...     import green_cheese
        Traceback (most recent call last):
        ImportError: the moon needs green_cheese: pip install "persist_jax[experiment]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        command = f'pip install "persist_jax[{extra}]"'
        raise ImportError(f"{what} needs {error.name}: {command}", name=error.name) from None
