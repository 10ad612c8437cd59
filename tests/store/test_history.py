"""Retention: old rows become statistics that say the same."""

from __future__ import annotations

import numpy as np
import pytest

from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.store import Outcome, ReviewSettings, StreamSettings

DAY = 86_400.0


@pytest.fixture
def filled(stream, clock, said):
    """60 predictions, 20 a day by their own clock; every third has no outcome."""
    rng = np.random.default_rng(0)
    for number in range(60):
        clock.now = 1_000.0 + number
        score = float(rng.random())
        row = said(str(number), predicted_at=DAY * (number // 20), raw_probability=score, probability=score**2)
        outcome = Outcome(prediction_id=str(number), outcome=int(rng.random() < score), observed_at=clock.now)
        stream.record([row] if number % 3 == 0 else [row, outcome])
    clock.now = 9_000.0
    return stream


@pytest.mark.parametrize("batch", [7, 5_000])
def test_days_say_what_the_rows_said(filled, batch):
    table = filled.rows()
    known = table[table["outcome"].notna()]
    assert filled.compact(before=5_000.0, batch=batch) == 60
    days = filled.history()
    assert [(day.day, day.n) for day in days] == [("1970-01-01", 20), ("1970-01-02", 20), ("1970-01-03", 20)]
    assert sum(day.unlabelled for day in days) == 20
    happened = (known["outcome"] == "1").astype(int)
    for name, column in (("raw", "raw_probability"), ("base", "base_probability"), ("served", "probability")):
        summed = sum(getattr(day, name) for day in days)
        whole = ScoreStatistics(exact_up_to=1_000).update(happened, known[column])
        assert summed.n == 40
        assert summed.metrics()["brier"] == pytest.approx(whole.metrics()["brier"], rel=1e-12)
    counts = filled.counts()
    assert (counts.predictions, counts.outcomes, counts.compacted) == (0, 0, 60)
    assert filled.compact(before=5_000.0) == 0


def test_a_day_grows_over_several_runs(filled):
    assert filled.compact(before=1_010.0) == 10
    assert filled.compact(before=1_020.0) == 10
    (day,) = filled.history()
    assert (day.n, day.unlabelled, day.served.n) == (20, 7, 13)
    assert len(filled.rows()) == 40


def test_the_log_goes_on_after_it(filled, said):
    last = filled.log(limit=1_000)[-1].seq
    filled.compact(before=5_000.0)
    filled.record_predictions([said("new")])
    assert [entry.seq for entry in filled.log()] == [last + 1]


def test_what_is_read_but_not_settled_stays(filled):
    lease = filled.lease("one", 30)
    assert filled.compact(before=5_000.0) == 0, "somebody is about to learn"
    lease.checkpoint(100, b"")
    assert filled.compact(before=5_000.0) == 0, "all was read, but who knows what is waited for"
    lease.checkpoint(100, b"", settled=10)
    lease.checkpoint(100, b"")  # says nothing new about it
    assert filled.learner().settled == 10
    filled.compact(before=5_000.0)
    kept = filled.log(limit=1_000)
    assert {entry.seq for entry in kept} >= set(range(11, 101))
    assert filled.counts().compacted == 6  # of its 7 predictions, the last has an outcome that is not learned


def test_a_young_outcome_keeps_its_prediction(stream, clock, said, happened):
    stream.record_predictions([said("a"), said("b")])
    stream.record_outcomes([happened("orphan")])
    clock.now = 3_000.0
    stream.record_outcomes([happened("a")])
    assert stream.compact(before=2_000.0) == 1
    counts = stream.counts()
    assert (counts.predictions, counts.outcomes, counts.unmatched) == (1, 1, 0)
    assert stream.compact(before=4_000.0) == 1


def test_the_last_outcome_counts_and_reviews_go_too(stream, clock, said):
    stream.record_predictions([said("a", abstained=True, reason="low confidence")])
    stream.decide_review("a", 0, "mia")
    clock.now = 1_001.0
    stream.decide_review("a", 1, "mia")
    stream.compact(before=2_000.0)
    assert stream.history()[0].served.metrics()["accuracy"] == 1.0
    assert stream.open_reviews() == ()


def test_a_case_that_somebody_has_begun_stays(stream, clock, said):
    stream.change_settings(StreamSettings(review=ReviewSettings(answers=2)), "root")
    stream.record([said(each, abstained=True, reason="low_confidence") for each in "abcdefg"])
    for each in "abcdf":
        stream.claim_review(each, "mia")
    stream.release_review("a", "mia")
    stream.answer_review("b", "mia", "confirm")
    stream.answer_review("c", "mia", "escalate", note="who knows")
    stream.answer_review("d", "mia", "confirm")
    stream.answer_review("d", "max", "confirm")
    clock.now += 10.0 * 86_400.0  # the leases have run out
    stream.claim_review("g", "mia")
    assert stream.compact(clock.now) == 4
    assert {each.prediction_id for each in stream.open_reviews()} == {"b", "c", "g"}
    clock.now += 86_400.0
    assert stream.compact(clock.now) == 1
    assert {each.prediction_id for each in stream.open_reviews()} == {"b", "c"}


def test_many_classes_are_about_the_predicted_one(store, said):
    stream = store.stream("digits", "1", classes=["a", "b", "c"])
    stream.record([said("1", prediction="c"), Outcome(prediction_id="1", outcome="c", observed_at=1.0)])
    stream.record([said("2", prediction="a"), Outcome(prediction_id="2", outcome="c", observed_at=1.0)])
    stream.compact(before=2_000.0)
    assert stream.history()[0].raw.metrics()["brier"] == pytest.approx((0.1**2 + 0.9**2) / 2)
