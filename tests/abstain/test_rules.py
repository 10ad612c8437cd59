"""Thresholds from costs and from the room for reviews, against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import InvalidInputError

quick = settings(max_examples=50, deadline=None)
costs = st.floats(0.01, 100.0)


@quick
@given(review=costs, error=costs)
def test_one_cost_of_an_error(review, error):
    policy = AbstainPolicy.from_costs(review=review, error=error)
    confidence = np.linspace(0.0, 1.0, 101)
    expected = (1.0 - confidence) * error
    clear = np.abs(expected - review) > 1e-9
    assert np.array_equal(policy.apply(confidence)[clear], (expected > review)[clear])


@quick
@given(review=costs, false_positive=costs, false_negative=costs)
def test_two_costs(review, false_positive, false_negative):
    """Of each probability, by the label that is served for it: withheld where its error is expected to cost more."""
    policy = AbstainPolicy.from_costs(review=review, false_positive=false_positive, false_negative=false_negative)
    p = np.linspace(0.0, 1.0, 101)
    positive = p > 0.5
    expected = np.where(positive, (1.0 - p) * false_positive, p * false_negative)
    withheld = policy.apply(np.maximum(p, 1.0 - p), predicted=positive.astype(int))
    clear = np.abs(expected - review) > 1e-9
    assert np.array_equal(withheld[clear], (expected > review)[clear])
    if review <= 0.5 * min(false_positive, false_negative):
        chow = review < np.minimum(p * false_negative, (1.0 - p) * false_positive)
        assert np.array_equal(withheld[clear], chow[clear])


def test_free_errors_and_dear_reviews_answer_everything():
    assert AbstainPolicy.from_costs(review=1, error=0).threshold == 0.0
    assert AbstainPolicy.from_costs(review=5, error=2).threshold == 0.0
    assert AbstainPolicy.from_costs(review=0, error=2).threshold == 1.0


def test_costs_name_the_classes():
    policy = AbstainPolicy.from_costs(review=1, false_positive=4, false_negative=10, classes=["no", "yes"])
    assert policy.class_thresholds == {"no": 0.9, "yes": 0.75}
    assert policy.threshold == 0.9


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, r"needs either error or both false_positive and false_negative, got error=None"),
        ({"error": 1, "false_positive": 1}, r"needs either error or both"),
        ({"error": 1, "false_positive": 1, "false_negative": 1}, r"needs either error or both"),
        ({"false_negative": 1}, r"needs either error or both"),
        ({"error": -1}, r"error must be a finite number of at least 0, got -1\."),
        ({"false_positive": 1, "false_negative": np.nan}, r"false_negative must be a finite number of at least 0"),
        ({"false_positive": 1, "false_negative": 1, "classes": "abc"}, r"classes must name the 2 classes"),
    ],
)
def test_bad_costs_get_a_sentence(arguments, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        AbstainPolicy.from_costs(review=1, **arguments)


@quick
@given(
    confidence=st.lists(st.integers(0, 20).map(lambda k: k / 20), min_size=1, max_size=60),
    reviews=st.integers(0, 10),
    delta=st.sampled_from([0.01, 0.05, 0.3]),
)
def test_capacity_is_the_greatest_order_statistic_that_holds(confidence, reviews, delta):
    policy = AbstainPolicy.for_capacity(confidence, reviews_per_day=reviews, predictions_per_day=10, delta=delta)
    n, holds = len(confidence), 0
    for k in range(1, n + 1):  # P(Beta(k, n - k + 1) > rate) <= delta
        if reviews < 10 and stats.beta.sf(reviews / 10, k, n - k + 1) <= delta:
            holds = k
    expected = 1.0 if reviews == 10 else sorted(confidence)[holds - 1] if holds else 0.0
    assert policy.threshold == expected


def test_capacity_withholds_no_more_than_there_is_room_for():
    """The long-run rate exceeds the room in about delta of the draws, and not by being idle."""
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        threshold = AbstainPolicy.for_capacity(
            rng.random(500), reviews_per_day=80, predictions_per_day=400, delta=0.05
        ).threshold
        rates.append(threshold)  # of uniform confidences
    assert 0.02 < np.mean(np.array(rates) > 0.2) < 0.08
    assert np.mean(rates) > 0.16


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"reviews_per_day": -1}, r"reviews_per_day must be a finite number of at least 0, got -1\."),
        ({"predictions_per_day": 0}, r"predictions_per_day must be more than 0, got 0\."),
        ({"delta": 0.0}, r"delta must be a number strictly between 0 and 1, got 0\."),
        ({"confidence": [1.5]}, r"confidence must lie in \[0, 1\], got a maximum of 1\.5\."),
        ({"confidence": []}, r"confidence must hold at least one value, got none\."),
    ],
)
def test_bad_capacities_get_a_sentence(arguments, sentence):
    usual = {"confidence": [0.5], "reviews_per_day": 1, "predictions_per_day": 10}
    with pytest.raises(InvalidInputError, match=sentence):
        AbstainPolicy.for_capacity(**usual | arguments)
