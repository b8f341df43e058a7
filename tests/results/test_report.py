"""The report end to end: from a folder to a page that needs nothing else."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from persist_jax.results.plots import plot_deaths, plot_losses, read_histories
from persist_jax.results.redundant import redundant_rows
from persist_jax.results.report import write_report
from persist_jax.results.selection import tabulate
from persist_jax.results.style import PALETTE, own_style
from persist_jax.results.weights import plot_weights
from persist_jax.store import read_report_options, read_sweep
from tests.commands import run_command

TABLES = {"index.html", "accuracies.csv", "accuracies.md", "accuracies.tex", "statistics.json"}
FILES = TABLES | {
    "critical_difference.png", "critical_difference.svg", "critical_difference.pdf",
    "critical_difference.tex", "losses.png", "deaths.png", "deaths.gif", "weights.png",
    "profiles.png",
}  # fmt: skip


GIF = re.compile(r"data:image/gif;base64,[\w+/=]+")


class Page(HTMLParser):
    """Text, sources and unclosed tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.texts, self.open, self.tags = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, sweeps):
    return sweeps.write(tmp_path_factory.mktemp("sweep"), weights=(0.01, 1.0))


@pytest.fixture(scope="module")
def report(sweep):
    return write_report([sweep]).parent


def test_every_file_is_there_and_nothing_else(sweep, report):
    assert report == sweep / "report"
    assert {path.name for path in report.iterdir()} == FILES
    assert (report / "critical_difference.svg").read_text().startswith("<?xml")
    figure = (report / "critical_difference.tex").read_text()
    assert "{critical_difference.pdf}" in figure and figure.count("{") == figure.count("}")
    for name in ("losses.png", "deaths.png", "critical_difference.png"):
        assert (report / name).read_bytes().startswith(b"\x89PNG")


def test_the_page_needs_nothing_else(report):
    text = (report / "index.html").read_text()
    page = Page(text)
    assert page.open == []
    assert [source for source in page.sources if not source.startswith("#")] == [
        GIF.search(text)[0]
    ]
    assert "script" not in page.tags and "link" not in page.tags
    assert not re.search(r"https?://|@import|url\((?!#)", text)


def test_what_a_picture_refers_to_is_in_the_page_once(report):
    text = (report / "index.html").read_text()
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text)) > set()
    for pair in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text):
        assert "".join(pair) in ids


def test_pictures_have_the_colours_of_either_theme(report):
    text = (report / "index.html").read_text()
    style = text[: text.index("</style>")]
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+)", part)) for part in style.split("@media screen")[:2]
    )
    used = set(re.findall(r"(?:fill|stroke): var\(--(\w+)\)", text))
    assert used == {"ink", "muted", "line", "paper", "blue"}
    for theme in (light, dark):
        assert _contrast(theme["ink"], theme["paper"]) > 7
        assert _contrast(theme["muted"], theme["paper"]) > 4.5
        assert _contrast(theme["blue"], theme["paper"]) > 4.5
        for side in ("better", "worse", "best"):
            assert _contrast(theme["ink"], theme[side]) > 7
    # No ink of the light theme is left in a picture; the palette stands out from both papers.
    panels = "".join(re.findall("<svg viewBox.*?</svg>", text, re.DOTALL))
    fixed = set(re.findall(r"(?:fill|stroke): (#\w+)", panels))
    assert fixed.isdisjoint(light.values()) and set(PALETTE[1:]) & fixed
    assert min(_contrast(colour, dark["paper"]) for colour in PALETTE[1:]) > 3


def _contrast(one, other):
    """The Web Content Accessibility Guidelines' contrast ratio."""

    def luminance(colour):
        parts = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
                 for value in to_rgb(colour)]  # fmt: skip
        return sum(np.multiply(parts, (0.2126, 0.7152, 0.0722)))

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
def test_no_label_is_outside_of_its_panel(sweep):
    table = tabulate(read_sweep(sweep))
    histories = read_histories(table)
    drawn = 0
    with own_style():
        for panels in (plot_weights(table), plot_losses(table, histories),
                       plot_deaths(table, histories)):  # fmt: skip
            renderer = FigureCanvasAgg(panels.figure).get_renderer()
            for cell, axes in panels.axes.items():
                left, top, width, height = (i * panels.figure.dpi for i in panels.window(cell))
                bottom = panels.figure.bbox.y1 - top - height
                box = axes.get_tightbbox(renderer)
                assert left <= box.x0 and box.x1 <= left + width, cell
                assert bottom <= box.y0 and box.y1 <= bottom + height, cell
                drawn += 1
    assert drawn == 3 * (5 + 6 + 6)


