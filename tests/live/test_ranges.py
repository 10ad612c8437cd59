"""Reports of any span of time and of segments: the numbers of the rows, whoever was killed and whatever was pruned."""

from __future__ import annotations

import re
import threading
from dataclasses import replace

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from live_streams import DAY, Clock, fill
from mlflow_caliber.exceptions import ConflictError, InvalidInputError, StoreError
from mlflow_caliber.live import Reports, _merge, prune_rows
from mlflow_caliber.live._merge import merge_runs
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.store import HistoryDay, open_store
from summed_streams import (
    close,
    events,
    fair_weights,
    happened,
    labelled_rows,
    record,
    report_of,
    said,
    sources_of,
    with_damaged_summary,
)

HOUR = 3_600.0
START = 20_000 * DAY  # 2024-10-04
pytestmark = pytest.mark.usefixtures("nothing_is_believed")

BACKFILLED = ("2024-09-30", "2024-10-04", "2024-10-05", "2024-11-12", "2024-11-13")
KEYS = ("ece", "brier", "log_loss", "mcb", "aurc", "accuracy", "roc_auc")
_versions = iter(range(10_000_000))
_acts = st.sampled_from(["read", "save", "merge", "kill", "prune", "other", "damage"])
_steps = st.lists(st.tuples(events, st.sampled_from([0.2, 1.0, 30.0, 800.0]), _acts), min_size=1, max_size=5)
_spans = st.tuples(st.sampled_from([None, 0.0, 0.5, 30.0, 700.0]), st.sampled_from([None, 1.0, 31.5, 800.0]))


