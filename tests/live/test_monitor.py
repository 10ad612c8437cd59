"""What the monitor sees, what it calls wrong, and what becomes of the alarms."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LogisticRegression

from live_streams import DAY, START, Clock, fill, learn, said
from mlflow_caliber.drift import feature_profile
from mlflow_caliber.exceptions import ConfigError, StoreError
from mlflow_caliber.flavor import log_model
from mlflow_caliber.live import (
    MONITORED_KINDS,
    ModelProfiles,
    Monitor,
    MonitorSettings,
    Reference,
    judge,
    live_section,
    observe,
)
from mlflow_caliber.store import NewRevision, Outcome, open_store

SETTINGS = MonitorSettings()
REFERENCE = feature_profile(pd.DataFrame({"score:1": np.random.default_rng(9).uniform(0.05, 0.95, 3_000)}))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    with open_store(f"sqlite:///{tmp_path}/caliber.db", clock=clock) as store:
        yield store


@pytest.fixture
def stream(store):
    return store.stream("churn", "1", classes=[0, 1])


def look(stream, clock, **given):
    """The observation an hour later, when all outcomes have settled."""
    return observe(stream, settings=SETTINGS, now=clock.now + 3_600.0, **given)


def found(seen, settings=SETTINGS):
    return {(each.kind, each.key): each for each in judge(seen, settings)}


def hold_lease(stream):
    """Somebody learns, and is up to date as far as anybody can tell."""
    return stream.lease("w", DAY)


# --- looking ----------------------------------------------------------------------------------------------------------


def test_a_calibrated_stream_is_fine(store, stream, clock):
    fill(stream, clock, 2_000)
    learn(store)
    hold_lease(stream)
    seen = look(stream, clock, reference=REFERENCE)
    assert found(seen) == {}
    window = seen.window
    assert window.report.raw.metrics["brier"] == pytest.approx(window.report.metrics["brier"])
    assert window.diagnosis.verdict == "none"
    assert window.diagnosis_note == "the older half of the window, for lack of older rows."
    assert window.drift.drifted == ()
    assert (seen.learning.learned, seen.learning.unread, seen.learning.holder) == (2_000, 0, "w")
    assert window.maturity.median_delay == 3_600.0
    assert window.maturity.waiting == 0
    assert sum(group.n for group in window.maturity.ages) == 2_000


def test_a_model_that_went_wrong_is_found_with_what_to_do(store, stream, clock):
    fill(stream, clock, 1_500, days=7.0)
    fill(stream, clock, 1_500, days=6.0, truth=lambda p: p / (p + 3.0 * (1.0 - p)), prefix="b", seed=1)
    learn(store)
    hold_lease(stream)
    seen = look(stream, clock)
    findings = found(seen)
    assert set(findings) == {("calibration", "served"), ("calibration", "shipped"), ("diagnosis", "recalibrate")}
    assert findings["calibration", "served"].severity == "critical"
    assert "wanted below 20" in findings["calibration", "served"].sentence
    assert "Recalibrate" in findings["calibration", "shipped"].sentence
    assert "Compared with the first" in findings["diagnosis", "recalibrate"].sentence
    assert seen.window.diagnosis_note == "the first 5.69 days of the stream."
    learn(store, every_outcomes=1)
    stream.pin(0, "mia")
    assert "Revision 0 is pinned" in found(look(stream, clock))["calibration", "served"].sentence


def test_what_was_mended_is_not_complained_of(store, stream, clock):
    wrong = {"truth": lambda p: p / (p + 3.0 * (1.0 - p))}
    fill(stream, clock, 600, days=2.0, **wrong)
    clock.now += 8 * DAY
    fill(stream, clock, 600, days=2.0, prefix="b", seed=1)
    learn(store)
    hold_lease(stream)
    seen = look(stream, clock)
    assert seen.learning.base.log_e_value > 3.0
    assert not any(kind == "calibration" for kind, _ in found(seen))
    later = observe(stream, settings=SETTINGS, now=clock.now + 20 * DAY)  # nor once the window is empty
    assert not any(kind == "calibration" for kind, _ in found(later))


def test_drifted_scores_and_features(store, stream, clock):
    rng = np.random.default_rng(3)
    reference = feature_profile(
        pd.DataFrame({"age": rng.normal(40, 5, 2_000), "score:1": rng.uniform(0.05, 0.95, 2_000)})
    )
    fill(stream, clock, 500, scores=lambda rng, n: rng.beta(5, 2, n), features={"age": 70.0, "new": "x"})
    findings = found(look(stream, clock, reference=reference))
    assert {key for kind, key in findings if kind == "drift"} == {"score:1", "features"}
    assert "the furthest are age" in findings["drift", "features"].sentence
    assert "wanted below" in findings["drift", "score:1"].sentence
    half = MonitorSettings(drift_share=0.3)
    assert ("drift", "features") in found(look(stream, clock, reference=reference), half)


def test_why_there_is_no_verdict(stream, clock):
    clock.now += 60.0
    stream.record([said("a", 0.4, clock.now)])
    window = look(stream, clock).window
    assert window.report_note.startswith("There is no report: 0 predictions of the last 7 days have settled outcomes")
    assert window.diagnosis_note.startswith("There is no diagnosis: 0 predictions")
    assert window.drift_note == "There is no drift: no reference profile was given."
    window = look(stream, clock, reference=REFERENCE).window
    assert window.drift_note == "There is no drift: the window holds 1 predictions, and 100 are needed."
    assert look(stream, clock, reference_note="It is away.").window.drift_note == "It is away."


def test_a_reference_of_other_columns_or_that_cannot_be_read(stream, clock):
    fill(stream, clock, 200)
    other = feature_profile(pd.DataFrame({"height": np.arange(100.0)}))
    assert "has none of the recorded" in look(stream, clock, reference=other).window.drift_note
    broken = {**REFERENCE, "format_version": 99}
    assert "must have a format version" in look(stream, clock, reference=broken).window.drift_note


def test_one_class_only_is_no_diagnosis(stream, clock):
    fill(stream, clock, 300, truth=lambda p: 0.0 * p)
    window = look(stream, clock).window
    assert window.diagnosis is None
    assert "rows of every class" in window.diagnosis_note
    assert window.report is not None


def test_young_rows_with_outcomes_are_no_sample(stream, clock):
    """Where bad news comes at once and good news in a day, the last day looks worse than it is."""
    rng = np.random.default_rng(0)
    events = []
    for i in range(3_000):
        at = START + i * 100.0
        bad = bool(rng.random() < 0.2)
        delay = 60.0 if bad else DAY
        events.append((at, said(str(i), 0.2, at)))
        events.append((at + delay, Outcome(prediction_id=str(i), outcome=int(bad), observed_at=at + delay)))
    end = START + 3_000 * 100.0
    for hour in np.arange(START, end, 3_600.0) + 3_600.0:
        clock.now = float(hour)
        stream.record([event for at, event in events if hour - 3_600.0 <= at < hour])
    seen = observe(stream, settings=SETTINGS, now=end)
    assert seen.window.maturity.settled_before == pytest.approx(end - DAY)
    assert seen.window.report.metrics["prevalence"] == pytest.approx(0.2, abs=0.02)
    ages = {round(group.days, 2): group.labelled / group.n for group in seen.window.maturity.ages}
    assert ages[0.0] < 0.5 < 0.99 < ages[3.0]


def test_segments_and_several_classes(store, clock):
    stream = store.stream("digits", "1", classes=["a", "b", "c"])
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1.0, 1.0, 1.0], 400)
    for i, row in enumerate(p):
        clock.now += 60.0
        best = int(row.argmax())
        stream.record(
            [
                said(
                    str(i), float(row[best]), clock.now, prediction="abc"[best], probabilities=row.tolist(),
                    segment=["north", "south"][i % 2],
                ),
                Outcome(prediction_id=str(i), outcome="abc"[rng.choice(3, p=row)], observed_at=clock.now),
            ]
        )  # fmt: skip
    seen = look(stream, clock)
    assert seen.window.report.kind == "multiclass"
    assert seen.window.report.raw is None
    assert [segment.value for segment in seen.window.report.segments] == ["north", "south"]
    assert seen.window.diagnosis.verdict == "none"
    assert found(seen) == {}  # nobody learns from such a stream, and nobody should


def test_classes_that_nobody_named(store, clock):
    stream = store.stream("free", "1")
    fill(stream, clock, 200)
    assert "must have two classes" in look(stream, clock).window.report_note


def test_observations_are_json(store, stream, clock):
    fill(stream, clock, 300)
    learn(store, every_outcomes=100)
    seen = look(stream, clock, reference=REFERENCE)
    value = json.loads(json.dumps(seen.to_dict(), allow_nan=False))
    assert value["window"]["maturity"]["waiting"] == 0
    assert value["served"]["number"] == 1
    assert value["window"]["report"]["raw"]["n"] == 300


# --- judging ----------------------------------------------------------------------------------------------------------


def test_silence(stream, clock):
    fill(stream, clock, 200)
    hold_lease(stream)
    last = clock.now
    assert found(observe(stream, settings=SETTINGS, now=last + 0.9 * DAY)) == {}
    findings = found(observe(stream, settings=SETTINGS, now=last + 3.5 * DAY))
    assert {key for kind, key in findings if kind == "silence"} == {"predictions", "outcomes"}
    assert findings["silence", "outcomes"].sentence == (
        "No outcomes for 3.5 days (since the last one), wanted one every 3 days at least. "
        "Investigate what delivers them."
    )


def test_outcomes_that_never_came(stream, clock):
    fill(stream, clock, 50, days=4.0, outcomes=False)
    sentence = found(observe(stream, settings=SETTINGS, now=clock.now))["silence", "outcomes"].sentence
    assert "since the stream began" in sentence


def test_an_empty_stream_is_not_silent(stream, clock):
    assert found(observe(stream, settings=SETTINGS, now=START + 100 * DAY)) == {}


def test_nobody_learns(store, stream, clock):
    fill(stream, clock, 50)
    finding = found(look(stream, clock))["lag", "learner"]
    assert finding.severity == "warning"
    assert finding.sentence.startswith("Nobody has ever learned from this stream")
    learn(store)
    fill(stream, clock, 50, prefix="b", days=0.1)
    finding = found(look(stream, clock))["lag", "learner"]
    assert finding.severity == "critical"
    assert finding.sentence.startswith("100 entries wait to be learned, the oldest for 3.28 hours")
    assert "Start `mlflow-caliber worker`." in finding.sentence
    hold_lease(stream)
    assert ("lag", "learner") not in found(look(stream, clock))


def test_a_worker_that_is_too_slow(stream, clock):
    hold_lease(stream)
    fill(stream, clock, 1_100, days=0.5)
    assert "w falls behind" in found(look(stream, clock))["lag", "learner"].sentence


def test_a_learner_s_state_that_cannot_be_read(stream, clock):
    fill(stream, clock, 100)
    hold_lease(stream).checkpoint(1, b"nonsense")
    findings = found(look(stream, clock))
    assert "cannot be read" in findings["learner", "state"].sentence


def test_serving_processes(stream, clock):
    stream.report_replica("host:1", "aaaa", 0, "")
    clock.now += 3_600.0
    stream.report_replica("host:2", "aaaa", 7, "The spool is full: <b>\nso it is.")
    seen = observe(stream, settings=SETTINGS, now=clock.now)
    findings = found(seen)
    assert set(findings) == {("dropped", "host:2"), ("replica", "host:2")}
    assert "7 predictions" in findings["dropped", "host:2"].sentence
    assert [replica.silent for replica in seen.replicas] == [True, False]
    silent = found(observe(stream, settings=SETTINGS, now=clock.now + 400.0))
    assert "None of 2 serving processes has reported for 6.67 minutes" in silent["silence", "replicas"].sentence


def test_a_process_that_does_not_follow(stream, clock):
    stream.record([said("a", 0.4, clock.now)])
    revision = NewRevision(revision="bbbb", map={}, n_learned=0)
    stream.lease("w", DAY).checkpoint(0, b"", revision)
    stream.report_replica("host:1", "aaaa", 0, "")
    assert ("replica", "host:1") not in found(
        observe(stream, settings=SETTINGS, now=clock.now)
    )  # it may have had no time
    clock.now += 120.0
    stream.report_replica("host:1", "aaaa", 0, "")
    finding = found(observe(stream, settings=SETTINGS, now=clock.now))["replica", "host:1"]
    assert "answers with revision aaaa, wanted bbbb" in finding.sentence
    stream.pin(0, "mia")
    seen = observe(stream, settings=SETTINGS, now=clock.now)
    assert (seen.served.number, seen.served.pinned) == (0, True)
    assert ("replica", "host:1") not in found(seen)


# --- keeping the alarms -----------------------------------------------------------------------------------------------


class Told:
    """A sink that remembers."""

    def __init__(self):
        self.notices = []

    def send(self, notice, now):
        self.notices.append(notice)

    def take(self):
        said = [(notice.event, notice.alarm.kind, notice.alarm.key) for notice in self.notices]
        self.notices.clear()
        return said


def watching(store, sink, **given):
    return Monitor(store, sinks=[sink], references=lambda stream, now: Reference(None), **given)


def test_an_alarm_from_its_beginning_to_its_end(store, stream, clock):
    sink = Told()
    monitor = watching(store, sink)
    stream.report_replica("host:1", "", 0, "The disk is full.")
    now = clock.now + 10.0
    monitor.turn(now)
    assert sink.take() == [("opened", "replica", "host:1")]
    monitor.turn(now + 60.0)
    watching(store, sink).turn(now + 120.0)  # another process, which knows only the store
    assert sink.take() == []
    clock.now += 25 * 3_600.0
    stream.report_replica("host:1", "", 0, "The disk is full.")
    monitor.turn(clock.now)
    assert sink.take() == [("reminder", "replica", "host:1")]
    clock.now += 60.0
    stream.report_replica("host:1", "", 0, "")
    monitor.turn(clock.now)
    assert sink.take() == []  # it may come back
    monitor.turn(clock.now + 290.0)
    assert len(stream.open_alarms()) == 1
    clock.now += 600.0
    stream.report_replica("host:1", "", 0, "")
    monitor.turn(clock.now)
    assert sink.take() == [("resolved", "replica", "host:1")]
    assert stream.open_alarms() == ()
    monitor.turn(clock.now + 1.0)
    assert sink.take() == []


def test_the_worker_s_alarm_is_told_and_left_alone(store, stream, clock):
    sink = Told()
    monitor = watching(store, sink)
    stream.raise_alarm("harm", "served", "critical", "It has cost too much.", {}, now=clock.now)
    assert "harm" not in MONITORED_KINDS
    monitor.turn(clock.now)
    monitor.turn(clock.now + 3_600.0)
    assert sink.take() == [("opened", "harm", "served")]
    stream.resolve_alarm("harm", "served")
    monitor.turn(clock.now + 3_700.0)
    assert sink.take() == [("resolved", "harm", "served")]


def test_without_evidence_nothing_is_resolved(store, stream, clock):
    monitor = watching(store, Told())
    fill(stream, clock, 1_500, days=7.0)
    fill(stream, clock, 1_500, days=6.0, truth=lambda p: p / (p + 3.0 * (1.0 - p)), prefix="b", seed=1)
    learn(store)
    monitor.turn(clock.now + 3_600.0)
    before = {alarm.kind for alarm in stream.open_alarms()}
    assert {"calibration", "diagnosis"} <= before
    monitor.turn(clock.now + 20 * DAY)  # the window is empty now
    assert {"calibration", "diagnosis"} <= {alarm.kind for alarm in stream.open_alarms()}


def test_a_version_that_another_one_replaced_may_be_silent(store, stream, clock):
    sink = Told()
    monitor = watching(store, sink)
    hold_lease(stream)
    stream.record([said("a", 0.4, clock.now)])
    monitor.turn(clock.now + 1.5 * DAY)
    assert sink.take() == [("opened", "silence", "predictions"), ("opened", "lag", "learner")]
    clock.now += 1.5 * DAY
    store.stream("other", "1", classes=[0, 1]).record([said("a", 0.4, clock.now)])
    monitor.turn(clock.now + 700.0)
    assert sink.take() == []
    store.stream("churn", "2", classes=[0, 1]).record([said("a", 0.4, clock.now)])
    monitor.turn(clock.now + 1_400.0)
    assert ("resolved", "silence", "predictions") in sink.take()


def test_processes_that_are_forgotten_have_not_come_back(store, stream, clock):
    sink = Told()
    monitor = watching(store, sink)
    stream.report_replica("host:1", "", 0, "")
    monitor.turn(clock.now + 3_600.0)
    assert sink.take() == [("opened", "silence", "replicas")]
    with store._database.write() as connection:
        connection.exec_driver_sql("DELETE FROM replicas")
    monitor.turn(clock.now + 7_200.0)
    assert [alarm.key for alarm in stream.open_alarms()] == ["replicas"]


def test_a_stream_that_another_worker_learns_is_its_monitor_s(store, stream, clock):
    sink = Told()
    stream.report_replica("host:1", "", 1, "")
    lease = stream.lease("other", 30.0)
    monitor = watching(store, sink, name="me")
    monitor.turn(clock.now + 1.0)
    assert sink.take() == []
    monitor.turn(clock.now + 31.0)  # the other is gone
    assert sink.take() == [("opened", "dropped", "host:1")]
    lease.release()


def test_one_stream_that_fails_does_not_keep_the_others(store, stream, clock, caplog):
    other = store.stream("churn", "2", classes=[0, 1])
    other.report_replica("host:1", "", 1, "")

    def references(stream, now):
        if stream.version == "1":
            raise ZeroDivisionError("secret rows")
        return Reference(None)

    sink = Told()
    Monitor(store, sinks=[sink], references=references).turn(clock.now)
    assert sink.take() == [("opened", "dropped", "host:1")]
    assert "churn/1 was not monitored: ZeroDivisionError." in caplog.text
    assert "secret" not in caplog.text


def test_a_store_that_is_away_stops_nothing(store, caplog, monkeypatch):
    def away():
        raise StoreError("The store is away.")

    monkeypatch.setattr(store, "streams", away)
    Monitor(store).turn(0.0)
    assert "Not monitored: The store is away." in caplog.text


def test_running_ends_when_told_to(store, stream):
    class Stop:
        def __init__(self):
            self.waits = []

        def wait(self, seconds):
            self.waits.append(seconds)
            return len(self.waits) > 2

    stop = Stop()
    watching(store, Told()).run(stop)
    assert len(stop.waits) == 3
    assert stop.waits[0] == 60.0


def test_the_reference_is_what_the_model_was_saved_with(store, clock):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.normal(40.0, 10.0, 600), "income": rng.lognormal(1.0, 0.5, 600)})
    y = (rng.random(600) < 1.0 / (1.0 + np.exp(-0.1 * (X["age"] - 40.0)))).astype(int)
    base = LogisticRegression().fit(X[:300], y[:300])
    info = log_model(base, "model", calibration_data=(X[300:], y[300:]))
    stream = store.stream(info.model_id, "0", classes=[0, 1])
    raw = base.predict_proba(X)[:, 1]
    for k in range(300, 600):
        clock.now += 60.0
        stream.record([said(str(k), float(raw[k]), clock.now, features=X.iloc[k].to_dict())])
    reference, note = ModelProfiles()(stream, clock.now)
    assert note == ""
    drift = look(stream, clock, reference=reference).window.drift
    assert ({column.column for column in drift.columns}, drift.drifted) == ({"age", "income", "score:1"}, ())


def test_a_model_that_is_not_in_the_registry(stream):
    profiles = ModelProfiles()
    note = profiles(stream, 0.0).note
    assert note.startswith("There is no drift: models:/churn/1 could not be loaded (")
    assert profiles(stream, 60.0) is profiles(stream, 0.0)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_and_configuration_have_one_set_of_defaults(tmp_path, monkeypatch):
    assert MonitorSettings() == MonitorSettings.from_dict({})
    monkeypatch.chdir(tmp_path)
    assert live_section() == {}
    (tmp_path / "caliber.yaml").write_text("live: {window_days: 14, alerts: {log: false}}")
    assert MonitorSettings.from_dict(live_section()).window_days == 14.0
    assert live_section()["alerts"] == {"log": False}
    with pytest.raises(ConfigError, match="must be a file"):
        live_section(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"window_days": 0}, "live.window_days must be a number above 0, got 0"),
        ({"windowdays": 1}, "Did you mean 'window_days'"),
        ({"alerts": {"log": "yes"}}, "live.alerts.log must be true or false, got 'yes'"),
        ({"alerts": {"webhook": {"url": "https://a"}}}, "live.alerts.webhook must have the key 'secret_env'"),
        ({"alerts": {"slack": {"url_env": "https://a"}}}, "live.alerts.slack.url_env must match"),
    ],
)
def test_settings_that_are_refused(section, sentence):
    with pytest.raises(ConfigError, match=sentence):
        MonitorSettings.from_dict(section)


def test_the_documented_example_is_a_configuration():
    page = (Path(__file__).parents[2] / "docs/reference/config.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n(live:.*?)```", page, re.DOTALL)
    section = yaml.safe_load(example)["live"]
    assert MonitorSettings.from_dict(section).silence_outcomes_days == 10.0
    for field in fields(MonitorSettings):
        assert f"| `{field.name}` |" in page
    monitor_page = (Path(__file__).parents[2] / "docs/user-guide/monitor.md").read_text(encoding="utf-8")
    for kind in (*MONITORED_KINDS, "harm"):
        assert f"| `{kind}` |" in monitor_page
