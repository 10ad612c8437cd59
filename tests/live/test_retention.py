"""What the policy keeps, what it deletes, and that nothing is deleted without one."""

from __future__ import annotations

import re
import threading
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from live_streams import DAY, fill
from mlflow_caliber.exceptions import ConfigError, StoreError
from mlflow_caliber.live import Reports, RetentionPolicy, retain, retention_section, run_retention
from mlflow_caliber.live._merge import merge_runs
from mlflow_caliber.store import Store
from summed_streams import said

START = 20_000 * DAY


@pytest.fixture
def filled(store, stream, clock):
    """A hundred days, summed up."""
    clock.now = START
    fill(stream, clock, 200, days=100.0)
    reports = Reports(store, clock)
    reports.report(stream)
    reports.save()
    merge_runs(stream)
    return stream


def levels(stream):
    with stream.rollups() as view:
        return {level: len(list(view.rows(level))) for level in ("hour", "day", "month")}


def test_rows_then_hours_then_days_go_and_reports_stay(store, filled, clock):
    assert levels(filled) == {"hour": 20, "day": 20, "month": 4}
    policy = RetentionPolicy(raw_days=10.0, hourly_days=20.0, daily_days=70.0)
    assert retain([filled], policy, clock.now) == (170, 20)
    assert levels(filled) == {"hour": 5, "day": 15, "month": 4}
    assert filled.counts().predictions == 30
    assert store.faults() == ()
    assert retain([filled], policy, clock.now) == (0, 0)
    for reports in (Reports(store, clock), Reports(store, clock)):
        assert reports.report(filled)["n"] == 200
        assert reports.report(filled, since=START)["n"] == 200
        reports.save()


def test_without_a_policy_nothing_goes(store, filled, clock):
    assert retain([filled], RetentionPolicy(), clock.now + 1e6 * DAY) == (0, 0)
    run_retention(store, RetentionPolicy(), threading.Event())  # ends at once
    assert filled.counts().predictions == 200


def test_a_worker_prunes_until_told_to_stop(store, filled, clock, monkeypatch, caplog):
    stop = threading.Event()
    monkeypatch.setattr(type(stop), "wait", lambda self, seconds: self.is_set() or self.set() or seconds < 3_600.0)
    run_retention(store, RetentionPolicy(raw_days=10.0), stop, clock)
    assert filled.counts().compacted == 170

    def away(self):
        raise StoreError("It is away.")

    monkeypatch.setattr(Store, "streams", away)
    run_retention(store, RetentionPolicy(raw_days=10.0), stop, clock)
    assert "Nothing is pruned for now: It is away." in caplog.text


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"raw_days": 0}, "retention.raw_days must be a number above 0, got 0"),
        ({"hourly_days": 13}, "retention.hourly_days must be a number at least 14, got 13"),
        ({"daily_days": 61}, "retention.daily_days must be a number at least 62, got 61"),
        ({"rawdays": 1}, "Did you mean 'raw_days'"),
    ],
)
def test_policies_that_are_refused(section, sentence):
    with pytest.raises(ConfigError, match=sentence):
        RetentionPolicy.from_dict(section)


def test_the_documented_example_is_a_policy(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs/reference/config.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n(retention:.*?)```", page, re.DOTALL)
    assert RetentionPolicy.from_dict(yaml.safe_load(example)["retention"]).raw_days == 90.0
    for field in fields(RetentionPolicy):
        assert f"| `{field.name}` |" in page
    monkeypatch.chdir(tmp_path)
    assert retention_section() == {}
    (tmp_path / "caliber.yaml").write_text(example)
    assert retention_section() == {"raw_days": 90, "hourly_days": 400, "daily_days": 1500}


def test_what_nobody_has_added_up_is_added_up_before_it_goes(store, clock):
    stream = store.stream("new", "1", classes=[0, 1])
    stream.record([said(f"a{k}", 0.6, segment="eu", abstained=True, reason="low_confidence") for k in range(5)])
    clock.now += 10 * DAY
    assert retain([stream], RetentionPolicy(raw_days=5), clock.now).compacted == 5
    found = Reports(store, clock).report(stream, segment="eu")
    assert (found["n_predictions"], found["n_abstained"]) == (5, 5)
