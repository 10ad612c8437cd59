"""Certified thresholds: the procedure against a naive one, what is promised in words, and what is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlflow_caliber.abstain import AbstainPolicy, Certificate
from mlflow_caliber.exceptions import ConfigError, InvalidInputError, StateError

quick = settings(max_examples=25, deadline=None)


def blocks(*parts):
    """Confidences and answers of blocks (confidence, rows, errors)."""
    confidence = np.concatenate([np.full(n, c) for c, n, _ in parts])
    correct = np.concatenate([np.arange(n) >= errors for _, n, errors in parts])
    return confidence, correct


SURE, UNSURE = (0.95, 640, 30), (0.6, 360, 150)
GRANTED = AbstainPolicy.certify(*blocks(SURE, UNSURE), max_risk=0.1)
REFUSED = AbstainPolicy.certify(*blocks(SURE, UNSURE), max_risk=0.01)


def naive_certificate(confidence, correct, max_risk, delta):
    """One test after the other, row by row; the bound as the end of scipy's exact interval at level 1 - 2 delta."""
    n = len(confidence)
    first = max(2 * math.ceil(math.log(delta) / math.log(1 - max_risk)), 0.1 * n)
    ordered, best = sorted(confidence, reverse=True), None
    for step in range(60):
        start = min(math.ceil(first), n)
        k = round(start + step * (n - start) / 59)
        threshold = ordered[k - 1]
        answered = [right for c, right in zip(confidence, correct, strict=True) if c >= threshold]
        errors = len(answered) - sum(answered)
        test = stats.binomtest(errors, len(answered))
        if test.proportion_ci(1 - 2 * delta, method="exact").high > max_risk:
            break
        best = (threshold, len(answered), errors)
    return best


@quick
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 400),
    digits=st.sampled_from([1, 2, 6]),
    max_risk=st.sampled_from([0.05, 0.2, 0.35]),
    delta=st.sampled_from([0.05, 0.2]),
)
def test_the_threshold_is_the_naive_one(seed, n, digits, max_risk, delta):
    rng = np.random.default_rng(seed)
    confidence = (1.0 - 0.5 * rng.random(n) ** 2).round(digits)
    correct = rng.random(n) < confidence
    certificate = AbstainPolicy.certify(confidence, correct, max_risk=max_risk, delta=delta).certificate
    expected = naive_certificate(confidence, correct, max_risk, delta)
    assert certificate.granted == (expected is not None)
    if expected is not None:
        assert (certificate.threshold, certificate.answered, certificate.errors) == expected


@quick
@given(seed=st.integers(0, 10_000))
def test_row_order_never_matters(seed):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1.0, 200).round(2)
    correct = rng.random(200) < confidence
    order = rng.permutation(200)
    for predicted in (None, rng.integers(0, 2, 200)):
        shuffled = None if predicted is None else predicted[order]
        one = AbstainPolicy.certify(confidence, correct, max_risk=0.2, predicted=predicted)
        assert AbstainPolicy.certify(confidence[order], correct[order], max_risk=0.2, predicted=shuffled) == one


def test_clopper_and_pearson():
    """Golden bounds: 0 errors in 59 and in 58 rows, 2 in 100 (Clopper and Pearson, 1934)."""
    passed = AbstainPolicy.certify(np.full(59, 0.9), np.ones(59), max_risk=0.05).certificate
    assert passed.upper_bound == pytest.approx(0.0495076099, abs=6e-11)
    assert not AbstainPolicy.certify(np.full(58, 0.9), np.ones(58), max_risk=0.05).certificate.granted
    two = AbstainPolicy.certify(*blocks((0.9, 100, 2)), max_risk=0.07).certificate
    assert two.upper_bound == pytest.approx(0.0616192004, abs=6e-11)


def test_what_is_granted():
    certificate = GRANTED.certificate
    assert (certificate.granted, certificate.threshold, certificate.coverage) == (True, 0.95, 0.64)
    assert (certificate.n, certificate.answered, certificate.errors) == (1000, 640, 30)
    assert GRANTED.threshold == 0.95
    assert GRANTED.apply([0.95, 0.94]).tolist() == [False, True]