def test_a_difference_says_whether_it_is_better_or_worse(tmp_path, sweeps):
    sweeps.config(tmp_path, networks=["a"], regularisers=["none", "t1", "l1"])
    for seed in range(4):
        for name, test in (("none", 0.8), ("t1", 0.9), ("l1", 0.7)):
            test += 0.001 * seed * (name != "none")
            fields = sweeps.record("a", name, 0.1, seed, test=test)
            sweeps.run(tmp_path, fields)
    text = write_report(tmp_path).read_text()
    found = re.findall(r'<td class="(better|worse)">(. [+-][\d.]+)</td>', text)
    assert found == [("better", "▲ +10.15"), ("worse", "▼ -9.85")]


def test_every_pair_is_a_row_once(report):
    text = (report / "index.html").read_text()
    section = text.partition('id="pairs"')[2].partition("<h2")[0]
    names = re.findall(r"<tr><td>(\w+) − (\w+)</td>", section)
    assert len(names) == 15 and len({frozenset(pair) for pair in names}) == 15
    labels = re.findall("<th>(.*?)</th>", section)
    rows = section.split("<tr>")[2:]
    assert all(row.count("<td") == len(labels) for row in rows)


def test_the_page_says_what_the_statistics_say(report):
    page = Page((report / "index.html").read_text())
    (entry,) = json.loads((report / "statistics.json").read_text())["tables"]
    assert entry["sentences"]
    for sentence in entry["sentences"]:
        assert sentence in page.text
    assert "loss not finite at step 3" in page.text
    assert "33 runs, 6 of them diverged, 0 collapsed; " in page.text
    assert entry["diverged_runs"] == 6
    assert sum(entry["average_ranks"].values()) == pytest.approx(6 * 7 / 2)
    assert entry["weight_wins"]["t1"] == {"0.01": 3}


def test_tables_agree_with_each_other(report):
    rows = list(csv.DictReader(io.StringIO((report / "accuracies.csv").read_text())))
    assert len(rows) == 18
    best = {}
    for row in rows:
        best[row["network"]] = max(best.get(row["network"], 0), float(row["test_accuracy"]))
    (entry,) = json.loads((report / "statistics.json").read_text())["tables"]
    markdown = (report / "accuracies.md").read_text()
    latex = (report / "accuracies.tex").read_text()
    for row in rows:
        exact = float(row["test_accuracy"])
        assert entry["best_runs"][row["regulariser"]][row["network"]]["test_accuracy"] == exact
        shown = f"{100 * exact:.2f}"
        if exact == best[row["network"]]:
            assert f"**{shown}**" in markdown and rf"\textbf{{{shown}}}" in latex
        else:
            assert f" {shown} " in markdown and f" {shown} " in latex
    assert rows[1] == {
        "sweep": "mnist", "network": "mlp_0", "regulariser": "t1", "weight": "0.01",
        "validation_loss": "0.5", "initial_test_accuracy": "0.1", "best_iteration": "80.0",
        "seeds": "1", "diverged": "0", "collapsed": "0", "worse_than_untrained": "0",
        "verdict": "completed", "train_accuracy": "0.9", "test_deviation": "",
        "validation_accuracy": rows[1]["validation_accuracy"],
        "test_accuracy": rows[1]["test_accuracy"],
    }  # fmt: skip


