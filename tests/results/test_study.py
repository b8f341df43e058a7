"""The tables of the study are counted from result.json, and agree with another implementation."""

import json

import numpy as np
from scipy import stats

from docs import study


def _write(folder, regulariser, weight, seed, **evaluation):
    path = folder / regulariser / f"{weight}" / f"seed{seed}" / "result.json"
    path.parent.mkdir(parents=True)
    record = {"regulariser": regulariser, "weight": weight, "seed": seed, "status": "completed"}
    path.write_text(json.dumps(record | {"evaluation": evaluation}))


def test_differences_are_paired_by_seed_with_students_interval(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    none, own = rng.uniform(0.6, 0.8, (2, 5))
    epochs = [12, 14, None, 13, 15]
    for seed in range(5):
        loss = {"epochs": epochs[seed]}
        of_none = {"test": none[seed], "memorised": 0.4}
        of_t1 = {"test": own[seed], "memorised": 0.6}
        _write(tmp_path, "none", 0.0, seed, best=of_none, last=of_none, loss={"epochs": 20})
        _write(tmp_path, "t1", 1.0, seed, best=of_t1, last=of_t1, loss=loss)
    monkeypatch.setattr("sys.argv", ["study", str(tmp_path), "--output", str(tmp_path)])
    study.main()
    head, _, _, row = [x for x in capsys.readouterr().out.splitlines() if x.startswith("|")]
    cells = dict(zip(*([c.strip() for c in x.strip("|").split("|")] for x in (head, row)),
                     strict=True))  # fmt: skip
    test = stats.ttest_rel(100 * own, 100 * none).confidence_interval(0.95)
    centre, half = (test.high + test.low) / 2, (test.high - test.low) / 2
    assert cells["test, best"] == f"{100 * own.mean():.1f}, **{centre:+.1f} ± {half:.1f}**"
    assert cells["wrong labels memorised, last"] == "60.0, **+20.0 ± 0.0**"
    # A run that never reached the loss has no pair.
    assert cells["epochs to the loss"].startswith("13.5 (4 of 5 runs), **-6.5 ±")
    assert (tmp_path / "finding.png").stat().st_size > 10_000
