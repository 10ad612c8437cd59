"""Performance before labels come: what is promised, and the verdict on the promise."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from mlflow_caliber.drift import PerformanceEstimate, estimate_performance
from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.metrics import (
    Outcomes,
    calibration_score_test,
    expected_f1,
    expected_performance,
    expected_roc_auc,
)


def draw(n=1000, seed=0, mean=0.0, spread=1.35):
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(mean, spread, n))
    return rng.random(n) < p, p


LABELLED = draw()
LIVE = draw(5000, seed=1, mean=0.4, spread=0.9)


def test_the_numbers_are_the_expected_ones():
    y, p = LIVE
    w = np.random.default_rng(0).uniform(0.5, 2, p.size)
    options = {"threshold": 0.3, "sample_weight": w, "confidence": 0.9, "y_score": p**2}
    found = estimate_performance(p, **options)
    assert vars(expected_performance(p, **options)).items() <= vars(found).items()
    assert found.n == 5000
    assert found.roc_auc == expected_roc_auc(p, sample_weight=w)
    assert estimate_performance(p).f1 == expected_f1(p)
    raw = p**2
    assert estimate_performance(p.round(1), y_score=raw).roc_auc == expected_roc_auc(p.round(1), y_score=raw)
    assert abs(estimate_performance(p).accuracy - np.mean((p > 0.5) == y)) < 0.02


def test_more_than_two_classes():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1.0, 1.0, 2.0], 600)
    y = (rng.random((600, 1)) > proba.cumsum(axis=1)).sum(axis=1)
    found = estimate_performance(proba, reference=(y, proba))
    assert found.validity == "valid"
    assert found.accuracy == pytest.approx(proba.max(axis=1).mean())
    assert found.roc_auc == expected_roc_auc(proba)
    assert found.calibration_p == calibration_score_test(y == proba.argmax(axis=1), proba.max(axis=1)).p_value


def test_without_labels_it_is_unverified():
    found = estimate_performance(LIVE[1])
    assert (found.validity, found.n_labelled, found.calibration_p, found.outside) == ("unverified", 0, None, None)
    assert found.sentence.startswith("Unverified: no labelled rows were given")


def test_with_calibrated_labelled_rows_it_is_valid():
    found = estimate_performance(LIVE[1], reference=LABELLED)
    p_value = calibration_score_test(*LABELLED).p_value
    assert (found.validity, found.n_labelled, found.calibration_p) == ("valid", 1000, p_value)
    assert found.outside == 0.0
    assert found.sentence == (
        "Valid while calibration holds, against which the latest outcomes do not speak "
        f"(score test p = {p_value:.2g} on 1000 labelled rows)."
    )


def test_with_labelled_rows_that_are_off_it_is_invalid():
    y, p = LABELLED
    found = estimate_performance(LIVE[1], reference=(y, p**2))
    assert found.validity == "invalid"
    assert found.sentence.startswith(
        "Invalid, because the probabilities do not fit the latest outcomes (score test p = "
    )
    assert found.calibration_p < 0.01
    assert estimate_performance(LIVE[1], reference=(y, p**2), alpha=1e-300).validity == "valid"


@pytest.mark.parametrize("reference", [None, LABELLED])
def test_an_alarm_makes_it_invalid(reference):
    found = estimate_performance(LIVE[1], reference=reference, alarm=True)
    assert found.validity == "invalid"
    assert found.sentence.startswith("Invalid, because the calibration alarm is up")


def test_few_labelled_rows_prove_little():
    y, p = LABELLED
    found = estimate_performance(LIVE[1], reference=(y[:199], p[:199]))
    assert found.validity == "unverified"
    assert found.sentence.startswith("Unverified: 199 labelled rows, of 200 wanted, are too few")
    weighted = Outcomes(y, p, sample_weight=np.arange(1000) < 199)
    assert estimate_performance(LIVE[1], reference=weighted).n_labelled == 199
    # Few rows that are off all the same are enough to condemn.
    assert estimate_performance(LIVE[1], reference=(1 - y[:199], p[:199])).validity == "invalid"


def test_scores_where_no_label_was_seen_are_unverified():
    y, p = LABELLED
    seen = p < 0.8
    found = estimate_performance(LIVE[1], reference=(y[seen], p[seen]))
    assert found.validity == "unverified"
    assert found.outside == pytest.approx(np.mean((LIVE[1] < p.min()) | (LIVE[1] > p[seen].max())))
    assert "of the scores lie outside [" in found.sentence
    mostly = np.concatenate([p[seen], np.full(30, 0.99)])
    assert estimate_performance(mostly, reference=(y[seen], p[seen])).validity == "valid"


def test_one_possible_class_has_no_auc():
    found = estimate_performance([1.0, 1.0, 1.0])
    assert (found.accuracy, found.roc_auc, found.roc_auc_interval) == (1.0, None, None)


@pytest.mark.parametrize(
    "found",
    [
        estimate_performance(LIVE[1], reference=LABELLED),
        estimate_performance(LIVE[1]),
        estimate_performance([1.0], alarm=True),
    ],
    ids=["valid", "unverified", "no AUC"],
)
def test_it_survives_json(found):
    state = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert PerformanceEstimate.from_dict(state) == found
    assert state["validity"] == found.validity


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format_version": 99}, "format version"),
        ({"validity": "sure"}, r"must have a validity of valid, unverified, invalid, got 'sure'\."),
        ({"accuracy": float("nan")}, "must have a finite 'accuracy'"),
        ({"accuracy_interval": [0.1]}, r"must have the two ends of 'accuracy_interval', got 1 numbers\."),
        ({"roc_auc_interval": ["a", 1]}, "must have 'roc_auc_interval' of type list of int or float"),
        ({"roc_auc_interval": None}, "must have 'roc_auc_interval' of type list"),
        ({"calibration_p": "0.5"}, "must have 'calibration_p' of type int or float"),
        ({"n": 1.5}, "must have 'n' of type int"),
    ],
)
def test_state_that_cannot_be_read_gets_a_sentence(change, sentence):
    state = estimate_performance(LIVE[1]).to_dict()
    with pytest.raises(StateError, match=sentence):
        PerformanceEstimate.from_dict({**state, **change})
    for key in state:
        part = {name: value for name, value in state.items() if name != key}
        with pytest.raises(StateError, match=f"The performance estimate must have '{key}'"):
            PerformanceEstimate.from_dict(part)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"y_proba": [0.2, 1.5]}, r"y_proba must lie in \[0, 1\], got a maximum of 1\.5\."),
        ({"alarm": "no"}, r"alarm must be True or False, got 'no'\."),
        ({"alpha": 0}, "alpha must be a number strictly between 0 and 1"),
        ({"confidence": 1}, "confidence must be a number strictly between 0 and 1"),
        ({"threshold": -1}, r"threshold must be a number in \[0, 1\]"),
        ({"reference": [0, 1, 1]}, r"reference must be Outcomes or a pair \(y_true, y_proba\), got a list\."),
        ({"sample_weight": [1.0]}, "one value a row, got 1 values for 5000 rows"),
    ],
)
def test_bad_arguments_get_a_sentence(options, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        estimate_performance(**{"y_proba": LIVE[1], **options})


def test_estimates_are_values():
    found = estimate_performance(LIVE[1])
    assert replace(found) == found
    assert replace(found, n=1) != found
