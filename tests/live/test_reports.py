"""Reports off sums: the numbers of the rows, whoever was killed in between, and fair to what has no label."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from live_streams import DAY, Clock, fill
from mlflow_caliber.exceptions import InvalidInputError, StoreError
from mlflow_caliber.live import Reports, StreamSummary
from mlflow_caliber.live._followed import Followed
from mlflow_caliber.live._sums import WindowSums
from mlflow_caliber.live._tallies import Changes, Tally, losses_of
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.store import Outcome, ReviewSettings, SaidRow, StreamSettings, ToldRow, open_store
from mlflow_caliber.store._schema import outcomes, predictions, streams
from summed_streams import events, fair_weights, happened, labelled_rows, report_of, said, sources_of

EXACT = ("ece", "brier", "log_loss", "mcb", "dsc", "aurc", "e_aurc", "augrc", "accuracy", "roc_auc")


@pytest.fixture(params=["sqlite", "postgres"])
def any_uri(request, tmp_path):
    if request.param == "sqlite":
        return "sqlite://"
    server = request.getfixturevalue("postgres")
    with psycopg.connect(server(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE reports_" + tmp_path.name.replace("-", "_").lower()[:40])
    return server("reports_" + tmp_path.name.replace("-", "_").lower()[:40])


_versions = iter(range(10_000_000))
_steps = st.lists(st.tuples(events, st.sampled_from(["read", "turn", "save", "kill", "other"])), min_size=1, max_size=4)


@settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
@given(_steps, st.sampled_from(["observed", "review", "audit"]))
def test_the_numbers_are_those_of_the_rows(any_uri, steps, source):
    with open_store(any_uri, clock=Clock()) as store:
        stream = store.stream("churn", str(next(_versions)), classes=[0, 1])
        reports, other = Reports(store), Reports(store)
        for log, act in steps:
            stream.record(log)
            if act == "read":
                reports.report(stream)
            elif act == "turn":
                reports.turn()
            elif act == "other":
                other.report(stream)
                other.save()
            elif act == "save":
                reports.report(stream)
                reports.save()
            else:
                reports = Reports(store)
        every = stream.rows()
        for labels in ("all", source):
            rows = labelled_rows(every, sources_of(stream), None if labels == "all" else labels)
            weight = fair_weights(every, rows) if labels == "all" else None
            assert_is_report_of(reports.report(stream, labels=labels), stream, rows, weight)


def assert_is_report_of(answer, stream, rows, weight):
    assert answer["n"] == len(rows)
    if not len(rows):
        assert answer["metrics"]["shipped"] is None
        return
    served, shipped = report_of(stream, rows, weight)
    for key in EXACT:
        assert answer["metrics"]["served"].get(key) == pytest.approx(served.metrics.get(key), abs=1e-9), key
        if key != "roc_auc":
            assert answer["metrics"]["shipped"].get(key) == pytest.approx(shipped.metrics.get(key), abs=1e-9), key
    bins = answer["reliability"]["served"]
    np.testing.assert_allclose([each["observed"] for each in bins], served.curve.mean_observed, atol=1e-9)
    np.testing.assert_allclose([each["observed_low"] for each in bins], served.curve.interval_low, atol=1e-6)
    low, high = answer["intervals"]["served"]["ece"]
    assert low <= answer["metrics"]["served"]["ece"] <= high


# --- fairness ---------------------------------------------------------------------------------------------------------


class Known:
    """A log of these predictions, whose outcomes come once each."""

    def __init__(self, rows):
        self._rows = rows

    def said(self, ids):
        return {each: self._rows[each] for each in ids}

    def told(self, ids):
        return {}


def withheld_are_reviewed(seed, *, n=8_000, audit=0.15):
    """Answers below .75 are withheld and reviewed, some of the others audited; then all other outcomes come too."""
    rng = np.random.default_rng(seed)
    p = np.round(rng.uniform(0.0, 1.0, n), 3)
    y = rng.random(n) < np.clip(p + 0.4 * (p - 0.5), 0.0, 1.0)
    held = np.maximum(p, 1.0 - p) < 0.75
    drawn = held | (rng.random(n) < audit)
    rows = [
        SaidRow(k + 1, 0.0, f"id{k}", x, x, x, str(int(x > 0.5)), bool(held[k]), "", None)
        for k, x in enumerate(p.tolist())
    ]
    order = np.argsort(~drawn, kind="stable").tolist()
    told = [
        ToldRow(n + 1 + i, 0.0, f"id{k}", str(int(y[k])), "review" if held[k] else "audit", True, False)
        for i, k in enumerate(order)
    ]
    summary, lookup = StreamSummary("1"), Known({row.prediction_id: row for row in rows})
    summary.advance([*rows, *told[: drawn.sum()]], lookup)
    partly = WindowSums(None, "all").sample(summary)
    summary.advance(told[drawn.sum() :], lookup)
    return partly, WindowSums(None, "all").sample(summary)


def test_reviews_and_audits_alone_give_an_unbiased_picture():
    keys, fair, naive = ("accuracy", "log_loss", "brier", "ece"), [], []
    for seed in range(15):
        partly, complete = withheld_are_reviewed(seed)
        assert complete.weights == (1.0, 1.0)
        truth = complete.served.measure(only=keys).metrics
        for found, sample in ((fair, partly), (naive, replace(partly, weights=(1.0, 1.0)))):
            metrics = sample.served.measure(only=keys).metrics
            found.append([metrics[key] - truth[key] for key in keys])
    fair, naive = np.array(fair), np.array(naive)
    assert np.all(np.abs(fair.mean(axis=0)) < 3.0 * fair.std(axis=0, ddof=1) / np.sqrt(len(fair)))
    assert np.all(np.abs(naive.mean(axis=0)) > 5.0 * naive.std(axis=0, ddof=1) / np.sqrt(len(naive)))


def test_it_says_of_whom_it_knows_nothing(stream):
    stream.record([said("a", 0.9), said("b", 0.6, abstained=True), happened("b", 1, "review")])
    reports = Reports(stream_store(stream))
    answer = reports.report(stream)
    assert answer["note"] == (
        "None of the 1 answered predictions has an outcome: the numbers speak for the others alone."
    )
    assert answer["not_computed"]["selective_risk"].startswith("selective_risk needs an answered prediction")
    assert answer["metrics"]["served"]["abstain_rate"] == 0.5


def stream_store(stream):
    """A store on the stream's database."""
    from mlflow_caliber.store import Store

    return Store(stream._database)


