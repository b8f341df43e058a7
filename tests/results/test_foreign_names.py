"""Names and a configuration of a folder that somebody else wrote, in every format."""

import csv
import io

import pytest

from persist_jax.results.escape import latex, markdown
from persist_jax.results.report import write_report

EVIL = "=cmd|x!A1 \x1b[31m\x9b2J\n# heading [a](b) \u202e"


@pytest.fixture(scope="module")
def report(tmp_path_factory, sweeps):
    folder = tmp_path_factory.mktemp("foreign")
    names = ["none", "=1+1", "*star", "@x\x1b[2J\n# y"]
    sweeps.config(folder, EVIL, networks=["[a]"], regularisers=names, notice=EVIL)
    for name in names[:3]:
        sweeps.run(folder, sweeps.record("[a]", name, 0.0 if name == "none" else 0.1))
    return write_report(folder).parent


@pytest.mark.parametrize(
    "name", ["accuracies.md", "accuracies.csv", "accuracies.tex", "index.html"]
)
def test_no_file_holds_a_control_character(report, name):
    text = (report / name).read_text()
    signs = [sign for sign in text.replace("\n", "") if not sign.isprintable()]
    assert set(signs) <= {"\xa0"}


def test_a_title_begins_no_heading(report):
    lines = (report / "accuracies.md").read_text().splitlines()
    assert not any(line.startswith("#") for line in lines)
    assert len([line for line in lines if line.startswith("|")]) == 6


def test_no_cell_is_a_formula(report):
    rows = list(csv.reader(io.StringIO((report / "accuracies.csv").read_text())))
    cells = [cell for row in rows for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert "'=1+1" in cells


def test_a_row_of_latex_begins_with_no_option(report):
    lines = (report / "accuracies.tex").read_text().splitlines()
    assert not any(line.startswith(("[", "*")) for line in lines)
    assert latex("[*]") == "{[}{*}{]}" and markdown("#a&b") == r"\#a\&b"