def test_latex_is_well_formed(report):
    latex = (report / "accuracies.tex").read_text()
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(body) == 7
    assert all(line.count(" & ") == 3 for line in body)
    assert r"min\_corr" in latex and r"mlp\_0" in latex
    code = "\n".join(line for line in latex.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[_%#$]", code)
    assert code.count("{") == code.count("}")
    assert code.index(r"\toprule") < code.index(r"\midrule") < code.index(r"\bottomrule")


def test_text_of_a_run_or_a_config_is_escaped(tmp_path, sweeps):
    evil = "<script>alert('&')</script>"
    sweeps.config(tmp_path, evil, extra=evil)
    sweeps.run(tmp_path, sweeps.record("<b>", status="diverged", reason=evil))
    page = Page(write_report(tmp_path).read_text())
    assert "script" not in page.tags and "b" not in page.tags
    assert page.text.count(evil) >= 3


def _counts(constant, least):
    deaths = [least, 0.2, 0.3, 0.4, 1.0]
    counts = {"neurons": 60, "constant": constant, "clusters": 2, "clustered": 7}
    return counts | {"deaths": deaths, "mean_correlation": 0.25}


def test_what_is_redundant_is_a_table(tmp_path, sweeps):
    sweeps.config(tmp_path, networks=["mlp_0"], regularisers=["none", "t1", "t2"])
    for name, weight, constant in (("none", 0.0, 4), ("t1", 0.1, 31), ("t1", 1.0, 50)):
        found = {"threshold": 0.9, "examples": 43}
        found |= {"initial": _counts(3, 0.125), "trained": _counts(constant, 0.0625)}
        level = 0.8 if weight < 1 else 0.7
        fields = sweeps.record("mlp_0", name, weight, validation=level, redundancy=found)
        sweeps.run(tmp_path, fields)
    sweeps.run(tmp_path, sweeps.record("mlp_0", "t2", 0.1))  # of an older version
    text = write_report(tmp_path).read_text()
    assert "joined by |corr|\N{NO-BREAK SPACE}≥\N{NO-BREAK SPACE}0.9," in Page(text).text
    section = text[text.index("Redundant neurons") : text.index("All runs")]
    rows = [re.findall("<td[^>]*>([^<]*)</td>", row) for row in section.split("<tr>")[2:]]
    shared = ["2", "7"], ["0.200", "0.300", "0.400", "1.000", "0.250"]
    assert rows == [
        ["untrained", "60", "3", *shared[0], "0.125", *shared[1]],
        ["none", "60", "4", *shared[0], "0.062", *shared[1]],
        ["t1", "60", "31", *shared[0], "0.062", *shared[1]],
        ["t2", ""],
    ]


def test_untrained_weights_have_a_row_per_seed_of_the_best_runs(tmp_path, sweeps):
    sweeps.config(tmp_path)
    for name, seed in (("none", 2), ("t1", 0), ("t2", 2)):
        found = {"threshold": 0.9, "examples": 43}
        found |= {"initial": _counts(seed, 0.1), "trained": _counts(9, 0.1)}
        sweeps.run(tmp_path, sweeps.record("mlp_0", name, 0.0, seed, redundancy=found))
    rows = redundant_rows(tabulate(read_sweep(tmp_path)))
    assert [(row.weights, row.counts.constant) for row in rows] == [
        ("untrained, seed 0", 0), ("untrained, seed 2", 2), ("none", 9), ("t1", 9), ("t2", 9)
    ]  # fmt: skip


def test_a_notice_stands_on_a_banner_of_its_own(tmp_path, sweeps):
    notice = "Not the paper's data: give --config.dataset.root=<b>DIR</b> & wait."
    sweeps.config(tmp_path / "a", "small", notice=notice)
    sweeps.config(tmp_path / "b", "whole")
    html = write_report([tmp_path / "a", tmp_path / "b"]).read_text()
    page = Page(html)
    assert f"small: {notice}" in page.text and "b" not in page.tags
    assert html.count('class="banner"') == 1
    assert html.index('class="banner"') < html.index("<h2>")


def test_without_a_notice_there_is_no_banner_and_without_counts_no_table_of_them(report):
    text = (report / "index.html").read_text()
    assert 'class="banner"' not in text and "Redundant neurons" not in text


@pytest.mark.slow
def test_a_regulariser_of_somebody_else_gets_a_whole_report(tmp_path, sweeps):
    names = ("mine", "none", "t1", "also_mine")
    own = sweeps.write(tmp_path, networks=("a", "b"), regularisers=names, weights=(0.01,))
    index = write_report(own)
    # Profiles need several seeds.
    assert {path.name for path in index.parent.iterdir()} == FILES - {"profiles.png"}
    (entry,) = json.loads((index.parent / "statistics.json").read_text())["tables"]
    assert entry["regularisers"] == list(names)
    assert set(entry["average_ranks"]) == set(names)
    texts = [text for text in Page(index.read_text()).texts if text in names]
    assert texts[:4] == list(names)


def test_a_sweep_without_runs_says_so(tmp_path, sweeps):
    (tmp_path / "config.json").write_text('{"name": "empty"}')
    index = write_report(tmp_path)
    text = index.read_text()
    assert "No run has finished yet" in Page(text).text and "<figure>" not in text
    assert {path.name for path in index.parent.iterdir()} == TABLES
    (entry,) = json.loads((index.parent / "statistics.json").read_text())["tables"]
    assert entry["friedman"] is None and entry["problem"]


@pytest.mark.slow
def test_several_sweeps_are_shown_one_by_one_and_combined(tmp_path, sweeps):
    names = ("none", "t1", "l1")
    one = sweeps.write(tmp_path / "one", ("mlp_0", "mlp_1"), names, weights=(0.01, 1.0))
    other = sweeps.write(
        tmp_path / "other", ("model_20",), names, weights=(0.1, 1.0), name="pgdl", epochs=3
    )
    index = write_report([one, other], tmp_path / "both")
    assert not (other / "report").exists()
    entries = json.loads((index.parent / "statistics.json").read_text())["tables"]
    assert [entry["title"] for entry in entries] == ["mnist", "pgdl", "mnist + pgdl"]
    assert entries[2]["networks"] == ["mnist/mlp_0", "mnist/mlp_1", "pgdl/model_20"]
    page = Page(index.read_text())
    assert f"This report is in {tmp_path / 'both'}" in page.text
    assert entries[2]["friedman"]["statistic"] > entries[0]["friedman"]["statistic"]
    rows = list(csv.DictReader(io.StringIO((index.parent / "accuracies.csv").read_text())))
    assert len(rows) == 3 * 3


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, r"config\.json: no such file"),
        ("{", r"config\.json: not JSON \(Expecting"),
        ("[]", r"config\.json: name: missing"),
        ('{"networks": []}', r"config\.json: name: missing"),
    ],
)
def test_a_broken_config_is_named_in_one_line(tmp_path, config, words):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=f"^[^\n]*{words}[^\n]*$"):
        write_report(tmp_path)
    assert not (tmp_path / "report").exists()


