"""What the live outcomes call for: verdicts, their evidence against its definitions, and too little of it."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

import mlflow_caliber as caliber
from mlflow_caliber.diagnosis import diagnose
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import (
    Outcomes,
    brier_decomposition,
    calibration_score_test,
    expected_calibration_error,
    expected_roc_auc,
    multiclass_roc_auc,
    roc_auc,
    roc_auc_variance,
)

TRUTHS = {
    "none": lambda z, _: expit(z),
    "recalibrate": lambda z, _: expit(z + 1.0),
    "recalibrate_and_retrain": lambda z, rng: expit(0.3 * z + 0.9 * rng.normal(size=z.size) - 0.2),
}


def draw(truth, n=1000, seed=1, mean=-0.1, spread=1.35):
    rng = np.random.default_rng(seed)
    z = rng.normal(mean, spread, n)
    return rng.random(n) < truth(z, rng), expit(z)


@pytest.fixture(scope="module")
def before():
    return draw(TRUTHS["none"], n=4000, seed=100)


@pytest.mark.parametrize("verdict", ["none", "recalibrate", "recalibrate_and_retrain"])
def test_verdicts(before, verdict):
    diagnosis = diagnose(before, draw(TRUTHS[verdict]))
    assert diagnosis.verdict == verdict
    start = {"none": "Nothing to do", "recalibrate": "Recalibrate:", "recalibrate_and_retrain": "Recalibrate now"}
    assert diagnosis.sentence.startswith(start[verdict])
    assert f"of samples of {diagnosis.evidence.n_live} rows that fit, " in diagnosis.sentence
    assert ("1 in a billion" in diagnosis.sentence) == (diagnosis.evidence.calibration_p <= 1e-9)
    assert f"{diagnosis.evidence.roc_auc_live:.3f}" in diagnosis.sentence


def test_a_ranking_that_fails_where_calibration_holds_is_to_be_looked_at():
    """Two steps are served. The raw score ranked the rows within a step too; now it does not, and no step shows it."""
    rng = np.random.default_rng(0)
    raw = rng.random((2, 3000))
    served = np.where(raw > 0.5, 0.75, 0.25)
    y = rng.random((2, 3000)) < np.array([raw[0], served[1]])
    diagnosis = diagnose(Outcomes(y[0], served[0], raw=raw[0]), Outcomes(y[1], served[1], raw=raw[1]))
    assert diagnosis.verdict == "investigate"
    assert "look at the data, the labels and the segments" in diagnosis.sentence


def test_a_population_of_closer_cases_is_not_a_worse_model(before):
    closer = draw(TRUTHS["none"], spread=0.5)
    diagnosis = diagnose(before, closer)
    assert diagnosis.evidence.roc_auc_live < diagnosis.evidence.roc_auc_reference - 0.1
    assert diagnosis.verdict == "none"


def test_evidence_is_what_it_says(before):
    live = draw(TRUTHS["recalibrate_and_retrain"])
    evidence = diagnose(before, live).evidence
    (y0, p0), (y, p) = before, live
    assert (evidence.n_reference, evidence.n_live) == (4000, 1000)
    assert evidence.calibration_p == calibration_score_test(y, p).p_value
    assert (evidence.ece_reference, evidence.ece_live) == (
        expected_calibration_error(y0, p0),
        expected_calibration_error(y, p),
    )
    assert (evidence.roc_auc_reference, evidence.roc_auc_live) == (roc_auc(y0, p0), roc_auc(y, p))
    offset = roc_auc(y0, p0) - expected_roc_auc(p0)
    shortfall = expected_roc_auc(p) + offset - roc_auc(y, p)
    error = np.sqrt(roc_auc_variance(y, p) + roc_auc_variance(y0, p0))
    assert evidence.roc_auc_offset == pytest.approx(offset)
    assert evidence.shortfall == pytest.approx(shortfall)
    assert evidence.roc_auc_expected == pytest.approx(roc_auc(y, p) + shortfall)
    assert evidence.shortfall_z == pytest.approx((shortfall - 0.02) / error)
    assert evidence.detectable_shortfall == pytest.approx(0.02 + (1.644854 + 0.841621) * error, rel=1e-6)
    was, now = brier_decomposition(y0, p0), brier_decomposition(y, p)
    assert evidence.mcb_change == pytest.approx(now.miscalibration - was.miscalibration)
    assert evidence.dsc_change == pytest.approx(now.discrimination - was.discrimination)
    cox = LogisticRegression(C=1e8).fit(logit(p)[:, None], y)
    assert (evidence.slope, evidence.intercept) == pytest.approx((cox.coef_[0, 0], cox.intercept_[0]), abs=0.01)


def test_levels_and_margin_decide(before):
    live = draw(TRUTHS["recalibrate_and_retrain"])
    evidence = diagnose(before, live).evidence
    assert diagnose(before, live, auc_margin=evidence.shortfall + 0.001).verdict == "recalibrate"
    assert diagnose(before, live, alpha=evidence.calibration_p / 2).verdict == "investigate"
    none = draw(TRUTHS["none"])
    p = diagnose(before, none).evidence.calibration_p
    assert diagnose(before, none, alpha=(1 + p) / 2).verdict == "recalibrate"
    assert diagnose(before, none, auc_margin=0.0, auc_alpha=0.999).evidence.detectable_shortfall < 0


def test_a_reference_that_missed_its_own_promise_is_forgiven(before):
    """Over-confident before and after, alike: the offset takes the standing shortfall away."""
    flat = TRUTHS["recalibrate_and_retrain"]
    diagnosis = diagnose(draw(flat, n=4000, seed=5), draw(flat, seed=6))
    assert diagnosis.evidence.roc_auc_offset < -0.1
    assert diagnosis.verdict == "recalibrate"


def test_ties_of_the_calibrator_are_not_taken_for_a_loss(before):
    y, p = draw(TRUTHS["none"], n=4000)
    steps = np.floor(p * 5) / 5 + 0.1
    tied = diagnose(before, Outcomes(y, steps, raw=p)).evidence
    assert tied.roc_auc_live == roc_auc(y, p)
    assert abs(tied.shortfall) < 0.02
    assert diagnose(before, Outcomes(y, steps)).evidence.roc_auc_live == roc_auc(y, steps)


def test_weights_count(before):
    y, p = draw(TRUTHS["none"])
    rng = np.random.default_rng(3)
    bad = np.arange(1000) % 2 == 1
    y = np.where(bad, rng.random(1000) < 0.9, y)
    assert diagnose(before, (y, p)).verdict != "none"
    weighted = diagnose(before, Outcomes(y, p, sample_weight=1.0 - bad))
    assert weighted.verdict == "none"
    assert weighted.evidence.n_live == 500
    assert asdict(weighted.evidence) == pytest.approx(asdict(diagnose(before, (y[~bad], p[~bad])).evidence))


def classes_of_three(seed, *, noise=0.0, temperature=1.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (3000, 3))
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = np.exp((logits + rng.normal(0, noise, logits.shape)) / temperature)
    true /= true.sum(axis=1, keepdims=True)
    y = (rng.random((3000, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(max=2)
    return y, proba


def test_more_than_two_classes():
    before, same = classes_of_three(0), classes_of_three(1)
    assert diagnose(before, same).verdict == "none"
    assert diagnose(before, same).evidence.roc_auc_live == pytest.approx(multiclass_roc_auc(*same))
    assert diagnose(before, classes_of_three(2, noise=2.0)).verdict == "recalibrate_and_retrain"
    assert diagnose(before, classes_of_three(2, temperature=0.5)).verdict == "recalibrate"


def test_it_is_json(before):
    diagnosis = diagnose(before, draw(TRUTHS["recalibrate"]))
    state = diagnosis.to_dict()
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert state["verdict"] == "recalibrate"
    assert state["evidence"] == asdict(diagnosis.evidence)


def test_perfect_ranking_is_no_shortfall():
    y = np.repeat([0, 1], 20)
    evidence = diagnose((y, y * 1.0), (y, y * 1.0)).evidence
    assert evidence.shortfall == 0.0
    assert evidence.calibration_p == 1.0
    assert np.isfinite(list(asdict(evidence).values())).all()


@pytest.mark.parametrize("side", ["reference", "live"])
def test_too_few_rows_get_no_verdict(side, before):
    few = (np.repeat([0, 1], [200, 9]), np.linspace(0.1, 0.9, 209))
    sides = {"reference": before, "live": before, side: few}
    sentence = rf"at least 10 rows of every class in {side}, got 9 of class 1 in 209 rows: too few for a verdict\."
    with pytest.raises(InvalidInputError, match=sentence):
        diagnose(**sides)


def test_one_class_gets_no_verdict(before):
    with pytest.raises(InvalidInputError, match="got 0 of class 1 in 300 rows: too few for a verdict"):
        diagnose(before, (np.zeros(300), np.linspace(0, 1, 300)))
    y = np.arange(300) % 2
    live = Outcomes(y, np.linspace(0, 1, 300), sample_weight=y)
    with pytest.raises(InvalidInputError, match="got 0 of class 0 in 150 rows"):
        diagnose(before, live)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpha": 0}, "alpha must be a number strictly between 0 and 1"),
        ({"auc_alpha": 1.5}, "auc_alpha must be a number strictly between 0 and 1"),
        ({"auc_margin": -0.1}, "auc_margin must be a finite number of at least 0"),
        ({"live": [1, 2, 3]}, r"live must be Outcomes or a pair \(y_true, y_proba\), got a list\."),
        ({"reference": np.ones((5, 2))}, r"reference must be Outcomes or a pair \(y_true, y_proba\), got a ndarray\."),
        ({"live": ([0, 1], [0.5, 2])}, r"y_proba must lie in \[0, 1\]"),
    ],
)
def test_bad_arguments_get_a_sentence(before, options, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        diagnose(**{"reference": before, "live": before, **options})


class TestOutcomes:
    def test_they_are_checked(self):
        with pytest.raises(InvalidInputError, match=r"raw must have the shape of y_proba, got \(1,\) for \(2,\)\."):
            Outcomes([0, 1], [0.2, 0.4], raw=[0.3])
        with pytest.raises(InvalidInputError, match=r"same length: y_true has 1, y_proba has 2\."):
            Outcomes([0], [0.2, 0.4])
        with pytest.raises(InvalidInputError, match="class indices 0 to 2, got values from 0 to 3"):
            Outcomes([0, 3], [[0.2, 0.4, 0.4], [0.1, 0.1, 0.8]])
        with pytest.raises(InvalidInputError, match="sample_weight must not be negative"):
            Outcomes([0, 1], [0.2, 0.4], sample_weight=[1, -1])

    def test_of_two_columns_the_second_is_class_one(self):
        outcomes = Outcomes([0, 1], [[0.8, 0.2], [0.4, 0.6]], raw=[[0.9, 0.1], [0.3, 0.7]])
        assert outcomes.binary
        np.testing.assert_array_equal(outcomes.y_proba, [0.2, 0.6])
        np.testing.assert_array_equal(outcomes.raw, [0.1, 0.7])

    def test_the_event_of_many_classes_is_being_right(self):
        outcome, p = Outcomes([0, 2], [[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]).event
        np.testing.assert_array_equal(outcome, [1, 0])
        np.testing.assert_array_equal(p, [0.5, 0.6])

    def test_rows_without_weight_do_not_count(self):
        assert Outcomes([0, 1, 1], [0.2, 0.6, 0.7], sample_weight=[1, 0, 2]).n == 2


def test_it_is_a_public_name():
    assert caliber.diagnose is diagnose
