"""The reference of the public names, from their docstrings.

python docs/reference [FOLDER], by default build/reference
"""

import inspect
import re
import sys
from pathlib import Path

import pdoc
from jax.typing import ArrayLike

import persist_jax

HERE = Path(__file__).parent
MODULES = (
    "persist_jax",
    "persist_jax.terms",
    "persist_jax.sweep",
    "persist_jax.store",
    "persist_jax.results.selection",
    "persist_jax.results.statistics",
    # Not those of their modules that have the name of a function.
    r"!persist_jax[.]\w+[.](?!selection|statistics)",
)
# Docstrings that Python and Flax give to what has none.
GENERATED = ("Alias for field number", "Create new instance of", "A descriptor that can wrap")


# By the names that they are written with.
ALIASES = {"ArrayLike | None": ArrayLike | None, "ArrayLike": ArrayLike}


class _Written:
    """An annotation that is shown as it is written in the source."""

    def __init__(self, annotation):
        text = inspect.formatannotation(annotation)
        for name, alias in ALIASES.items():
            text = text.replace(inspect.formatannotation(alias), name)
        self.text = re.sub(r"\b(jaxtyping|jaxlib\._jax|typing|pathlib|os)\.", "", text)

    def __repr__(self):
        return self.text


def _format_signature(signature, colon):
    if signature.return_annotation is not inspect.Signature.empty:
        signature = signature.replace(return_annotation=_Written(signature.return_annotation))
    parameters = [
        parameter
        if parameter.annotation is inspect.Parameter.empty
        else parameter.replace(annotation=_Written(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    signature = signature.replace(parameters=parameters)
    return pdoc.render_helpers.format_signature(signature, colon)


if __name__ == "__main__":
    pdoc.render.env.filters["format_signature"] = _format_signature
    pdoc.render.env.globals["generated"] = GENERATED
    pdoc.render.configure(docformat="google", math=True, template_directory=HERE)
    folder = Path(*sys.argv[1:2] or [HERE.parents[1] / "build" / "reference"])
    # What is imported where it is first named has to be there.
    for name in persist_jax.__all__:
        vars(persist_jax)[name] = getattr(persist_jax, name)
    pdoc.pdoc(*MODULES, output_directory=folder)
    print(folder / "index.html")
