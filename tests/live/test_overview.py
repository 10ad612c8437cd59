"""How a stream is, in a word and a sentence: by its alarms, and where nobody raises one by what the last week says."""

from __future__ import annotations

import pytest

from live_streams import DAY, fill
from mlflow_caliber.live import Monitor, Reports, advice_of
from mlflow_caliber.live._judge import SHIPPED_IS_OFF
from mlflow_caliber.store import Outcome
from summed_streams import said


def test_a_young_stream_is_not_called_bad(store, stream, clock):
    fill(stream, clock, 50, truth=lambda p: 1.0 - p)
    found = Reports(store, clock).overview(stream)
    assert (found["state"], found["n_labelled"]) == ("waiting", 50)
    assert found["sentence"] == "Too little is known: 50 outcomes, and 100 are needed."


def test_only_who_was_looked_at_is_called_calibrated(store, stream, clock):
    fill(stream, clock, 400)
    reports = Reports(store, clock)
    assert reports.overview(stream)["state"] == "waiting"
    Monitor(store, references=lambda *_: (None, "None.")).turn(now=clock.now)
    found = reports.overview(stream)
    assert found["state"] == "calibrated"
    assert found["sentence"].startswith("What is said fits what happens: the mean gap is")
    assert stream.observation()[1]["window"]["drift_note"] == "None."


def test_a_gap_without_an_alarm_is_not_called_calibrated(store, stream, clock):
    app = store.stream("app", "1")  # of the predicted class: nobody learns it, so nobody raises an alarm
    for week, right in enumerate((270, 120)):
        fill(stream, clock, 300, prefix=week, truth=lambda p, week=week: 1.0 - p if week else p)
        ids = [f"{week}-{k}" for k in range(300)]
        assert app.record([said(each, 0.9, prediction="yes") for each in ids]).recorded == 300
        told = ["yes" if k < right else "no" for k in range(300)]
        app.record([Outcome(prediction_id=i, outcome=y, observed_at=0.0) for i, y in zip(ids, told, strict=True)])
        clock.now += 10 * DAY * (1 - week)
    Monitor(store, references=lambda *_: (None, "None.")).turn(now=clock.now)
    reports = Reports(store, clock)
    found = reports.overview(app)
    assert found["state"] == "investigate"
    assert "does not fit what happens: the mean gap is 50.0%" in found["sentence"]
    assert "over 300 outcomes of the last week" in found["sentence"]
    for alarm in stream.open_alarms():
        stream.resolve_alarm(alarm.kind, alarm.key)
    assert reports.overview(stream)["state"] == "waiting"
    assert reports.overview(stream)["sentence"].startswith("There is no alarm yet, but the mean gap is")


@pytest.mark.parametrize(
    ("kind", "key", "state"),
    [
        ("silence", "outcomes", "silent"),
        ("diagnosis", "recalibrate_and_retrain", "needs_retraining"),
        ("diagnosis", "investigate", "investigate"),
        ("calibration", "served", "investigate"),
        ("harm", "served", "investigate"),
        ("drift", "score:1", "drifting"),
        ("diagnosis", "recalibrate", "recalibrating"),
        ("calibration", "shipped", "recalibrating"),
    ],
)
def test_the_worst_alarm_names_the_state(store, stream, clock, kind, key, state):
    fill(stream, clock, 120)
    stream.raise_alarm("calibration", "shipped", "info", "Less bad.", {})
    stream.raise_alarm(kind, key, "critical", "This is why.", {})
    found = Reports(store, clock).overview(stream)
    assert found["state"] == state
    assert found["sentence"].endswith("This is why.")
    assert (found["advice"], bool(advice_of(state))) == ("", True), "one advice, that of the alarm"


def test_what_corrects_the_shipped_calibrator_is_said_once(store, stream, clock):
    fill(stream, clock, 120)
    found = Reports(store, clock).overview(stream)
    assert found["advice"] == advice_of(found["state"])
    sentence = f"{SHIPPED_IS_OFF}: 90 of them speak against it. Recalibrate."
    stream.raise_alarm("calibration", "shipped", "warning", sentence, {})
    found = Reports(store, clock).overview(stream)
    assert (found["sentence"], found["advice"]) == (
        "The shipped calibrator does not fit the outcomes any more, and nothing corrects it yet: 90 of them speak "
        "against it. Recalibrate.",
        "",
    )


def test_who_says_nothing_for_long_is_silent(store, stream, clock):
    fill(stream, clock, 120)
    clock.now += 2 * DAY
    found = Reports(store, clock).overview(stream)
    assert (found["state"], found["sentence"]) == ("silent", "No prediction for 2 days.")
