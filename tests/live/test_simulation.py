"""The simulated model: repeatable, in order, and wrong in exactly the way that was asked for."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.live.simulation import CLASSES, DRIFTS, Simulation, simulate, simulated_messages
from mlflow_caliber.metrics import expected_calibration_error
from mlflow_caliber.store import Outcome, Prediction, open_store

ROWS = 6_000


def event_time(event):
    return event.predicted_at if isinstance(event, Prediction) else event.observed_at


def labelled(drift, seed=0, rows=ROWS):
    """After the drift is complete: raw and shipped probabilities, outcomes, features."""
    simulation = Simulation(drift=drift, labels=1.0, delay=0.0, seed=seed, drift_after=0, ramp=0)
    events = list(islice(simulate(simulation), 2 * rows))
    said = [event for event in events if isinstance(event, Prediction)]
    happened = {event.prediction_id: event.outcome == CLASSES[1] for event in events if isinstance(event, Outcome)}
    said = [each for each in said if each.prediction_id in happened]
    y = np.array([happened[each.prediction_id] for each in said], dtype=int)
    raw, base = (np.array([getattr(each, key) for each in said]) for key in ("raw_probability", "base_probability"))
    return raw, base, y, [each.features for each in said]


@pytest.mark.parametrize("drift", DRIFTS)
def test_the_same_seed_gives_the_same_events(drift):
    def first(seed, start=0.0):
        return list(islice(simulate(Simulation(drift=drift, seed=seed, start=start, drift_after=50)), 400))

    assert first(1) == first(1)
    assert first(1) != first(2)
    assert {event.prediction_id for event in first(1)}.isdisjoint(event.prediction_id for event in first(1, start=9.0))


def test_events_come_in_the_order_of_their_times_at_the_wanted_pace():
    events = list(islice(simulate(Simulation(rate=5.0, labels=0.5, delay=3.0, start=1_000.0)), 6_000))
    times = [event_time(event) for event in events]
    assert times == sorted(times)
    said = {event.prediction_id: event for event in events if isinstance(event, Prediction)}
    waits = [
        event.observed_at - said[event.prediction_id].predicted_at
        for event in events
        if event.prediction_id in said and isinstance(event, Outcome)
    ]
    assert len(said) / (times[-1] - 1_000.0) == pytest.approx(5.0, rel=0.05)
    assert len(waits) / len(said) == pytest.approx(0.5, abs=0.03)
    assert np.mean(waits) == pytest.approx(3.0, rel=0.1)


def test_other_shares_of_labels_leave_the_predictions_as_they_are():
    some, all_ = (
        [e for e in islice(simulate(Simulation(labels=share)), 300) if isinstance(e, Prediction)]
        for share in (0.0, 1.0)
    )
    assert some[: len(all_)] == all_


def test_without_drift_the_shipped_calibrator_is_right_and_the_model_is_not():
    raw, base, y, _ = labelled("none")
    assert expected_calibration_error(y, base) < 0.02
    assert expected_calibration_error(y, raw) > 0.04


@pytest.mark.parametrize(("drift", "least"), [("calibration", 0.1), ("sudden", 0.12), ("prior", 0.1)])
def test_what_drifts_costs_calibration(drift, least):
    _, base, y, _ = labelled(drift)
    assert expected_calibration_error(y, base) > least


def test_covariate_drift_moves_the_people_and_leaves_the_model_right():
    _, _, _, before = labelled("none")
    _, base, y, after = labelled("covariate")
    assert expected_calibration_error(y, base) < 0.02
    ages = [np.mean([each["age"] for each in people]) for people in (before, after)]
    assert ages[1] - ages[0] == pytest.approx(18.0, abs=1.0)
    incomes = [np.mean([each["income"] for each in people]) for people in (before, after)]
    assert incomes[1] == pytest.approx(incomes[0], abs=1.0)


def test_prior_drift_makes_one_class_usual_and_leaves_its_looks():
    _, _, y0, before = labelled("none")
    _, _, y1, after = labelled("prior")
    odds = [y.mean() / (1.0 - y.mean()) for y in (y0, y1)]
    assert odds[1] / odds[0] == pytest.approx(1.0 / 0.3, rel=0.15)
    looks = [
        np.mean([each["age"] for each, left in zip(people, y, strict=True) if left])
        for people, y in ((before, y0), (after, y1))
    ]
    assert looks[1] == pytest.approx(looks[0], abs=1.0)


def test_a_drift_begins_and_grows():
    slow = Simulation(drift="calibration", drift_after=10, ramp=20)
    assert [slow.extent(number) for number in (0, 9, 10, 20, 30, 99)] == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
    sudden = Simulation(drift="sudden", drift_after=10, ramp=20)
    assert [sudden.extent(number) for number in (9, 10)] == [0.0, 1.0]
    assert Simulation(drift="none").extent(10_000) == 0.0


def test_the_store_takes_every_event():
    with open_store("sqlite://") as store:
        stream = store.stream("churn", "1", classes=CLASSES)
        receipt = stream.record(list(islice(simulate(Simulation(labels=1.0)), 500)))
        assert (receipt.recorded, receipt.refused) == (500, ())


def test_messages_say_what_they_are_and_no_more():
    messages = list(islice(simulated_messages(Simulation(labels=1.0, delay=0.0)), 2))
    assert [message["kind"] for message in messages] == ["prediction", "outcome"]
    assert "abstained" not in messages[0]
    assert "probabilities" not in messages[0]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"drift": "much"}, "drift must be one of none, calibration"),
        ({"rate": 0.0}, "rate must be above 0 predictions a second"),
        ({"labels": 1.5}, "labels must be"),
        ({"delay": -1.0}, "delay must be a finite number of at least 0"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_what_cannot_be_simulated(wrong, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        Simulation(**wrong)