def test_folders_are_refused_in_one_line(tmp_path, sweeps):
    sweeps.config(tmp_path)
    with pytest.raises(ValueError, match="^workdir: .*nowhere is not a folder$"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="^workdir: .* more than once$"):
        write_report([tmp_path, tmp_path])
    with pytest.raises(ValueError, match="^workdir: at least one"):
        write_report([])


def test_report_options_come_from_the_config(tmp_path, sweeps):
    sweeps.config(tmp_path, report={"alpha": 0.1, "test": "wilcoxon"})
    options = read_report_options(tmp_path)
    index = write_report(tmp_path, options=options)
    (entry,) = json.loads((index.parent / "statistics.json").read_text())["tables"]
    assert (entry["significance"], entry["test"], entry["correction"]) == (0.1, "wilcoxon", "holm")
    sweeps.config(tmp_path, report={"alhpa": 0.1})
    with pytest.raises(ValueError, match="alhpa.*significance, test, correction"):
        read_report_options(tmp_path)


def run(*arguments):
    return run_command("launch.report", *arguments)


@pytest.mark.slow
def test_the_command_prints_table_and_path_and_makes_the_same_files(tmp_path, sweeps):
    sweep = sweeps.write(tmp_path, ("a", "b"), ("none", "t1", "t2"), weights=(0.01,))
    report, again = write_report(sweep).parent, tmp_path / "again"
    done = run(f"--workdir={sweep}", f"--output={again}")
    assert done.returncode == 0
    assert (again / "accuracies.md").read_text() in done.stdout
    assert str(again / "index.html") in done.stdout
    for name in FILES - {"profiles.png"}:  # which need several seeds
        assert (again / name).read_bytes() == (report / name).read_bytes(), name


def test_the_command_refuses_bad_input_in_one_line(sweep):
    done = run(f"--workdir={sweep}", "--test=anova")
    assert done.returncode == 2
    assert done.stderr == "test: 'anova' is not one of nemenyi, wilcoxon\n"


def test_several_sweeps_leave_their_own_reports_alone(tmp_path, sweeps):
    folders = [sweeps.config(tmp_path / name, name) for name in ("one", "two")]
    own = write_report(folders[0])
    before = own.read_bytes()
    done = run(*(f"--workdir={folder}" for folder in folders))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"Report: {tmp_path / 'report-one-two' / 'index.html'}\n")
    assert own.read_bytes() == before and not (folders[1] / "report").exists()
