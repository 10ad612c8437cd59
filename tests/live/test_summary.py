"""What a log adds up to: the same however it is cut, saved and read again."""

from __future__ import annotations

import contextlib
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live_streams import DAY, Clock
from mlflow_caliber.exceptions import StateError
from mlflow_caliber.live import StreamSummary, _summary
from mlflow_caliber.live._segments import segments_of
from mlflow_caliber.live._summary_state import summary_from_parts, summary_to_parts
from mlflow_caliber.live._sums import WindowSums
from mlflow_caliber.store import open_store
from summed_streams import events, happened, labelled_rows, said, sources_of

USUAL = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def summed(stream, *, batch=10_000, restart=False):
    summary = StreamSummary(stream.positive)
    while rows := stream.summary_rows(summary.position, batch):
        summary.advance(rows, stream)
        if restart:
            summary = summary_from_parts(summary_to_parts(summary, whole=True), stream.positive)
    return summary


def recorded(batches, clock=None):
    stream = open_store("sqlite://", clock=clock or Clock()).stream("churn", "1", classes=[0, 1])
    for batch in batches:
        stream.record(batch)
    return stream


def assert_same(one, other):
    assert (one.position, one.at, one.early, one.names) == (other.position, other.at, other.early, other.names)
    assert list(one.days) == list(other.days)
    for mine, theirs in [*zip(one.days.values(), other.days.values(), strict=True), (one.older, other.older)]:
        np.testing.assert_array_equal([mine.n, mine.scorable], [theirs.n, theirs.scorable])
        np.testing.assert_array_equal(mine.cells.place, theirs.cells.place)
        np.testing.assert_array_equal(mine.cells.sums[:2], theirs.cells.sums[:2])
        np.testing.assert_allclose(mine.cells.sums[2], theirs.cells.sums[2], atol=1e-9)
        np.testing.assert_allclose(mine.cells.losses, theirs.cells.losses, atol=1e-9)
    for name in ("hours", "dates", "segments"):
        mine, theirs = getattr(one, name).rows, getattr(other, name).rows
        assert mine.keys() == theirs.keys()
        for key in mine:
            np.testing.assert_allclose(mine[key], theirs[key], atol=1e-9)


@USUAL
@given(events, st.integers(1, 40), st.booleans())
def test_batches_and_restarts_change_nothing(log, batch, restart):
    stream = recorded([log])
    assert_same(summed(stream), summed(stream, batch=batch, restart=restart))


@USUAL
@given(st.lists(events, min_size=1, max_size=3))
def test_it_counts_the_rows_of_the_log(logs):
    stream = recorded(logs)
    summary = summed(stream, batch=7)
    sample = WindowSums(None, "all").sample(summary)
    every = stream.rows()
    rows = labelled_rows(every)
    assert (sample.n_labelled, sample.n_predictions) == (len(rows), len(every))
    assert sample.n_abstained == every["abstained"].sum()
    for source in ("observed", "review", "audit"):
        told = labelled_rows(every, sources_of(stream), source)
        assert WindowSums(None, source).sample(summary).n_labelled == len(told)
    assert summary.position == stream.log_end()


@USUAL
@given(st.lists(events, min_size=2, max_size=4))
def test_sums_that_are_kept_are_those_made_anew(logs):
    stream = recorded([])
    summary, kept = StreamSummary("1"), WindowSums(None, "all")
    for log in logs:
        stream.record(log)
        summary.advance(stream.summary_rows(summary.position, 10_000), stream)
        mine, new = kept.sample(summary), WindowSums(None, "all").sample(summary)
        assert mine.n == new.n
        for kind, rows in mine.rows.items():
            np.testing.assert_array_equal(rows.first, new.rows[kind].first)
            np.testing.assert_allclose(rows.sums, new.rows[kind].sums, atol=1e-9)
            np.testing.assert_allclose(rows.losses, new.rows[kind].losses, atol=1e-9)


def test_entries_that_were_taken_are_passed_over():
    stream = recorded([[said("a", 0.3), happened("a", 1)]])
    summary = summed(stream)
    summary.advance(stream.summary_rows(0, 10), stream)
    assert_same(summary, summed(stream))


def test_what_is_older_than_a_month_is_one_sum_and_labels_still_find_it():
    clock = Clock(0.0)
    stream = recorded([[said("old", 0.25, segment="eu")]], clock)
    clock.now = 40 * DAY
    stream.record([said("new", 0.5, segment="eu"), happened("old", 1), happened("new", 0)])
    clock.now = 41 * DAY
    stream.record([happened("old", 0, source="review")])
    for batch in (1, 100):
        summary = summed(stream, batch=batch)
        assert list(summary.days) == [40]
        assert [(block, sums[0].tolist()) for block, _, sums in summary.older.cells.blocks()] == [
            ((0, 1, kind), [1.0]) for kind in range(3)
        ]
        assert sorted(summary.dates.rows) == [0, 40]
        assert sorted(summary.hours.rows) == [40 * 24]
        assert segments_of(summary, None)["segments"][0]["n"] == 2
        assert segments_of(summary, 40)["segments"][0]["n"] == 1


