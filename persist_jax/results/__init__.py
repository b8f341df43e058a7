"""What is read out of a sweep's folder afterwards: selection, statistics, pictures, the report."""

from persist_jax._plumbing.extras import needed_by

with needed_by("persist_jax.results", "experiment"):
    import jinja2  # noqa: F401
    import matplotlib  # noqa: F401
