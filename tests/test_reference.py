"""The reference from the docstrings builds without a warning and is readable."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

import persist_jax

ROOT = Path(__file__).parents[1]
pytest.importorskip("pdoc")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The pages by name, as text without tags."""
    folder = tmp_path_factory.mktemp("reference")
    command = [sys.executable, "-W", "error::UserWarning", "docs/reference", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    pages = folder.rglob("*.html")
    return {page.stem: page.read_text(encoding="utf-8") for page in pages}


def _members(page: str) -> dict[str, str]:
    """Signature and docstring of every function and class, without the source, as plain text."""
    sections = re.findall(r'<section id="(\w+)">(.*?)</section>', page, re.DOTALL)
    texts = {}
    for name, section in sections:
        section = re.sub(r'<div class="pdoc-code codehilite">.*?</div>', "", section, flags=re.S)
        texts[name] = html.unescape(re.sub(r"<[^>]+>", "", section))
    return texts


def test_every_public_name_is_described(reference):
    members = _members(reference["persist_jax"])
    modules = {"data", "models", "pgdl", "training"}
    names = set(persist_jax.__all__) - modules - {"regularisers"}
    assert set(members) >= names and set(reference) >= modules | {"terms"}
    for name, text in members.items():
        assert "Arguments:" in text or "Attributes:" in text, name
        assert "Example:" in text, name


def test_signatures_are_as_in_the_source(reference):
    members = _members(reference["persist_jax"])
    assert "points: ArrayLike" in members["correlation_deaths"]
    assert "mask: ArrayLike | None" in members["correlation_deaths"]
    assert "Float[Array, 'edges']" in members["correlation_deaths"]
    assert "alpha: ArrayLike = 0.5" in members["t2"]
    for page in reference.values():
        for name, text in _members(page).items():
            assert not re.search(r"jaxtyping\.|jaxlib|Alias for field|Create new", text), name


def test_formulas_reach_mathjax_as_they_were_written(reference):
    assert r"P = \lbrace (i, j) : i \ne j" in _members(reference["persist_jax"])["mean_correlation"]
    for page in reference.values():
        docstrings = re.findall(r'<div class="docstring">(.*?)</div>', page, re.DOTALL)
        formulas = [m for text in docstrings for m in re.findall(r"\$+[^$]+\$+", text)]
        assert not [formula for formula in formulas if re.search(r"<\w", formula)]