def test_too_many_early_outcomes_cost_look_ups_and_nothing_else(monkeypatch):
    monkeypatch.setattr(_summary, "MOST_EARLY", 3)
    early = [happened(f"id{k}", k % 2) for k in range(8)]
    stream = recorded([early, [said(f"id{k}", 0.4) for k in range(6)]])
    summary = summed(stream, batch=4)
    assert summary.early_overflowed
    assert WindowSums(None, "all").sample(summary).n_labelled == 6


def test_of_many_segments_the_rest_is_one():
    stream = recorded([[said(f"id{k}", 0.5, segment=f"s{k}") for k in range(60)]])
    found = segments_of(summed(stream), None)["segments"]
    assert len(found) == 51
    assert found[0] == {**found[0], "segment": "(other)", "n_predictions": 10}


def test_without_classes_it_is_about_whether_the_answer_was_right():
    stream = open_store("sqlite://", clock=Clock()).stream("animals", "1")
    answers = [("cat", "cat", 0.9), ("dog", "cat", 0.6), ("dog", "dog", 0.8)]
    for k, (answer, truth, p) in enumerate(answers):
        stream.record([said(f"id{k}", p, prediction=answer)])
        stream.record([happened(f"id{k}", 0).__class__(prediction_id=f"id{k}", outcome=truth, observed_at=0.0)])
    sample = WindowSums(None, "all").sample(summed(stream))
    assert sample.answered_wrong == 1
    assert sample.served.measure(top_label=True).metrics["accuracy"] == pytest.approx(2 / 3)


# --- the parts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def parts():
    stream = recorded([[said("a", 0.3, segment="eu"), happened("a", 1), happened("b", 0)]])
    return summary_to_parts(summed(stream), whole=True)


def test_only_what_has_changed_is_written(parts):
    summary = summary_from_parts(parts, "1")
    assert list(summary_to_parts(summary)) == ["head"]


@pytest.mark.parametrize("name", ["head", "older", "hours", "dates", "segments", "day"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "foreign", "huge"])
def test_a_damaged_part_is_found_out(parts, name, damage):
    name = next(part for part in parts if part.startswith(name))
    content = parts[name]
    if damage == "missing":
        del parts[name]
    else:
        parts[name] = {
            "empty": b"",
            "cut": content[:-5],
            "flipped": content[:30] + bytes([content[30] ^ 0x55]) + content[31:],
            "foreign": b"caliber-summary/9\n" + content[18:],
            "huge": content[:18] + zlib.compress(b"\xff\xff\xff\x7f{}"),
        }[damage]
    with pytest.raises(StateError, match="The summary"):
        summary_from_parts(parts, "1")


def test_a_summary_about_another_class_is_not_taken(parts):
    with pytest.raises(StateError, match="must be about None, and is about '1'"):
        summary_from_parts(parts, None)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_bytes_do_harm(parts, data):
    name = data.draw(st.sampled_from(sorted(parts)))
    inside = bytearray(zlib.decompress(parts[name][18:]))
    for _ in range(data.draw(st.integers(1, 3))):
        inside[data.draw(st.integers(0, len(inside) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StateError):
        summary_from_parts({**parts, name: parts[name][:18] + zlib.compress(bytes(inside))}, "1")


def test_a_label_may_be_taken_back_just_when_its_day_becomes_old():
    clock = Clock()
    clock.now = 20_000 * DAY + 3_600.0
    stream = recorded([[said("a", 0.9), happened("a", 1), said("b", 0.8), happened("b", 1)]], clock)
    summary = summed(stream)
    clock.now += 31 * DAY
    stream.record([happened("a", 0, "audit", at=5.0), said("c", 0.3)])
    summary.advance(stream.summary_rows(summary.position, 100), stream)
    for each in (summary, summary_from_parts(summary_to_parts(summary, whole=True), stream.positive), summed(stream)):
        sample = WindowSums(None, "all").sample(each)
        assert sample.n_labelled == 2
        assert sample.served.measure(only=("brier",)).metrics["brier"] == pytest.approx((0.9**2 + 0.2**2) / 2)


def test_audits_that_agree_are_audits_too():
    """The share of disagreements among the audited must be that of all, whoever told a label first or last."""
    rng = np.random.default_rng(0)
    right = rng.random(500) < 0.9
    ids = [f"id{k}" for k in range(500)]
    log = [said(key, 0.9) for key in ids] + [happened(key, y) for key, y in zip(ids, right, strict=True)]
    log += [
        happened(key, y ^ (k % 50 == 0), "audit", at=1.0) for k, (key, y) in enumerate(zip(ids, right, strict=True))
    ]
    log += [happened(key, y, at=2.0) for key, y in zip(ids[:100], right, strict=False)]
    summary = summed(recorded([log]), batch=77)
    assert WindowSums(None, "audit").sample(summary).n_labelled == 500
    assert WindowSums(None, "observed").sample(summary).n_labelled == 0
    accuracy = WindowSums(None, "audit").sample(summary).served.measure(only=("accuracy",)).metrics["accuracy"]
    expected = right ^ (np.arange(500) % 50 == 0)
    expected[:100] = right[:100]
    assert accuracy == pytest.approx(expected.mean())