def test_the_sentence_of_a_certificate():
    promise = "error at most 10 % on answered cases with 95 % confidence; coverage 64 %"
    work = "; about 140 reviews a day at 400 predictions a day"
    certificate = GRANTED.certificate
    assert certificate.sentence() == str(certificate) == promise
    assert certificate.sentence(predictions_per_day=400) == promise + work
    with_traffic = replace(certificate, predictions_per_day=400)
    assert with_traffic.sentence() == promise + work
    crowded = replace(with_traffic, reviews_per_day=100)
    assert crowded.sentence() == promise + work + ", more than the 100 there is room for"
    assert (crowded.within_capacity, with_traffic.within_capacity) == (False, None)
    assert replace(with_traffic, reviews_per_day=144).within_capacity is True
    assert certificate.sentence(predictions_per_day=12345).endswith(
        "about 4,400 reviews a day at 12,345 predictions a day"
    )
    assert certificate.sentence(predictions_per_day=4).endswith("about 1.4 reviews a day at 4 predictions a day")


def test_what_is_refused_answers_nothing():
    certificate = REFUSED.certificate
    assert (certificate.granted, certificate.coverage, certificate.upper_bound) == (False, 0.0, 1.0)
    assert REFUSED.apply([0.5, 1.0], segment="any").tolist() == [True, True]
    assert REFUSED.apply([0.5, 1.0], threshold=0.8).tolist() == [True, False]
    overridden = replace(REFUSED, threshold=0.8, certificate=None)
    assert overridden.apply([0.5, 0.9]).tolist() == [True, False]


def test_the_sentence_of_a_refusal():
    assert REFUSED.certificate.sentence() == (
        "no certificate (error at most 1 % with 95 % confidence): 30 of the 640 surest of 1,000 cases are wrong, so "
        "that the error rate may be 6.3 %; more cases alone are unlikely to help; nothing is answered"
    )
    few = AbstainPolicy.certify(np.full(30, 0.99), np.ones(30), max_risk=0.05).certificate
    assert few.sentence().startswith(
        "no certificate (error at most 5 % with 95 % confidence): 0 of the 30 surest of 30 cases are wrong, so that "
        "the error rate may be 9.5 %; with about "
    )
    assert 59 < few.rows_needed < 300


def test_the_rows_that_are_said_to_be_needed_do():
    """Half of the draws of that size have a certificate, more or less."""
    rng = np.random.default_rng(0)

    def certificate(n):
        p = 1.0 / (1.0 + np.exp(-rng.normal(-0.1, 2.7, n)))
        correct = (rng.random(n) < p) == (p > 0.5)
        return AbstainPolicy.certify(np.maximum(p, 1.0 - p), correct, max_risk=0.1).certificate

    needed = [one.rows_needed for one in (certificate(100) for _ in range(60)) if not one.granted]
    typical = int(np.median(needed))
    assert 0.35 < np.mean([certificate(typical).granted for _ in range(100)]) < 0.9


def by_class():
    confidence, correct = blocks((0.9, 300, 9), (0.8, 300, 60), (0.7, 300, 5), (0.6, 40, 20))
    predicted = np.repeat(["no", "no", "yes", "maybe"], [300, 300, 300, 40])
    return confidence, correct, predicted


def test_each_class_has_its_own_certificate():
    confidence, correct, predicted = by_class()
    policy = AbstainPolicy.certify(confidence, correct, max_risk=0.1, predicted=predicted)
    parts = policy.certificate.classes
    assert list(parts) == ["maybe", "no", "yes"]
    for name, part in parts.items():
        own = predicted == name
        alone = AbstainPolicy.certify(confidence[own], correct[own], max_risk=0.1, delta=0.05 / 3).certificate
        assert part == alone
    assert policy.class_thresholds == {"maybe": 1.0, "no": 0.9, "yes": 0.7}
    assert (policy.certificate.answered, policy.certificate.errors, policy.certificate.n) == (600, 14, 940)
    assert policy.certificate.sentence() == (
        "error at most 10 % on answered cases of each predicted class with 95 % confidence; coverage 64 %; no "
        "certificate for 'maybe', withheld throughout"
    )