def test_a_share_of_audits_that_changed_is_told(store, stream, clock):
    def audited(share):
        stream.change_settings(StreamSettings(review=ReviewSettings(audit_share=share)), "mia")
        clock.now += 3_600.0

    audited(0.02)
    fill(stream, clock, 200, outcomes=False)
    stream.record([happened("a1", 1, "audit")])
    reports = Reports(store, clock)
    assert reports.report(stream)["note"] == ""  # it was set before there was anything
    audited(0.5)
    changed = clock.now - 3_600.0
    fill(stream, clock, 200, prefix="b", outcomes=False)
    stream.record([happened("b1", 1, "audit")])
    assert "was changed at 2023-11-18 23:13 UTC" in reports.report(stream)["note"]
    assert "was changed" in reports.report(stream, detail="full")["note"]
    assert "was changed" in reports.report(stream, until=clock.now + DAY)["note"]
    for how in ({"labels": "audit"}, {"since": changed + 3_600.0}):
        assert reports.report(stream, **how)["n"]
        assert "was changed" not in reports.report(stream, **how)["note"]
    stream.change_settings(StreamSettings(stage="production", review=ReviewSettings(audit_share=0.5)), "mia")
    assert stream.audit_share_changed_at() == changed


# --- restarts ---------------------------------------------------------------------------------------------------------


def test_a_restart_replays_nothing(store, stream, clock, monkeypatch):
    fill(stream, clock, 300)
    first = Reports(store)
    expected = first.report(stream)
    first.save()
    asked = []
    real = type(stream).summary_rows
    monkeypatch.setattr(type(stream), "summary_rows", lambda self, *a: asked.append(a) or real(self, *a))
    assert Reports(store).report(stream) == expected
    stream.record([said("new", 0.5)])
    assert Reports(store).report(stream)["n_predictions"] == 301
    assert [after for after, _ in asked] == [600]


@pytest.mark.parametrize("part", ["head", "older", "days"])
def test_a_broken_summary_is_made_anew(store, stream, clock, caplog, part):
    fill(stream, clock, 50)
    reports = Reports(store)
    expected = reports.report(stream)
    reports.save()
    position, parts = stream.summary()
    names = [name for name in parts if name.startswith("day:")] if part == "days" else [part]
    stream.save_summary(position, {**parts, **dict.fromkeys(names, b"rubbish")}, whole=True)
    again = Reports(store)
    with caplog.at_level(logging.WARNING):
        assert again.report(stream) == expected
    assert "is made anew from the log" in caplog.text
    again.save()
    caplog.clear()
    assert Reports(store).report(stream) == expected
    assert not caplog.records


def test_of_two_processes_the_slower_one_takes_over_what_the_other_did(store, stream, clock, monkeypatch):
    from mlflow_caliber.live import _followed

    monkeypatch.setattr(_followed, "MOST_AT_ONCE", 40)
    slow, fast = Reports(store), Reports(store)
    slow.report(stream)
    fill(stream, clock, 200)
    while fast.turn():
        pass
    fast.save()
    answer = slow.report(stream)
    assert answer["as_of"] == {"seq": 400, "at": clock.now, "behind": 0}
    assert answer == fast.report(stream)


