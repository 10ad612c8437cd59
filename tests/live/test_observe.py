"""What the monitor sees of a stream, and what it calls wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from live_streams import DAY, REFERENCE, SETTINGS, START, fill, found, hold_lease, learn, look, said
from mlflow_caliber.drift import feature_profile
from mlflow_caliber.live import MonitorSettings, judge, observe
from mlflow_caliber.store import NewRevision, Outcome

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
    assert findings["calibration", "served"].sentence == (
        "What is served does not fit the outcomes: 3000 of them speak against it more surely than 1 in a billion, and "
        "1 in 20 is enough; the latest agree. Find out what has changed in the data or in how outcomes are made, "
        "before the answers are used."
    )
    assert findings["calibration", "served"].evidence["p"] < 1e-9
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
    assert "the furthest is age" in findings["drift", "features"].sentence
    assert "wanted below" in findings["drift", "score:1"].sentence
    half = MonitorSettings(drift_share=0.3)
    assert ("drift", "features") in found(look(stream, clock, reference=reference), half)


def test_why_there_is_no_verdict(stream, clock):
    clock.now += 60.0
    stream.record([said("a", 0.4, clock.now)])
    window = look(stream, clock).window
    assert window.report_note.startswith("There is no report: 0 predictions of the last 7 days have settled outcomes")
    assert window.diagnosis_note.startswith("There is no diagnosis: 0 predictions")
    assert window.drift_note == "Drift is not known: no reference profile was given."
    window = look(stream, clock, reference=REFERENCE).window
    assert window.drift_note == "Drift is not known: the window holds 1 predictions, and 100 are needed."
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


@pytest.mark.parametrize(
    ("ratio", "n_drifted", "severities"),
    [
        (0.99, 1, {}),
        (1.0, 2, {"score:1": "warning", "features": "warning"}),
        (1.49, 2, {"score:1": "warning", "features": "warning"}),
        (1.5, 3, {"score:1": "critical", "features": "critical"}),
    ],
)
def test_drift_far_beyond_what_is_wanted_is_critical(stream, clock, ratio, n_drifted, severities):
    fill(stream, clock, 200)
    seen = look(stream, clock, reference=REFERENCE)
    score = replace(seen.window.drift.columns[0], statistic=0.2 * ratio, threshold=0.2, drifted=ratio >= 1.0)
    features = [replace(score, column=f"f{k}", drifted=k < n_drifted) for k in range(4)]
    drift = replace(seen.window.drift, columns=(score, *features))
    seen = replace(seen, window=replace(seen.window, drift=drift))
    findings = {each.key: each for each in judge(seen, MonitorSettings(drift_share=0.5)) if each.kind == "drift"}
    assert {key: each.severity for key, each in findings.items()} == severities
    for each in findings.values():
        assert each.evidence["score"] >= each.evidence["threshold"]