def test_classes_without_a_certificate_are_withheld():
    confidence, correct, predicted = by_class()
    policy = AbstainPolicy.certify(confidence, correct, max_risk=0.1, predicted=predicted)
    withheld = policy.apply([0.75, 0.75, 1.0, 1.0], predicted=["no", "yes", "maybe", "stranger"])
    assert withheld.tolist() == [True, False, True, True]
    assert policy.apply([1.0], predicted="maybe").tolist() == [True]


def test_classes_that_are_never_predicted_take_their_part_of_delta():
    confidence, correct, predicted = by_class()
    policy = AbstainPolicy.certify(
        confidence, correct, max_risk=0.1, predicted=predicted, classes=["no", "yes", "maybe", "never"]
    )
    never = policy.certificate.classes["never"]
    assert (never.granted, never.n, never.delta, never.rows_needed) == (False, 0, 0.0125, None)
    assert never.reason == "no case was predicted so"


def test_no_class_has_a_certificate():
    confidence, correct, predicted = by_class()
    policy = AbstainPolicy.certify(confidence, correct, max_risk=0.001, predicted=predicted)
    assert not policy.certificate.granted
    assert policy.apply([1.0, 1.0], predicted=["no", "yes"]).all()
    assert policy.certificate.sentence().startswith(
        "no certificate (error at most 0.1 % with 95 % confidence): of 'maybe', 20 of the 40 surest of 40 cases are "
    )


def test_a_certificate_names_what_it_is_about():
    policy = AbstainPolicy.certify(
        *blocks(SURE), max_risk=0.1, calibrator_revision="4be1", predictions_per_day=400, reviews_per_day=10
    )
    assert (policy.certificate.calibrator_revision, policy.certificate.within_capacity) == ("4be1", True)


def test_another_threshold_is_not_certified():
    sentence = r"threshold must be what the certificate is about, 0\.95, got 0\.5; with certificate=None it is free\."
    with pytest.raises(InvalidInputError, match=sentence):
        replace(GRANTED, threshold=0.5)
    with pytest.raises(InvalidInputError, match=r"segment_thresholds must be what the certificate is about, None, got"):
        replace(GRANTED, segment_thresholds={"new": 0.5})
    with pytest.raises(InvalidInputError, match=r"class_thresholds must be what the certificate is about, None, got"):
        replace(GRANTED, class_thresholds={"yes": 0.5})
    with pytest.raises(InvalidInputError, match=r"certificate must be a Certificate, got a dict\."):
        AbstainPolicy(0.95, certificate={})
    assert replace(GRANTED, audit_share=0.05, on_calibrator_error="raw").certificate == GRANTED.certificate


def test_a_suspended_certificate_says_so_and_changes_no_answer():
    gone = GRANTED.suspended("the calibrator was refitted")
    assert gone.certificate.sentence() == (
        f"suspended: the calibrator was refitted (it said: {GRANTED.certificate.sentence()})"
    )
    assert gone.threshold == GRANTED.threshold
    assert REFUSED.suspended("no reason").apply([1.0]).all()
    assert AbstainPolicy(0.7).suspended("no reason") == AbstainPolicy(0.7)


@pytest.mark.parametrize(
    "policy",
    [
        GRANTED,
        REFUSED,
        GRANTED.suspended("drift"),
        AbstainPolicy.certify(*by_class()[:2], max_risk=0.1, predicted=by_class()[2], predictions_per_day=10.5),
    ],
    ids=["granted", "refused", "suspended", "by class"],
)
def test_certified_policies_survive_json(policy):
    again = AbstainPolicy.from_dict(json.loads(json.dumps(policy.to_dict(), allow_nan=False)))
    assert again == policy
    assert hash(again) == hash(policy)
    assert again.certificate.sentence() == policy.certificate.sentence()


def edited(**changes):
    state = GRANTED.to_dict()
    return state | {"certificate": state["certificate"] | changes}