def test_a_long_tail_is_taken_in_turns_and_says_so(store, stream, clock, monkeypatch):
    from mlflow_caliber.live import _followed

    monkeypatch.setattr(_followed, "MOST_AT_ONCE", 100)
    fill(stream, clock, 200)
    reports = Reports(store)
    assert [reports.report(stream)["as_of"]["behind"] for _ in range(5)] == [300, 200, 100, 0, 0]


def test_classes_that_are_named_later_begin_it_anew(store):
    stream = store.stream("late", "1")
    stream.record([said("a", 0.9, prediction="1"), Outcome(prediction_id="a", outcome="0", observed_at=0.0)])
    reports = Reports(store)
    assert reports.report(stream)["kind"] == "top_label"
    reports.save()
    named = store.stream("late", "1", classes=["0", "1"])
    assert reports.report(named)["kind"] == Reports(store).report(named)["kind"] == "binary"


def test_compacted_days_stay_in_it_and_come_back_after_a_loss(store, stream, clock):
    fill(stream, clock, 300)
    reports = Reports(store)
    expected = reports.report(stream)["metrics"]["served"]
    stream.compact(before=clock.now + 1)
    assert reports.report(stream)["n"] == 300
    anew = Reports(store).report(stream)
    assert anew["n"] == anew["n_predictions"] == 300
    for key in ("brier", "log_loss", "accuracy"):
        assert anew["metrics"]["served"][key] == pytest.approx(expected[key], abs=1e-9)
    assert anew["metrics"]["served"]["ece"] == pytest.approx(expected["ece"], abs=0.01)


def test_many_threads_and_a_follower_get_along(store, stream, clock):
    reports, stop, found = Reports(store), threading.Event(), []
    follower = threading.Thread(target=reports.run, args=(stop, 0.01))
    follower.start()
    readers = [
        threading.Thread(target=lambda: found.extend(reports.report(stream)["n"] for _ in range(5))) for _ in range(4)
    ]
    for reader in readers:
        reader.start()
    fill(stream, clock, 200)
    for reader in readers:
        reader.join()
    stop.set()
    follower.join(10)
    assert len(found) == 20
    assert reports.report(stream)["n"] == 200
    reports.save()
    assert stream.summary_position() == 400


def test_an_end_of_the_log_that_was_looked_up_too_early_does_no_harm(store, stream, clock, caplog):
    fill(stream, clock, 50)
    followed = Followed.of(stream)
    while followed.follow(stream.log_end()):
        pass
    summary = followed.summary
    for take in (followed.follow, lambda end: followed.advance(end, 10)):
        assert take(60) == 0
    assert followed.summary is summary
    assert (summary.position, followed.behind, followed.is_broken) == (100, 0, False)


def test_a_log_that_is_shorter_than_its_summary_begins_it_anew(store, stream, clock, monkeypatch):
    fill(stream, clock, 50)
    reports = Reports(store)
    assert reports.report(stream)["n"] == 50
    with store.stream("churn", "1")._database.write() as connection:
        for table in (predictions, outcomes):
            connection.execute(table.delete().where(table.c.seq > 60))
        connection.execute(streams.update().values(next_seq=61))
    assert reports.report(stream)["n_predictions"] == (stream.rows()["prediction_id"].size)
    assert reports.report(stream)["as_of"]["seq"] == 60