@pytest.fixture(params=["sqlite", "postgres"])
def any_store(request):
    if request.param == "sqlite":
        uri = "sqlite://"
    else:
        server, name = request.getfixturevalue("postgres"), f"ranges_{next(_versions)}"
        with psycopg.connect(server(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        uri = server(name)
    clock = Clock()
    with open_store(uri, clock=clock) as store:
        yield store, clock


@settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
@given(_steps, _spans, st.sampled_from([None, "a"]), st.sampled_from(["all", "review"]))
def test_the_numbers_are_those_of_the_rows(any_store, steps, span, segment, labels):
    store, clock = any_store
    clock.now = START
    stream = store.stream("churn", str(next(_versions)), classes=[0, 1])
    twin = store.stream("twin", str(next(_versions)), classes=[0, 1])  # of which nothing is ever pruned
    reports, pruned = Reports(store), 0
    for step, (log, hours, act) in enumerate(steps):
        # An id that was pruned would be new again: so every step has its own, and labels for the one before.
        for each in (stream, twin):
            each.record([_renamed(event, step, max(pruned, step - 1)) for event in log])
        clock.now += hours * HOUR
        pruned = step + 1 if act == "prune" else pruned
        reports = _acted(store, stream, reports, act, clock)
    since, until = (None if hours is None else START + hours * HOUR for hours in span)
    if since is not None and until is not None and since >= until:
        until = since + 0.1
    answer = reports.report(stream, labels=labels, since=since, until=until, segment=segment)
    low, high = answer["window"]["since"], answer["window"]["until"]
    rows = twin.rows(low, high)
    rows = rows if segment is None else rows[rows["segment"] == segment]
    known = labelled_rows(rows, sources_of(twin), None if labels == "all" else labels)
    assert (answer["n"], answer["n_predictions"]) == (len(known), len(rows))
    # (Of other examples' streams, the clock that begins anew says that it was wrong.)
    assert not [fault for fault in store.faults() if fault.startswith(f"{stream.subject}:")]
    if len(known):
        served, _ = report_of(stream, known, fair_weights(rows, known) if labels == "all" else None)
        for key in KEYS:
            assert answer["metrics"]["served"].get(key) == pytest.approx(served.metrics.get(key), abs=1e-9), key


def _renamed(event, step, earlier):
    step = earlier if hasattr(event, "outcome") and event.prediction_id.endswith(("1", "4", "7")) else step
    return replace(event, prediction_id=f"{step}-{event.prediction_id}")


def _acted(store, stream, reports, act, clock):
    """What happens between two batches: other readers, saved and merged sums, kills, damage, and pruned rows."""
    if act == "kill":
        return Reports(store)
    if act == "other":
        other = Reports(store)
        other.report(stream)
        other.save()
        return reports
    reports.report(stream)
    if act != "read":
        reports.save()
    if act in ("merge", "prune"):
        merge_runs(stream)
    if act == "prune":
        stream.compact(clock.now - 0.5 * HOUR)
    if act == "damage":
        position, parts = stream.summary()
        stream.save_summary(position, {**parts, "older": b"rubbish"}, whole=True)
        return Reports(store)
    return reports


def test_pruned_rows_stay_in_every_report(store, stream, clock):
    clock.now = START
    fill(stream, clock, 600, days=3.0, segment="eu")
    reports = Reports(store, clock)
    reports.report(stream)
    reports.save()
    spans = [{"since": START + DAY}, {"until": START + DAY}, {"segment": "eu"}, {"segment": "us"}, {"window": "90d"}]
    before = [reports.report(stream, **span) for span in spans]
    timeline, segments = reports.timeline(stream), reports.segments(stream)
    assert stream.compact(clock.now + 1.0) == 600
    assert stream.history() == ()
    assert stream.counts().compacted == 600
    assert store.faults() == ()
    assert before[0]["n"] + before[1]["n"] == 600
    for fresh in (Reports(store, clock), with_damaged_summary(store, stream, clock)):
        for span, told in zip(spans, before, strict=True):
            found = fresh.report(stream, **span)
            assert (found["n"], found["metrics"]) == (told["n"], close(told["metrics"]))
        assert fresh.report(stream)["n"] == fresh.report(stream)["n_predictions"] == 600
        assert fresh.timeline(stream)["points"] == [pytest.approx(point) for point in timeline["points"]]
        assert [each["n"] for each in fresh.segments(stream)["segments"]] == [
            each["n"] for each in segments["segments"]
        ]


def test_where_hours_are_gone_there_are_days_and_then_months(store, stream, clock):
    clock.now = START
    fill(stream, clock, 400, days=100.0)
    reports = Reports(store, clock)
    reports.report(stream)
    reports.save()
    merge_runs(stream)
    whole = reports.report(stream, until=clock.now + 1.0)
    stream.thin_rollups("hour", START + 80 * DAY)
    stream.thin_rollups("day", START + 50 * DAY)
    assert store.faults() == ()
    fresh = Reports(store, clock)
    assert fresh.report(stream, until=clock.now + 1.0)["n"] == whole["n"] == 400
    month = fresh.report(stream, since=START + 10 * DAY + 5.0)
    assert month["window"]["since"] == START - 3 * DAY  # the first of October
    assert month["note"].startswith("The range was widened to whole days or months")
    day = fresh.report(stream, since=START + 70 * DAY + 7 * HOUR)
    assert day["window"]["since"] == START + 70 * DAY
    hour = fresh.report(stream, since=START + 90 * DAY + 7 * HOUR)
    assert (hour["window"]["since"], hour["note"]) == (START + 90 * DAY + 7 * HOUR, "")
    stream.record([happened("a10", 1, "review"), happened("a10", 0, "audit"), said("late", 0.5)])
    fresh.report(stream)
    fresh.save()
    merge_runs(stream)
    assert store.faults() == ()
    assert fresh.report(stream, labels="audit", until=START + 50 * DAY)["n"] == 1


def test_days_that_were_compacted_before_anybody_added_up_are_in_ranges_too(store, stream, clock):
    clock.now = START
    fill(stream, clock, 300, days=3.0)
    stream.compact(START + 2 * DAY)
    n = sum(day.n for day in stream.history())
    assert 0 < n < 300
    reports = Reports(store, clock)
    answer = reports.report(stream, until=START + 30 * DAY)
    assert (answer["n"], answer["note"][:4]) == (300, "Days")
    assert reports.report(stream, until=START - DAY)["n"] == 0
    assert reports.report(stream, segment="eu")["note"].startswith("Days that were compacted before there were rollups")


def test_history_that_comes_later_is_counted_once(store, stream, clock):
    clock.now = START
    fill(stream, clock, 200, days=3.0)
    early = Reports(store, clock)
    assert early.report(stream)["n"] == 200  # and nothing is saved
    stream.compact(clock.now + 1.0)
    early.save()
    for reports in (early, Reports(store, clock)):
        assert reports.report(stream)["n"] == 200
        assert reports.report(stream, since=START - DAY)["n"] == 200


def test_of_two_who_add_up_none_adds_twice(store, stream, clock):
    clock.now = START
    one, other = Reports(store, clock), Reports(store, clock)
    for turn in range(6):
        fill(stream, clock, 40, days=0.1, prefix=f"{turn}-")
        for reports in (one, other) if turn % 2 else (other, one):
            assert reports.report(stream, since=START)["n"] == 40 * (turn + 1)
        (one, other)[turn % 3 % 2].save()
    one.save()
    other.save()
    assert store.faults() == ()
    assert Reports(store, clock).report(stream, since=START)["n"] == 240


def test_many_runs_are_merged(store, stream, clock, monkeypatch):

    monkeypatch.setattr(_merge, "_MOST_RUNS", 3)
    clock.now = START
    reports = Reports(store, clock)
    for turn in range(5):
        stream.record([said(f"id{turn}", 0.5), happened(f"id{turn}", 1)])
        reports.report(stream)
        reports.save()
    assert stream.unmerged() == (2, 2)
    with stream.rollups() as view:
        assert [(row.answered, row.labelled) for row in view.rows("hour")] == [(3, 3)]
    assert reports.report(stream, since=START)["n"] == 5


def test_somebody_elses_merge_is_not_written_over(store, stream, clock):
    clock.now = START
    fill(stream, clock, 40, days=0.1)
    reports = Reports(store, clock)
    reports.report(stream)
    reports.save()
    merges = stream.rollup_head().merges
    assert merge_runs(stream)
    assert not stream.merge_rollups(merges, [], 80)
    assert not merge_runs(stream)
    assert store.faults() == ()


def test_a_range_that_ends_before_it_begins_is_refused(store, stream):
    with pytest.raises(InvalidInputError, match="until must be behind since, got since 7 and until 7"):
        Reports(store).report(stream, since=7.0, until=7.0)
    with pytest.raises(InvalidInputError, match="segment must be the name of a segment, got 3"):
        Reports(store).report(stream, segment=3)
    with pytest.raises(InvalidInputError, match="since must be"):
        Reports(store).report(stream, since=float("nan"))
    assert np.isfinite(Reports(store).report(stream, since=1.0)["window"]["since"])


def test_whoever_was_behind_while_rows_were_pruned_takes_over_what_others_added_up(store, stream, clock):
    slow, other = Reports(store, clock), Reports(store, clock)
    record(stream, "a", 50)
    assert slow.report(stream)["n_predictions"] == 50
    record(stream, "b", 50)
    other.report(stream)
    other.save()
    clock.now += 3 * DAY
    assert stream.compact(clock.now - DAY) == 100
    record(stream, "c", 1)
    assert slow.report(stream)["n_predictions"] == 101
    slow.save()
    assert Reports(store, clock).report(stream)["n_predictions"] == 101
    assert store.faults() == ()


def test_whoever_does_not_know_the_classes_yet_takes_nothing_away(store, clock):
    stale = store.stream("named", "late")
    record(stale, "a", 20)
    named = store.stream("named", "late", classes=[0, 1])
    reports = Reports(store, clock)
    assert reports.report(named)["n_predictions"] == 20
    reports.save()
    clock.now += 3 * DAY
    assert named.compact(clock.now - DAY) == 20
    with pytest.raises(ConflictError, match="The classes of named/late were named meanwhile: look it up again"):
        Reports(store, clock).report(stale, since=1.0)
    assert Reports(store, clock).report(named, since=1.0)["n_predictions"] == 20


def test_classes_are_not_named_after_rows_were_pruned(store, clock):
    stream = store.stream("named", "too late")
    record(stream, "a", 5)
    reports = Reports(store, clock)
    reports.report(stream)
    reports.save()
    clock.now += 3 * DAY
    assert stream.compact(clock.now - DAY) == 5
    with pytest.raises(ConflictError, match="rows were pruned"):
        store.stream("named", "too late", classes=[0, 1])


@pytest.mark.parametrize("segment", ["a\0b", "\ud800"])
def test_a_segment_that_no_database_holds_is_refused(store, stream, segment):
    with pytest.raises(InvalidInputError, match="a text that a database can hold"):
        Reports(store).report(stream, segment=segment)


@pytest.mark.parametrize("thinned", [False, True])
def test_a_backfill_sees_days_that_only_rollups_have(any_store, thinned):
    store, clock = any_store
    clock.now = START + HOUR
    stream = store.stream("backfilled", str(next(_versions)), classes=[0, 1])
    for k, day in enumerate((0.0, 40.0)):
        clock.now = START + HOUR + day * DAY
        stream.record([said(f"id{k}", 0.9, predicted_at=clock.now), happened(f"id{k}", 1)])
    clock.now += 90.0 * DAY
    assert prune_rows(stream, clock.now - 30.0 * DAY) == 2
    if thinned:
        stream.thin_rollups("day", START + 30.0 * DAY)  # October, and not November
    sums = ScoreStatistics.from_rows([1], [0.9])
    load = [HistoryDay(day=day, n=1, unlabelled=0, raw=sums, base=sums, served=sums) for day in BACKFILLED]
    taken = []
    for day in load:
        try:
            stream.add_history([day], source=day.day)
        except ConflictError as error:
            taken.append((day.day, re.search("and (.*) has predictions", str(error))[1]))
    month = "the rollup of its month"
    in_october = [("2024-10-04", month), ("2024-10-05", month)] if thinned else [("2024-10-04", "a rollup")]
    assert taken == [*in_october, ("2024-11-13", "a rollup")]
    assert Reports(store, clock).report(stream)["n"] == 2 + len(load) - len(taken)


def test_the_end_of_all_dates(store, stream, clock):
    record(stream, "a", 3)
    clock.now += 3 * DAY
    assert stream.compact(clock.now - DAY) == 3  # into the history, which goes by dates: nobody had added up
    assert Reports(store, clock).report(stream, until=253_402_300_799.0)["n_predictions"] == 3


def test_pruning_and_saving_at_once_stand_in_no_circle(any_store):
    store, clock = any_store
    clock.now = START
    stream, errors, done = store.stream("circle", str(next(_versions)), classes=[0, 1]), [], threading.Event()
    record(stream, "old", 20)
    reports = Reports(store)
    reports.report(stream)
    reports.save()
    clock.now += 3 * DAY

    def save():
        try:
            for k in range(8):
                record(stream, f"new{k}-", 1)
                reports.report(stream)
                reports.save()
        except StoreError as error:
            errors.append(error)
        done.set()

    saver = threading.Thread(target=save)
    saver.start()
    pruned = 0
    while not done.wait(0.002):
        pruned += stream.compact(START + DAY, batch=1)
    saver.join()
    assert errors == []
    assert pruned == 20
    assert Reports(store).report(stream)["n_predictions"] == 28


def test_names_of_segments_are_saved_with_the_rows_that_are_numbered_by_them(store, stream, clock):
    for name, n in (("zeta", 30), ("alpha", 5)):  # not in the order of the alphabet
        stream.record([said(f"{name}{k}", 0.7, segment=name) for k in range(n)])
    first, other = Reports(store, clock), Reports(store, clock)
    first.report(stream)
    first.save()
    with_damaged_summary(store, stream, clock)
    other.report(stream)
    other.save()
    stream.record([happened("nobody", 1)])
    first.report(stream)
    first.save()
    found = Reports(store, clock).segments(stream)["segments"]
    assert {each["segment"]: each["n_predictions"] for each in found} == {"zeta": 30, "alpha": 5}


@pytest.mark.parametrize("length", [599, 601, 3_000])
def test_segments_with_long_names_are_found_and_merged(any_store, length):
    store, clock = any_store
    clock.now = START
    stream = store.stream("long", str(next(_versions)), classes=[0, 1])
    name = "\u6f22" * (length // 3) + "x" * (length % 3)
    stream.record([said(f"p{k}", 0.7, segment=each) for k, each in enumerate((name, name + "y", "short"))])
    reports = Reports(store)
    reports.report(stream)
    reports.save()
    assert merge_runs(stream)
    for each in (reports, Reports(store)):
        assert each.report(stream, segment=name)["n_predictions"] == 1
        assert len(each.segments(stream)["segments"]) == 3


def test_a_segment_that_is_among_the_others(store, stream):
    stream.record([said(f"p{k}", 0.7, segment=f"s{k:02}") for k in range(52)])
    stream.record([said("q", 0.7, segment="(other)")])
    reports = Reports(store)
    assert "the rest is (other)" in reports.report(stream, segment="s51")["note"]
    assert reports.report(stream, segment="(other)")["n_predictions"] == 3