@pytest.mark.parametrize(
    ("state", "error", "sentence"),
    [
        (GRANTED.to_dict() | {"threshold": 0.5}, StateError, r"threshold must be what the certificate is about, 0\.95"),
        (edited(threshold=0.5), StateError, r"threshold must be what the certificate is about, 0\.5, got 0\.95"),
        (edited(errors=641), StateError, r"must have errors <= answered <= n, got errors 641, answered 640, n 1000\."),
        (edited(upper_bound=0.2), StateError, r"must have an upper_bound within its max_risk, got 0\.2 over 0\.1\."),
        (edited(granted="yes"), StateError, r"granted must be True or False, got 'yes'\."),
        (edited(max_risk=1.0), StateError, r"max_risk must be a number strictly between 0 and 1, got 1\."),
        (edited(n=1000.5), StateError, r"n must be a whole number >= 0, got 1000\.5\."),
        (edited(classes=[1]), StateError, r"classes must be a mapping, got a list\."),
        (edited(reviews_per_day=-1), StateError, r"reviews_per_day must be a finite number of at least 0, got -1\."),
        (edited(calibrator_revision=7), StateError, r"calibrator_revision must be text, got 7\."),
        (edited(rows_needed=0.5), StateError, r"rows_needed must be a whole number >= 1, got 0\.5\."),
        (edited(grnted=True), ConfigError, r"unknown key 'grnted'\. Did you mean 'granted'\?"),
        (GRANTED.to_dict() | {"certificate": 7}, StateError, r"must be read from a mapping, got a int\."),
        (GRANTED.to_dict() | {"certificate": {"granted": True}}, StateError, r"got no 'max_risk'\."),
    ],
)
def test_edited_certificates_are_refused(state, error, sentence):
    with pytest.raises(error, match=sentence):
        AbstainPolicy.from_dict(state)


def test_a_certificate_is_a_value():
    assert Certificate.from_dict(GRANTED.certificate.to_dict()) == GRANTED.certificate
    with pytest.raises(AttributeError):
        GRANTED.certificate.granted = False


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"max_risk": 0}, r"max_risk must be a number strictly between 0 and 1, got 0\."),
        ({"max_risk": 1.0}, r"max_risk must be a number strictly between 0 and 1, got 1\."),
        ({"delta": 1.0}, r"delta must be a number strictly between 0 and 1, got 1\."),
        ({"confidence": [0.5, 1.2]}, r"confidence must lie in \[0, 1\], got a maximum of 1\.2\."),
        ({"confidence": [0.5, np.nan]}, r"confidence must be finite, got 1 NaN or infinite of 2 values\."),
        ({"correct": [0, 2]}, r"correct must hold only 0 and 1, got 2\."),
        ({"correct": [1]}, r"same length: confidence has 2, correct has 1\."),
        ({"predicted": ["a"]}, r"predicted must have one value a row, got 1 values for 2 rows\."),
        ({"predicted": ["a", None]}, r"predicted must not be missing, got 1 missing of 2 values\."),
        ({"predicted": ["a", "b"], "classes": ["a", "c"]}, r"predicted must hold the classes a, c, got 'b'\."),
        ({"predicted": ["a", "a"], "classes": ["a", "a"]}, r"classes must be distinct as text, got a, a\."),
        ({"classes": ["a", "b"]}, r"classes goes with predicted, got no predicted\."),
        ({"predictions_per_day": -1}, r"predictions_per_day must be a finite number of at least 0, got -1\."),
    ],
)
def test_bad_rows_get_a_sentence(arguments, sentence):
    usual = {"confidence": [0.5, 0.9], "correct": [0, 1], "max_risk": 0.1}
    with pytest.raises(InvalidInputError, match=sentence):
        AbstainPolicy.certify(**usual | arguments)


def test_weights_are_refused():
    """The bound counts errors among exchangeable rows; a weighted row is not one."""
    with pytest.raises(TypeError, match="sample_weight"):
        AbstainPolicy.certify([0.9], [1], max_risk=0.1, sample_weight=[1.0])
