"""The code of the pages in docs/ runs, in one namespace per page, and prints what they show."""

import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_and_prints_what_it_shows(page, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    namespace = {"__name__": "page"}
    for block in blocks:
        # As deep into the page as the block lies, so that an error names its line.
        start = text[: text.index(block)].count("\n")
        exec(compile("\n" * start + block, str(page), "exec"), namespace)
    for line in capsys.readouterr().out.splitlines():
        assert line in text, line
