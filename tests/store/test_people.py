"""Reviews and alarms: what people must see and decide."""

from __future__ import annotations

import pytest

from mlflow_caliber.exceptions import ConflictError, InvalidInputError, NotFoundError


@pytest.fixture
def waiting(stream, clock, said):
    for prediction_id in ("b", "a"):
        clock.now += 1.0
        stream.record_predictions([said(prediction_id, abstained=True, reason="low confidence"), said("sure")])
    return stream


def test_what_abstains_waits_for_a_person(waiting, said):
    waiting.record_predictions([said("b", abstained=True, reason="low confidence")])
    assert [(r.prediction_id, r.status, r.reason) for r in waiting.open_reviews()] == [
        ("b", "open", "low confidence"),
        ("a", "open", "low confidence"),
    ]
    assert len(waiting.open_reviews(limit=1)) == 1


def test_a_claim_is_for_one(waiting, clock):
    review = waiting.claim_review("a", "mia")
    assert (review.status, review.claimed_by, review.claimed_at) == ("claimed", "mia", clock.now)
    assert waiting.claim_review("a", "mia").status == "claimed"
    with pytest.raises(ConflictError, match=r"^The review of 'a' is claimed by 'mia'\.$"):
        waiting.claim_review("a", "max")
    with pytest.raises(ConflictError, match=r"^The review of 'a' is claimed by 'mia'\.$"):
        waiting.decide_review("a", 1, "max")


def test_a_decision_is_an_outcome(waiting, clock):
    clock.now = 2_000.0
    review = waiting.decide_review("a", False, "mia", "looked at the letter")
    assert (review.status, review.outcome, review.reviewer, review.note) == ("done", "0", "mia", "looked at the letter")
    entry = waiting.log()[-1]
    assert (entry.event.prediction_id, entry.event.outcome, entry.event.source) == ("a", "0", "review")
    assert [review.prediction_id for review in waiting.open_reviews()] == ["b"]
    with pytest.raises(ConflictError, match="review of 'a' is done, by 'mia'"):
        waiting.claim_review("a", "max")
    clock.now = 2_001.0
    with pytest.raises(ConflictError, match="review of 'a' is done, by 'mia'"):
        waiting.decide_review("a", 1, "max")
    assert waiting.decide_review("a", 1, "max", correction=True).reviewer == "max"
    assert waiting.counts().corrections == 1


def test_a_decision_that_cannot_be_leaves_nothing(waiting):
    with pytest.raises(InvalidInputError, match="outcome must be one of the classes '0', '1', got 'x'"):
        waiting.decide_review("a", "x", "mia")
    with pytest.raises(NotFoundError, match="has no review of 'sure'"):
        waiting.decide_review("sure", 1, "mia")
    with pytest.raises(InvalidInputError, match="note must be text, got None"):
        waiting.decide_review("a", 1, "mia", None)
    assert waiting.counts().outcomes == 0
    assert len(waiting.open_reviews()) == 2


def test_one_alarm_while_it_lasts(stream, clock):
    first = stream.raise_alarm("calibration", "all", "warning", "ECE is 0.09.", {"ece": 0.09})
    clock.now = 1_100.0
    again = stream.raise_alarm("calibration", "all", "critical", "ECE is 0.12.", {"ece": 0.12})
    other = stream.raise_alarm("calibration", "segment=eu", "info", "Few rows.", {})
    assert stream.open_alarms() == (again, other)
    assert (again.id, again.opened_at, again.last_seen_at) == (first.id, 1_000.0, 1_100.0)
    assert (again.severity, again.evidence) == ("critical", {"ece": 0.12})
    stream.mark_notified(first.id, now=1_200.0)
    assert stream.open_alarms()[0].notified_at == 1_200.0
    assert stream.resolve_alarm("calibration", "all")
    assert not stream.resolve_alarm("calibration", "all")
    assert stream.open_alarms() == (other,)
    assert stream.raise_alarm("calibration", "all", "warning", "Again.", {}).id not in {first.id, other.id}


def test_alarms_that_cannot_be(stream):
    with pytest.raises(InvalidInputError, match="severity must be one of info, warning, critical, got 'warn'"):
        stream.raise_alarm("calibration", "all", "warn", "x", {})
    with pytest.raises(InvalidInputError, match="has no alarm -1"):
        stream.mark_notified(-1)
    with pytest.raises(InvalidInputError, match="now must be seconds since 1970"):
        stream.resolve_alarm("calibration", "all", now=-1.0)
