"""One sweep over several processes that train every group together: its flags."""

from collections.abc import Callable

from absl import flags

flags.disclaim_key_flags()  # the flags are those of the command which asks for them


def define_distributed() -> Callable[[], dict[str, object] | None]:
    """Define the flags.

    Returns:
        A function that gives, once the flags are parsed, the parameters of
        `persist_jax.sweep.distributed.join`; `None` if this is the only process.
    """
    distributed = flags.DEFINE_bool(
        "distributed", False, "One of several processes that train each run; docs/scaling.md."
    )
    own = [
        flags.DEFINE_string("coordinator_address", None, "Host:port of process 0."),
        flags.DEFINE_integer("num_processes", None, "How many there are.", lower_bound=1),
        flags.DEFINE_integer("process_id", None, "Which one this is.", lower_bound=0),
    ]

    def wanted() -> dict[str, object] | None:
        given = {flag.name: flag.value for flag in own if flag.value is not None}
        if given and not distributed.value:
            raise ValueError(f"--{next(iter(given))}: belongs to --distributed")
        return given if distributed.value else None

    return wanted


def check_distributed(config, executor: str) -> None:
    """Refuse what processes cannot train together.

    Args:
        config: the configuration.
        executor: the name of the executor.

    Raises:
        ValueError: one line that names the flag or the field.
    """
    if executor != "local":
        raise ValueError(
            f"--executor: {executor!r} trains groups apart, the processes of --distributed every "
            "group together; choose one of the two"
        )
    if config.parallel != "batch":
        raise ValueError(
            f"parallel: {config.parallel!r} must be 'batch' with --distributed, where all devices "
            "share each batch; groups on several machines are --executor's"
        )
