"""The code of the pages in docs/ runs, in one namespace per page, and does what they say."""

import contextlib
import functools
import io
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from docs import self_supervised, whole_and_sample
from docs.whole_and_sample import Snapshot

DOCS = Path(__file__).parents[1] / "docs"


def _run(page: str, folder: Path, monkeypatch) -> tuple[dict, str]:
    """What the code of a page defines, and what it prints."""
    monkeypatch.chdir(folder)
    path = DOCS / f"{page}.md"
    text = path.read_text(encoding="utf-8")
    namespace, printed = {"__name__": page}, io.StringIO()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        # As deep into the page as the block lies, so that an error names its line.
        start = text[: text.index(block)].count("\n")
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * start + block, str(path), "exec"), namespace)
    return namespace, printed.getvalue()


def test_every_page_is_run():
    names = re.findall(r'_run\(\s*"(\w+)"', Path(__file__).read_text(encoding="utf-8"))
    elsewhere = ["sharding"]  # tests/kernels/test_sharding.py
    elsewhere += ["faults"]  # below
    elsewhere += ["scaling"]  # tests/launch/test_executors.py
    elsewhere += ["whole_and_sample", "self_supervised"]  # below
    elsewhere += ["clean_accuracy"]  # tests/results/test_clean_accuracy.py
    elsewhere += ["adding"]  # tests/test_contributing.py
    with_code = [p for p in DOCS.glob("*.md") if "```python" in p.read_text(encoding="utf-8")]
    assert set(names + elsewhere) >= {path.stem for path in with_code}


def test_links_and_pictures_lead_to_files_of_ours():
    root = DOCS.parent
    pages = [*root.glob("*.md"), *DOCS.glob("*.md"), *root.glob("notebooks/*.ipynb")]
    # A path has a point or a slash in it; `layers[0](x)` is no link.
    link = re.compile(r'\]\(([^)\s]*[./][^)\s]*)\)|(?:src|srcset)="([^"]+)"')
    targets = [
        page.parent / target.split("#")[0]
        for page in pages
        for target in map("".join, link.findall(page.read_text(encoding="utf-8")))
        if not target.startswith(("https://", "#"))
    ]
    assert len(targets) > 20
    assert not [target for target in targets if not target.exists()]


def test_every_fault_has_a_test():
    rows = [row for row in (DOCS / "faults.md").read_text(encoding="utf-8").splitlines()
            if row.startswith("| ") and not row.startswith(("| fault", "| ---"))]  # fmt: skip
    assert len(rows) > 50
    for row in rows:
        found = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert found or "as above" in row, row
        for file, name in found:
            text = (DOCS.parent / file).read_text(encoding="utf-8")
            assert f"def {name}(" in text if name else text, (file, name)


@pytest.mark.slow
def test_the_scale_of_the_terms_is_as_the_page_shows(tmp_path, monkeypatch):
    _, printed = _run("weights", tmp_path, monkeypatch)
    text = (DOCS / "weights.md").read_text(encoding="utf-8")
    rows = printed.splitlines()
    assert len(rows) == 4 and all(row in text for row in rows)


@pytest.mark.slow
def test_pruning_costs_little(tmp_path, monkeypatch):
    """What a training gives differs a little from machine to machine: not to the digit."""
    _, printed = _run("prune", tmp_path, monkeypatch)
    rows = [row.strip("| ").split(" | ") for row in printed.splitlines() if row.startswith("| ")]
    whole, *others = (float(accuracy) for _, _, accuracy in rows)
    merged, merged_alone, important, important_alone = others[-4:]
    assert whole > 85 and min(others[:8]) > whole - 2
    assert important > whole - 4 and important > important_alone > merged > merged_alone
    sizes = [sum(map(int, row[1].split(" + "))) for row in rows]
    assert sizes[0] == 384 and sizes[-1] < sizes[5] <= sizes[1] < 384


