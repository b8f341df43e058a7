"""The documentation as a site with search: `python -m sphinx -c docs . build/docs`."""

import inspect
import re

from jax.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

import persist_jax

project, copyright, release = "persist_jax", "the persist_jax developers", persist_jax.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
# The pages link to one another as they do in the repository, so its root is theirs.
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/*.md", "notebooks/*.ipynb"]
root_doc = "README"
PAGES = {
    "In your own network": [
        "docs/your_model", "notebooks/your_model", "docs/weights", "docs/measures", "docs/prune",
        "notebooks/redundancy", "notebooks/copies", "docs/transformers", "docs/large_models",
        "docs/sharding", "docs/self_supervised",
    ],
    "Sweeps": ["docs/sweeps", "notebooks/results", "docs/scaling", "docs/faults", "docs/adding"],
    "Results": [
        "docs/finding", "docs/study", "docs/clean_accuracy", "docs/performance",
        "docs/differences", "docs/whole_and_sample",
    ],
    "Reference": ["docs/reference", "docs/modules", "notebooks/kernels", "CONTRIBUTING"],
}  # fmt: skip

html_theme = "furo"
html_title = f"persist_jax {release}"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Links to folders and files of code lead nowhere on the site.
suppress_warnings = ["myst.xref_missing"]
# Notebooks are stored with their outputs.
nb_execution_mode = "off"

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
napoleon_custom_sections = ["Reference"]
napoleon_use_ivar = True
# Without the types: the signature has them.
napoleon_attr_annotations = False

# What is imported where it is first named has to be there.
for name in persist_jax.__all__:
    vars(persist_jax)[name] = getattr(persist_jax, name)


def with_contents(app, page, source):
    """The list of all pages, which the repository's first page does not show."""
    if page == root_doc:
        for caption, pages in PAGES.items():
            names = "\n".join(f"/{name}" for name in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{names}\n```\n"


def as_written(app, what, name, documented, options, signature, returned):
    """Annotations as the source has them, without what the names in them stand for."""

    def written(text):
        for name, alias in {"ArrayLike | None": ArrayLike | None, "ArrayLike": ArrayLike}.items():
            text = text.replace(stringify_annotation(alias, "smart"), name)
        return re.sub(r"~?\b(jaxtyping|jaxlib\._jax|typing|pathlib|os)\.", "", text)

    return signature and written(signature), returned and written(returned)


def as_restructured_text(app, what, name, documented, options, lines):
    """Formulas and code as Sphinx writes them; docstrings write both as Markdown does."""
    text = re.sub(
        r"^( *)\$\$\s*(.*?)\s*\$\$",
        lambda m: f"{m[1]}.. math::\n\n{m[1]}   " + re.sub(r"\n\s*", f"\n{m[1]}   ", m[2]) + "\n",
        "\n".join(lines),
        flags=re.DOTALL | re.MULTILINE,
    )
    # Code, formulas, and a bar or star that is neither: the first of these that begins is whole.
    text = re.sub(
        r"``.+?``|:\w+:`.+?`|`(?P<code>[^`]+)`(?!_)|(?<!\\)\$(?P<formula>[^$]+?)\$|(?P<bar>\|)",
        lambda m: f"``{m['code']}``" if m["code"]
        else f":math:`{' '.join(m['formula'].split())}`" if m["formula"]
        else r"\|" if m["bar"] else m[0],
        text,
    )  # fmt: skip
    lines[:] = text.split("\n")


def without_generated(app, what, name, member, skipped, options):
    """Fields of a named tuple are in its docstring."""
    return True if (inspect.getdoc(member) or "").startswith("Alias for field number") else None


def setup(app):
    app.connect("source-read", with_contents)
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=900)
    app.connect("autodoc-skip-member", without_generated)
