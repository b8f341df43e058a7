"""The packages that not everybody needs, and the one line that says how to get them."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed_by(what: str, extra: str) -> Iterator[None]:
    """Say which extra of `setup.py` brings a package that is imported here and not installed.

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
