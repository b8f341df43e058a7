"""The site builds without a warning, and its reference is whole and readable."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

import persist_jax

ROOT = Path(__file__).parents[1]
pytest.importorskip("myst_nb")
pytest.importorskip("furo")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-c", "docs", ".", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    return folder


def _described(page: Path) -> dict[str, str]:
    """Signature and docstring of every name on a page of the reference, as plain text."""
    parts = re.split(r'<dt class="sig sig-object py" id="([\w.]+)">', page.read_text("utf-8"))
    texts = (html.unescape(re.sub(r"<[^>]+>", "", part)) for part in parts[2::2])
    return dict(zip(parts[1::2], texts, strict=True))


def test_every_page_and_notebook_is_on_it(site):
    sources = [*ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    pages = [site / source.relative_to(ROOT).with_suffix(".html") for source in sources]
    assert len(pages) > 20 and all(page.exists() for page in pages)
    first = (site / "README.html").read_text("utf-8")
    assert all(str(page.relative_to(site)) in first for page in pages)


def test_every_public_name_is_described(site):
    described = _described(site / "docs/reference.html")
    names = set(persist_jax.__all__) - {"data", "models", "pgdl", "training", "regularisers"}
    assert {f"persist_jax.{name}" for name in names} <= set(described)
    for name in names:
        # A class with its methods.
        own = re.compile(rf"persist_jax\.{name}(\.|$)")
        text = "".join(text for full, text in described.items() if own.match(full))
        assert "Parameters:" in text or "Variables:" in text, name
        assert "Example" in text, name


def test_signatures_are_as_in_the_source(site):
    described = _described(site / "docs/reference.html")
    deaths = described["persist_jax.correlation_deaths"]
    assert "points: ArrayLike" in deaths and "mask: ArrayLike | None" in deaths
    assert "Float[Array, 'edges']" in deaths
    assert "alpha: ArrayLike = 0.5" in described["persist_jax.t2"]
    for page in ("reference", "modules"):
        for name, text in _described(site / f"docs/{page}.html").items():
            assert not re.search(r"jaxtyping\.|jaxlib|Alias for field|Create new", text), name


def test_formulas_reach_mathjax_and_none_is_left_between_dollars(site):
    page = (site / "docs/reference.html").read_text("utf-8")
    assert r"P = \lbrace (i, j) : i \ne j" in page
    assert page.count('class="math') > 30
    for name, text in _described(site / "docs/reference.html").items():
        assert "$" not in text, name
