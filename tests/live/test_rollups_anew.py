"""Rollups that are damaged, or of other classes, are made anew from the rows, and rows that may be needed are kept."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from live_streams import DAY, fill
from mlflow_caliber.exceptions import StateError
from mlflow_caliber.live import Reports, _merge, prune_rows
from mlflow_caliber.live._merge import merge_runs
from mlflow_caliber.live._summary import StreamSummary
from mlflow_caliber.store._schema import rollups
from summed_streams import close, happened, record, said, with_damaged_summary

HOUR = 3_600.0
pytestmark = pytest.mark.usefixtures("nothing_is_believed")


def _ruin(store, level):
    with store._database.write() as connection:
        connection.execute(sa.update(rollups).where(rollups.c.level == level).values(content=b"rubbish"))


def _summed_up(store, stream, clock):
    fill(stream, clock, 300, days=2.0)
    reports = Reports(store, clock)
    reports.report(stream)
    reports.save()
    assert merge_runs(stream)
    return reports


@pytest.mark.parametrize("level", ["hour", "month"])
@pytest.mark.parametrize("is_known", [True, False])
def test_damaged_rollups_are_made_anew_from_the_log(store, stream, clock, level, is_known):
    reports = _summed_up(store, stream, clock)
    span = {"since": None if level == "month" else clock.now - DAY}
    before, bounds = reports.report(stream, **span, segment="eu"), reports.report(stream, until=clock.now + HOUR)
    _ruin(store, level)
    if not is_known:
        reports = with_damaged_summary(store, stream, clock)
    assert reports.report(stream, **span, segment="eu")["n_predictions"] == before["n_predictions"]
    assert reports.report(stream, until=clock.now + HOUR)["metrics"] == close(bounds["metrics"])
    reports.save()
    merge_runs(stream)
    assert Reports(store, clock).report(stream, until=clock.now + HOUR)["metrics"] == close(bounds["metrics"])
    assert store.faults() == ()


def test_a_damaged_row_does_not_keep_new_runs_from_being_merged(store, stream, clock, monkeypatch):
    reports = _summed_up(store, stream, clock)
    _ruin(store, "month")
    monkeypatch.setattr(_merge, "_MOST_RUNS", 1)
    for k in range(2):
        record(stream, f"later{k}-", 3)
        reports.report(stream)
        reports.save()
    assert stream.unmerged() == (0, 0)
    assert Reports(store, clock).report(stream, until=clock.now + HOUR)["n_predictions"] == 306


def test_damage_that_only_a_backup_can_mend_is_told(store, stream, clock):
    reports = _summed_up(store, stream, clock)
    clock.now += 3 * DAY
    assert stream.compact(clock.now - 4 * DAY) > 0
    _ruin(store, "month")
    with pytest.raises(StateError, match="rows that they have counted were pruned: only a backup"):
        reports.report(stream, until=clock.now + 60 * DAY)


def test_rows_are_not_pruned_before_rollups_of_named_classes_are_there(store, clock):
    stream = store.stream("named", "and pruned")
    record(stream, "a", 40)
    clock.now += 100 * DAY
    record(stream, "b", 10)
    reports = Reports(store, clock)
    reports.report(stream)
    reports.save()
    assert merge_runs(stream)
    named = store.stream("named", "and pruned", classes=[0, 1])
    assert named.compact(clock.now - DAY) == 0
    reports.turn()
    assert prune_rows(named, clock.now - DAY) == 40
    for each in (reports, Reports(store, clock)):
        assert each.report(named)["n"] == each.report(named, since=1.0)["n"] == 50
    assert store.faults() == ()


def test_damage_is_mended_before_the_rows_that_can_mend_it_go(store, stream, clock):
    _summed_up(store, stream, clock)
    _ruin(store, "month")
    clock.now += 3 * DAY
    assert prune_rows(stream, clock.now - DAY) == 300
    assert Reports(store, clock).report(stream, until=clock.now + 60 * DAY)["n_predictions"] == 300
    assert store.faults() == ()


def test_what_was_pruned_while_rollups_are_made_anew_is_not_forgotten(store, stream, clock):
    reports = _summed_up(store, stream, clock)
    _ruin(store, "month")
    followed = reports._of(stream)
    followed.begin_anew(StateError("damage"))
    followed.advance(stream.log_end(), 20_000)
    clock.now += 3 * DAY
    assert stream.compact(clock.now - 4 * DAY) > 0  # by somebody who saw no damage
    before = stream.rollup_head()
    assert not followed.save_if_due(now=True)
    assert stream.rollup_head() == before
    assert store.faults() == ()
    with pytest.raises(StateError, match="only a backup"):
        reports.report(stream, until=clock.now + 60 * DAY)


def test_others_see_that_rollups_are_being_made_anew(store, stream, clock):
    mending, other = _summed_up(store, stream, clock), Reports(store, clock)
    assert other.report(stream, until=clock.now + HOUR)["n_predictions"] == 300
    followed = mending._of(stream)
    followed.begin_anew(StateError("damage"))
    followed.advance(stream.log_end(), 100)
    assert followed.save_if_due(now=True)
    assert stream.rollup_head().position == 100 < stream.log_end()
    found = other.report(stream, until=clock.now + 2 * HOUR)
    assert (found["n_predictions"], found["as_of"]["behind"]) == (300, 0)


def test_a_reader_whose_rows_go_while_it_adds_up_takes_what_was_saved(store, stream, clock, monkeypatch):
    stream.record([said(f"a{k}", 0.7) for k in range(30)])
    slow, quick = Reports(store, clock), Reports(store, clock)
    slow.report(stream)
    stream.record([happened(f"a{k}", 1) for k in range(30)])
    advance = StreamSummary.advance

    def pruned_meanwhile(summary, rows, of):
        if rows and summary is slow._of(stream).summary:
            monkeypatch.setattr(StreamSummary, "advance", advance)
            quick.report(stream)
            quick.save()
            assert stream.compact(clock.now + 1.0) == 30
        advance(summary, rows, of)

    monkeypatch.setattr(StreamSummary, "advance", pruned_meanwhile)
    assert slow.report(stream)["n"] == quick.report(stream)["n"] == 30
