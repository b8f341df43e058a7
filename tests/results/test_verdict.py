"""What a record says of the network that a run left."""

import numpy as np
import pytest
from scipy.special import gammaln

from persist_jax.results.verdict import highest_guess, judged, notice, verdict
from persist_jax.store import Record
from persist_jax.store.record import Chance

TENTH = {"share": 0.1, "examples": 1000}


@pytest.fixture
def judge(sweeps):
    """`judge(constant=(before, after), initial=..., **fields)` of a run of 100 neurons."""

    def of(constant=(0, 0), initial=0.1, **changes):
        counts = [
            n if n is None else {"neurons": 100, "constant": n, "clusters": 0, "clustered": 0,
                                 "deaths": [0.0, 0.1, 0.2, 0.3, 1.0]}
            for n in constant
        ]  # fmt: skip
        found = {"threshold": 0.9, "examples": 32, "initial": counts[0], "trained": counts[1]}
        changes = {"redundancy": found, "chance": TENTH} | changes
        fields = sweeps.record(**changes)
        fields["accuracy"]["initial"]["validation"] = initial
        return Record.read(fields)

    return of


def _quantile(share, examples, level=0.999):
    """The least number that a binomial one exceeds with a probability of at most 1 - level."""
    k = np.arange(examples + 1)
    log = gammaln(examples + 1) - gammaln(k + 1) - gammaln(examples - k + 1)
    log += k * np.log(share) + (examples - k) * np.log1p(-share)
    return int(np.argmax(np.cumsum(np.exp(log)) >= level))


@pytest.mark.parametrize("share, examples", [(0.1, 1000), (0.1031, 12000), (0.9, 100), (0.5, 7)])
def test_chance_is_the_upper_end_of_what_guessing_gives(share, examples):
    found = highest_guess(Chance(share=share, examples=examples))
    assert found == _quantile(share, examples) / examples


def test_chance_is_that_of_the_most_common_class():
    """Of three labels in four one may always be right; of all, nothing else is possible."""
    assert highest_guess(Chance(share=0.75, examples=400)) > 0.75
    assert highest_guess(Chance(share=1.0, examples=400)) == 1.0


@pytest.mark.parametrize(
    "fields, status, words",
    [
        ({"validation": 0.8}, "completed", ()),
        # 130 of 1000 is the 99.9 % quantile.
        ({"validation": 0.13}, "collapsed", ("accuracy at chance (up to 13.00 %)",)),
        # 243 of 2000 is too, and above itself as a float32.
        (
            {"validation": float(np.float32(0.1215)), "chance": TENTH | {"examples": 2000}},
            "collapsed",
            ("accuracy at chance",),
        ),
        ({"validation": float(np.float32(0.131))}, "completed", ()),
        ({"validation": 0.101, "chance": None}, "completed", ()),
        ({"constant": (3, 51)}, "collapsed", ("dead neurons (51 of 100; untrained 3)",)),
        ({"constant": (None, 51)}, "collapsed", ("dead neurons (51 of 100)",)),
        ({"constant": (3, 50)}, "completed", ()),
        ({"constant": (60, 60)}, "completed", ()),
        ({"constant": (3, None)}, "completed", ()),
        ({"redundancy": None}, "completed", ()),
        (
            {"validation": 0.1, "constant": (0, 90)},
            "collapsed",
            ("accuracy at chance", "dead neurons (90 of 100; untrained 0)"),
        ),
        (
            {"validation": 0.5, "initial": 0.51},
            "worse than untrained",
            ("accuracy below untrained (51.00 %)",),
        ),
        ({"validation": 0.5, "initial": 0.5}, "completed", ()),
        (
            {"validation": 0.5, "initial": 0.6, "constant": (0, 99)},
            "collapsed",
            ("dead neurons", "accuracy below untrained"),
        ),
        (
            {"validation": 0.1, "constant": (0, 99), "status": "diverged", "reason": "the loss"},
            "diverged",
            ("the loss",),
        ),
    ],
)
def test_a_record_is_judged_by_what_it_says(judge, fields, status, words):
    found = verdict(judge(**fields))
    assert found.status == status
    assert len(found.reasons) == len(words)
    assert all(said.startswith(word) for said, word in zip(found.reasons, words, strict=True))


def test_a_continued_run_was_never_untrained(judge, tmp_path):
    record = judge(validation=0.5, initial=0.6)
    continued = record.model_copy(update={"folder": tmp_path / "continued"})
    assert verdict(record).status == "worse than untrained"
    assert verdict(continued).status == "completed"


def test_the_notice_counts_runs_of_the_grid(judge, tmp_path):
    fine, dead, worse = judge(), judge(constant=(0, 70)), judge(validation=0.5, initial=0.6)
    lost = judge(status="diverged", reason="the loss")
    continued = dead.model_copy(update={"folder": tmp_path / "continued"})
    assert notice([fine, lost, continued]) is None
    line = "2 of 5 runs collapsed or did worse than untrained: see the report"
    assert notice([fine, lost, continued, dead, worse, fine]) == line


def test_what_was_not_recorded_is_not_judged(judge):
    assert judged(judge())
    assert not judged(judge(chance=None)) and not judged(judge(redundancy=None))


@pytest.mark.parametrize("share, examples", [(1.0, 400), (0.5, 7), (0.9, 20)])
def test_where_guessing_may_be_right_on_all_nothing_is_at_chance(judge, share, examples):
    found = verdict(judge(validation=1.0, chance={"share": share, "examples": examples}))
    assert found.status == "completed"
    assert found.reasons == (
        "accuracy not compared with chance "
        f"(guessing may be right on all {examples} validation examples)",
    )
    dead = verdict(judge(constant=(0, 90), chance={"share": share, "examples": examples}))
    assert dead.status == "collapsed"
