"""One learner at a time, and what it leaves."""

from __future__ import annotations

import time

import pytest

from mlflow_caliber.exceptions import InvalidInputError, LeaseLostError
from mlflow_caliber.store import NewRevision, open_store


def new(revision="abc", **changed):
    return NewRevision(revision=revision, map={"x": [0.1, 1.0]}, n_learned=5, metrics={"brier": 0.1}, **changed)


@pytest.fixture
def lease(stream, said):
    stream.record_predictions([said(prediction_id) for prediction_id in "abcde"])
    return stream.lease("one", 30)


def test_a_lease_is_for_one(stream, clock):
    assert stream.learner() is None
    lease = stream.lease("one", 30)
    assert (lease.epoch, lease.expires_at) == (1, 1_030.0)
    assert stream.lease("two", 30) is None
    clock.now = 1_020.0
    again = stream.lease("one", 30)
    assert (again.epoch, again.expires_at) == (1, 1_050.0)
    clock.now = 1_049.0
    assert stream.lease("two", 30) is None
    clock.now = 1_050.0
    assert stream.lease("two", 30).epoch == 2
    assert stream.learner().holder == "two"


def test_a_lost_lease_writes_nothing(stream, clock, lease):
    lease.checkpoint(2, b"first")
    clock.now = 2_000.0
    other = stream.lease("two", 30)
    with pytest.raises(LeaseLostError, match=r"lease of 'one' \(epoch 1\) is lost: 'two' has it, in epoch 2"):
        lease.checkpoint(3, b"late", new())
    with pytest.raises(LeaseLostError, match="lost"):
        lease.renew()
    lease.release()  # no harm
    assert stream.learner().holder == "two"
    assert (stream.learner().position, stream.learner().state) == (2, b"first")
    assert stream.revisions() == ()
    other.release()
    with pytest.raises(LeaseLostError, match="nobody has it"):
        other.renew()
    assert stream.lease("one", 30).epoch == 3


def test_a_lease_that_ran_out_holds_until_it_is_taken(stream, clock, lease):
    clock.now = 5_000.0
    lease.checkpoint(1, b"")
    lease.renew()
    assert lease.expires_at == 5_030.0
    assert stream.lease("two", 30) is None


def test_without_a_clock_of_ours_the_databases_own_counts(new_uri):
    with open_store(new_uri("store")) as store:
        stream = store.stream("churn", "1")
        lease = stream.lease("one", 0.3)
        assert abs(lease.expires_at - time.time()) < 30
        assert stream.lease("two", 30) is None
        time.sleep(0.4)
        assert stream.lease("two", 30).epoch == 2


def test_a_checkpoint_keeps_state_and_revision_together(stream, clock, lease):
    clock.now = 1_500.0
    revision = lease.checkpoint(4, b"\0\xff", new(note="first"), state_format="json")
    learner = stream.learner()
    assert (learner.position, learner.state, learner.state_format, learner.updated_at) == (4, b"\0\xff", "json", 1_500)
    assert (revision.number, revision.position, revision.created_at) == (1, 4, 1_500.0)
    assert stream.current() == stream.revision(1) == revision
    assert stream.current_number() == 1
    assert revision.map == {"x": [0.1, 1.0]}


@pytest.mark.parametrize("position", [6, 1])
def test_a_position_lies_in_the_log_and_never_goes_back(stream, lease, position):
    lease.checkpoint(2, b"")
    with pytest.raises(InvalidInputError, match=f"between the last one, 2, and the end of the log, 5, got {position}"):
        lease.checkpoint(position, b"", new())
    assert stream.revisions() == ()


def test_a_bad_revision_leaves_nothing_half_done(stream, lease):
    with pytest.raises(InvalidInputError, match="map must be plain JSON values"):
        lease.checkpoint(3, b"new", NewRevision(revision="abc", map={"x": object()}, n_learned=1))
    assert stream.learner().position == 0
    with pytest.raises(InvalidInputError, match="state must be bytes, got a str"):
        lease.checkpoint(3, "text")


def test_nothing_is_settled_that_was_not_read(stream, lease):
    with pytest.raises(InvalidInputError, match="settled must be at most the position, 3, got 4"):
        lease.checkpoint(3, b"", settled=4)
    with pytest.raises(InvalidInputError, match="settled must be a whole number >= 0, got -1"):
        lease.checkpoint(3, b"", settled=-1)
    assert (stream.learner().position, stream.learner().settled) == (0, None)
    lease.checkpoint(3, b"", settled=3)
    assert stream.learner().settled == 3


def test_numbers_that_no_revision_has(stream):
    for number in (2**31, 10**22, 10**5_000):
        for act in (lambda number: stream.pin(number, "max"), stream.revision):
            with pytest.raises(InvalidInputError, match="has no revision "):
                act(number)


def test_leases_that_cannot_be(stream):
    with pytest.raises(InvalidInputError, match="seconds must be above 0 and at most 86400, got 0"):
        stream.lease("one", 0)
    with pytest.raises(InvalidInputError, match="holder must not be empty"):
        stream.lease("", 30)


def test_pin_unpin_and_undo(uri):
    with open_store(uri, clock=lambda: 1_000.0) as store:
        stream = store.stream("churn", "3")
        lease = stream.lease("one", 30)
        assert stream.current() is None
        assert stream.current_number() is None
        for name in ("r1", "r2", "r3"):
            lease.checkpoint(0, b"", new(name))
        assert stream.undo("mia").revision == "r2"
        lease.checkpoint(0, b"", new("r4"))
        assert stream.current().revision == "r2", "pinned is pinned"
        stream.unpin("mia")
        assert stream.current().revision == "r4"
        stream.pin(1, "max")
        assert stream.undo("max") is None
        assert stream.current() is stream.current_number() is None, "the shipped calibrator"
        with pytest.raises(InvalidInputError, match="nothing to undo: churn/3 serves its shipped calibrator"):
            stream.undo("max")
        with pytest.raises(InvalidInputError, match="churn/3 has no revision 9"):
            stream.pin(9, "max")
        trail = [(entry.actor, entry.action, entry.subject, entry.detail) for entry in store.audit_trail()]
        assert trail[::-1] == [
            ("mia", "undo", "churn/3", {"before": 3, "now": 2}),
            ("mia", "unpin", "churn/3", {"before": 2}),
            ("max", "pin", "churn/3", {"before": 4, "now": 1}),
            ("max", "undo", "churn/3", {"before": 1, "now": 0}),
        ]
        assert [revision.number for revision in stream.revisions()] == [1, 2, 3, 4]


def test_a_lease_that_was_lost_stays_lost_to_the_same_holder(stream, clock):
    first = stream.lease("one", 30.0)
    clock.now += 31.0
    stream.lease("two", 30.0).release()
    again = stream.lease("one", 30.0)
    assert (first.epoch, again.epoch) == (1, 3)
    with pytest.raises(LeaseLostError, match=r"The lease of 'one' .epoch 1. is lost: 'one' has it, in epoch 3"):
        first.checkpoint(0, b"old")
    again.checkpoint(0, b"new")
    assert stream.learner().state == b"new"