def test_two_callers_do_not_wait_for_each_others_numbers(store, stream, clock, monkeypatch):
    from mlflow_caliber.live import _reports

    fill(stream, clock, 50)
    reports, both = Reports(store), threading.Barrier(2, timeout=10)
    real = _reports.content_of
    monkeypatch.setattr(_reports, "content_of", lambda *a, **k: (both.wait(), real(*a, **k))[1])
    found = []
    callers = [
        threading.Thread(target=lambda w=window: found.append(reports.report(stream, w)["n"]))
        for window in ("30d", "all")
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    assert len(found) == 2


def test_who_waits_to_save_keeps_nobody_from_reading(store, stream, clock, monkeypatch):
    fill(stream, clock, 50)
    reports, in_save, go_on = Reports(store), threading.Event(), threading.Event()
    reports.report(stream)
    real = type(stream).save_summary

    def slow(self, *given, **options):
        in_save.set()
        assert go_on.wait(10)
        return real(self, *given, **options)

    monkeypatch.setattr(type(stream), "save_summary", slow)
    saver = threading.Thread(target=reports.save)
    saver.start()
    assert in_save.wait(10)
    assert reports.report(stream)["n"] == 50
    go_on.set()
    saver.join(10)
    assert stream.summary_position() == 100


def test_what_could_not_be_saved_is_saved_the_next_time(store, stream, clock, monkeypatch, caplog):
    fill(stream, clock, 50)
    reports = Reports(store)
    expected = reports.report(stream)

    def fails(*_, **__):
        raise StoreError("It is away.")

    with monkeypatch.context() as patch:
        patch.setattr(type(stream), "save_summary", fails)
        reports.save()
    assert "was not saved: It is away." in caplog.text
    reports.save()
    assert Reports(store).report(stream) == expected


def test_groups_of_cells_give_the_numbers_of_the_rows(store):
    rng = np.random.default_rng(4)
    p = rng.beta(1.2, 2.0, 20_000)
    y = (rng.random(p.size) < p**1.1).astype(float)
    zero, scores = np.zeros(p.size, dtype=np.int64), np.stack([p] * 3)
    cell = ScoreStatistics.cell_of(scores.ravel()).reshape(scores.shape)
    rows = Changes(zero, zero, zero, zero, zero, y, np.ones(p.size), scores, cell, losses_of(scores, y), zero)
    summary = StreamSummary("1")
    summary.days[0] = Tally(np.array([p.size, 0]), np.array([p.size, 0]))
    summary.days[0].add(rows)
    sample = WindowSums(None, "all").sample(summary, (0.8,))
    assert 1_900 < sample.rows["served"].first.size < 2_010
    found = sample.served.measure(threshold=0.8).metrics
    exact = ScoreStatistics.from_rows(y, p, exact_up_to=p.size).measure(threshold=0.8).metrics
    for key in ("ece", "brier", "log_loss", "accuracy"):
        assert found[key] == pytest.approx(exact[key], abs=1e-12)
    for key in ("mcb", "dsc", "aurc", "augrc", "roc_auc", "ece_upper"):
        assert found[key] == pytest.approx(exact[key], abs=1e-4)
    for key in ("coverage", "selective_risk"):  # .8 is an edge of the grid
        assert found[key] == pytest.approx(exact[key], abs=1e-12)


def test_few_summaries_are_kept_in_memory(store):
    reports = Reports(store, max_streams=2)
    for version in "123":
        reports.report(store.stream("churn", version, classes=[0, 1]))
    assert len(reports._followed) == 2


# --- windows, time and segments ---------------------------------------------------------------------------------------


def test_windows_begin_at_midnight(store, stream, clock):
    clock.now = 20_000 * DAY + 10.0
    for days in (0, 1, 6, 40):
        clock.now += days * DAY
        stream.record([said(f"id{days}", 0.5), happened(f"id{days}", 1)])
    reports = Reports(store, clock)
    told = {window: reports.report(stream, window) for window in ("1d", "7d", "30d", "all")}
    assert {window: answer["n"] for window, answer in told.items()} == {"1d": 1, "7d": 1, "30d": 1, "all": 4}
    assert told["7d"]["window"] == {"name": "7d", "since": (20_047 - 7) * DAY, "until": None}


def test_the_timeline_marks_what_happened(store, stream, clock):
    fill(stream, clock, 200, days=4.0)
    alarm = stream.raise_alarm("drift", "age", "warning", "Drifted.", {}, now=clock.now)
    found = Reports(store).timeline(stream, "day", last=3)
    assert [point["at"] % DAY for point in found["points"]] == [0.0] * 3
    assert [each["opened_at"] for each in found["alarms"]] == [alarm.opened_at]
    hours = Reports(store).timeline(stream, "hour", last=400)["points"]
    assert sum(point["n"] for point in hours) == 200
    assert all(0.0 <= point["ece"] <= 1.0 for point in hours)


@pytest.mark.parametrize(
    ("options", "why"),
    [({"window": "2d"}, "window must be"), ({"labels": "x"}, "labels must be"), ({"detail": "x"}, "detail must be")],
)
def test_options_are_checked(store, stream, options, why):
    with pytest.raises(InvalidInputError, match=why):
        Reports(store).report(stream, **options)


def test_a_full_report_has_all_intervals_and_is_kept_a_while(store, stream, clock):
    fill(stream, clock, 300)
    reports = Reports(store)
    full = reports.report(stream, detail="full")
    assert {"ece", "brier", "log_loss", "aurc", "roc_auc"} <= full["intervals"]["served"].keys()
    assert 0 < len(full["corp"]["served"]) <= 100
    stream.record([said("new", 0.5), happened("new", 1)])
    assert reports.report(stream, detail="full")["as_of"]["seq"] == full["as_of"]["seq"] == 600
    assert reports.report(stream)["as_of"]["seq"] == 602
