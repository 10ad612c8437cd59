"""Who serves, and what the log says of an outcome's place."""

from __future__ import annotations

import pytest

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store import Outcome, open_store


@pytest.fixture
def clocked(uri, clock):
    with open_store(uri, clock=clock) as store:
        yield store.stream("churn", "1", classes=[0, 1])


def test_replicas_are_kept_as_they_last_said_and_forgotten_after_a_day(clocked, clock):
    clocked.report_replica("host:1", "r1", 0, "")
    clocked.report_replica("host:2", "r1", 3, "Revision 2 cannot be used.")
    clock.now += 3_600.0
    clocked.report_replica("host:1", "r2", 1, "")
    one, two = clocked.replicas()
    assert (one.name, one.revision, one.dropped, one.seen_at) == ("host:1", "r2", 1, clock.now)
    assert (two.name, two.trouble) == ("host:2", "Revision 2 cannot be used.")
    clock.now += 86_000.0
    clocked.report_replica("host:1", "r2", 1, "")
    assert [replica.name for replica in clocked.replicas()] == ["host:1"]
    with pytest.raises(InvalidInputError, match="dropped"):
        clocked.report_replica("host:1", "r2", -1, "")


def test_an_outcome_knows_its_prediction_and_the_outcomes_before_it(clocked, said):
    clocked.record_outcomes([Outcome(prediction_id="a", outcome=1, observed_at=1.0)])
    clocked.record([said("a"), said("b"), Outcome(prediction_id="b", outcome=0, observed_at=2.0)])
    clocked.record_outcomes([Outcome(prediction_id=key, outcome=1, observed_at=3.0) for key in "ab"])
    clocked.record_outcomes(
        [Outcome(prediction_id="b", outcome=0, observed_at=4.0), Outcome(prediction_id="c", outcome=0, observed_at=4.0)]
    )
    outcomes = [entry for entry in clocked.log() if isinstance(entry.event, Outcome)]
    assert [(entry.event.prediction_id, entry.known, entry.correction) for entry in outcomes] == [
        ("a", False, False),
        ("b", True, False),
        ("b", True, True),
        ("b", True, True),
        ("c", False, False),
    ]


def test_the_end_of_the_log(clocked, said):
    assert clocked.log_end() == 0
    clocked.record([said("a"), said("b")])
    assert clocked.log_end() == 2
