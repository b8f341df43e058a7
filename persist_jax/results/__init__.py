"""Write the report of a sweep's folder: selection, statistics, pictures, the page."""

from persist_jax._plumbing.extras import needed_by

with needed_by("persist_jax.results", "experiment"):
    import jinja2  # noqa: F401
    import matplotlib  # noqa: F401