@pytest.mark.slow
def test_every_kind_of_model_is_decorrelated_by_three_lines(tmp_path, monkeypatch):
    _, printed = _run("your_model", tmp_path, monkeypatch)
    rows = re.findall(r"^(\w+), weight ([\d.]+): ([\d.]+), \d+ constant$", printed, re.M)
    assert [row[0] for row in rows[::2]] == ["linen", "nnx", "equinox", "function"]
    for (kind, zero, without), (_, one, with_term) in zip(rows[::2], rows[1::2], strict=True):
        assert (zero, one) == ("0.0", "1.0")
        assert float(with_term) > float(without) + 0.05, kind


@pytest.mark.slow
def test_a_batch_in_parts_is_another_term(tmp_path, monkeypatch):
    """Rounding may choose another edge: the cosines are those of the page to a few percent."""
    _, printed = _run("large_models", tmp_path, monkeypatch)
    text = (DOCS / "large_models.md").read_text(encoding="utf-8")
    shapes, rows = printed.splitlines()[:3], printed.splitlines()[3:]
    assert "\n".join(shapes) in text and len(rows) == 3
    cosines = [float(row.split("|")[2]) for row in rows]
    assert cosines[0] > cosines[1] > cosines[2]
    for row, cosine in zip(rows, cosines, strict=True):
        (shown,) = re.findall(rf"^\| {row.split('|')[1].strip()} \| ([\d.]+) \|$", text, re.M)
        assert float(shown) == pytest.approx(cosine, abs=0.05)


@pytest.mark.slow
def test_a_small_transformer_is_decorrelated_over_its_tokens(tmp_path, monkeypatch):
    page, printed = _run("transformers", tmp_path, monkeypatch)
    without, with_term = (float(mean) for mean in re.findall(r"mean death ([\d.]+) of", printed))
    assert with_term > without + 0.05
    plain, whole, part = (int(size) for size in re.findall(r"^(\d+) MB", printed, re.M))
    assert part < plain < whole < 2 * plain
    # Blocks that are computed anew in the backward pass give the gradient of those that are not.
    batch = page["net"], page["x"][:400], page["mask"][:400], page["y"][:400]
    gradient = jax.jit(page["gradient"], static_argnames="remat")
    gradients = (gradient(*batch, remat=remat) for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *gradients)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if "T-REGS" in name else [pytest.mark.slow])
        for name in self_supervised.TERMS
    ],
)
def test_terms_over_samples_train_an_encoder_without_labels(name):
    x = jnp.asarray(np.random.default_rng(0).random((200, 8, 8)), jnp.float32)
    train = functools.partial(self_supervised.train, self_supervised.TERMS[name], x, 1)
    params = jax.jit(train)(jnp.float32(1), jnp.int32(0))
    before = self_supervised.encoder(jax.random.split(jax.random.key(0))[0])
    for new, old in zip(params, before, strict=True):
        assert np.isfinite(new["w"]).all() and (new["w"] != old["w"]).any()


@pytest.mark.slow
def test_a_loop_is_watched(tmp_path, monkeypatch):
    page, _ = _run("measures", tmp_path, monkeypatch)
    (line,) = (tmp_path / "measures.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, **page["row"]}


def test_the_table_of_whole_and_sample_counts_deaths():
    deaths = np.array([0.06, 0.3, 1.0, 1.0], np.float32)
    snapshots = [
        Snapshot(epoch, run, accuracy, deaths[:2] + np.float32(epoch / 10), deaths)
        for epoch, accuracy in ((0, np.nan), (1, 0.5), (2, 0.842))
        for run in ("none", "t1")
    ]
    first, *_, last = whole_and_sample.table(snapshots).splitlines()[2:]
    assert first == "| none | 0 |  | 0.180 | 0.590 | 50.0 | 25.0 | 0.0 | 50.0 |"
    assert last == "| t1 | 2 | 84.20 | 0.380 | 0.590 | 0.0 | 25.0 | 0.0 | 50.0 |"
    moving = [s._replace(whole=s.sample * 2) for s in snapshots]
    assert whole_and_sample.together(moving, "t1") == pytest.approx(1)
