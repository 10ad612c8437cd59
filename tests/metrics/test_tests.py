"""Tests of calibration: against formulas written out, a general score test, and what they promise about themselves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import calibration_score_test, spiegelhalter_test

quick = settings(max_examples=50, deadline=None)

SMALL_P = np.array([0.05, 0.1, 0.2, 0.3, 0.35, 0.4, 0.55, 0.6, 0.65, 0.7, 0.8, 0.85, 0.88, 0.9, 0.95, 1.0])
SMALL_Y = np.array([0, 0, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1])
DELONG_P = np.array([0.75, 0.44, 0.82, 0.68, 0.13, 0.93, 0.74, 0.76, 0.17, 0.46, 0.38, 0.88])
DELONG_Y = np.array([1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0])

BOTH = pytest.mark.parametrize("test", [spiegelhalter_test, calibration_score_test])
ROW = st.tuples(st.integers(0, 1), st.one_of(st.sampled_from([0.2, 0.5, 0.7]), st.floats(0.001, 0.999)))
ROWS = st.lists(ROW, min_size=1, max_size=30)
WEIGHTS = st.lists(st.floats(0.1, 5), min_size=30, max_size=30)


def columns(rows):
    y, p = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    return y, p


def near(value):
    return pytest.approx(value, rel=1e-7, abs=1e-9)


def test_golden():
    """From the formulas of Spiegelhalter (1986) and Cox (1958), computed apart from this package."""
    z = spiegelhalter_test(SMALL_Y, SMALL_P.clip(0.001, 0.999))
    assert z.statistic == pytest.approx(-0.0563070817, abs=6e-11)
    assert z.p_value == pytest.approx(2 * stats.norm.sf(0.0563070817), abs=1e-10)
    assert calibration_score_test(DELONG_Y, DELONG_P).p_value == pytest.approx(0.7284346857, abs=1e-10)


@quick
@given(rows=ROWS, weights=WEIGHTS)
def test_spiegelhalters_z_is_the_standardised_brier_score(rows, weights):
    """The Brier score less its expectation, over its standard deviation; both from the two outcomes a row can have."""
    y, p = columns(rows)
    w = np.array(weights[: y.size])
    scores = np.array([p**2, (1 - p) ** 2])
    mean = (1 - p) * scores[0] + p * scores[1]
    variance = (1 - p) * (scores[0] - mean) ** 2 + p * (scores[1] - mean) ** 2
    if (w**2 @ variance) < 1e-12:
        return
    z = w @ ((p - y) ** 2 - mean) / np.sqrt(w**2 @ variance)
    found = spiegelhalter_test(y, p, sample_weight=w)
    assert found.statistic == near(z)
    assert found.p_value == near(2 * stats.norm.sf(abs(z)))


@quick
@given(rows=ROWS, weights=WEIGHTS)
def test_the_score_test_is_the_general_one(rows, weights):
    y, p = columns(rows)
    w, x = np.array(weights[: y.size]), np.vstack([np.ones_like(p), logit(p)])
    if np.ptp(x[1]) < 1e-3:
        return
    u, information = x @ (w * (y - p)), (x * (w**2 * p * (1 - p))) @ x.T
    statistic = u @ np.linalg.solve(information, u)
    found = calibration_score_test(y, p, sample_weight=w)
    assert found.statistic == pytest.approx(statistic, rel=1e-5, abs=1e-9)
    assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 2), rel=1e-4)


def test_one_probability_has_no_slope():
    """Then it is the test of a proportion, with one degree of freedom."""
    y = np.repeat([0, 1], [12, 8])
    found = calibration_score_test(y, np.full(20, 0.3))
    z = (8 - 6) / math.sqrt(20 * 0.3 * 0.7)
    assert found == near((z**2, 2 * stats.norm.sf(z)))
    assert calibration_score_test(y, np.full(20, 0.3) + 1e-12 * np.arange(20)) == near((z**2, 2 * stats.norm.sf(z)))
    single = calibration_score_test([1], [0.25])
    assert single == near((3.0, 2 * stats.norm.sf(math.sqrt(3.0))))


@BOTH
@quick
@given(rows=ROWS, scale=st.sampled_from([1e-200, 1 / 3, 1e200]))
def test_the_scale_of_weights_and_rows_without_weight_change_nothing(test, rows, scale):
    y, p = columns(rows)
    plain = test(y, p)
    assert test(y, p, sample_weight=np.full(y.size, scale)) == near(plain)
    more = test(np.append(y, [0, 1]), np.append(p, [0.9, 0.0]), sample_weight=np.append(np.ones(y.size), [0, 0]))
    assert more == near(plain)


@BOTH
@quick
@given(rows=ROWS, weights=st.lists(st.floats(0, 1e300), min_size=31, max_size=31))
def test_any_weights_give_a_p_value(test, rows, weights):
    y, p = columns([*rows, (1, 0.5)])
    weights = np.array(weights[: y.size])
    weights[-1] += 1.0
    found = test(y, p, sample_weight=weights)
    assert 0 <= found.p_value <= 1
    assert not np.isnan(found.statistic)


@BOTH
def test_a_weight_is_not_more_evidence(test):
    rng = np.random.default_rng(0)
    p = rng.random(200)
    y = rng.random(200) < expit(0.6 * logit(p))
    heavy = test(y, p, sample_weight=np.full(200, 4.0)).p_value
    assert heavy == near(test(y, p).p_value)
    assert test(np.repeat(y, 4), np.repeat(p, 4)).p_value < heavy / 10


@BOTH
@pytest.mark.parametrize(
    ("y", "p", "expected"),
    [
        ([0, 1, 1], [0, 1, 1], (0.0, 1.0)),
        ([0, 0, 1], [0, 1, 1], (math.inf, 0.0)),
    ],
    ids=["kept", "broken"],
)
def test_certain_forecasts_alone(test, y, p, expected):
    assert test(y, p) == expected


def test_even_odds_alone_leave_spiegelhalter_nothing_to_say():
    assert spiegelhalter_test([0, 1, 1], [0.5, 0.5, 0.5]) == (0.0, 1.0)


@BOTH
def test_certain_forecasts_among_others(test):
    """Kept they are no evidence; broken they speak against calibration, and a broken one is not infinitely loud."""
    rng = np.random.default_rng(1)
    p = np.concatenate([rng.random(300), np.ones(20)])
    y = np.concatenate([rng.random(300) < p[:300], np.ones(20)])
    plain = test(y[:300], p[:300])
    assert test(y, p) == near(plain)
    broken = y.copy()
    broken[-1] = 0
    assert test(broken, p).p_value > 0.001
    broken[-10:] = 0
    assert test(broken, p).p_value < 0.2 * plain.p_value


@pytest.mark.parametrize(
    ("truth", "score", "z"),
    [
        (lambda p: p, False, False),
        (lambda p: expit(logit(p) + 0.5), True, False),  # even on both sides of 1/2, it cancels in Z
        (lambda p: expit(logit(p) / 1.6), True, True),
        (lambda p: expit(logit(p) * 1.6), True, True),
    ],
    ids=["calibrated", "too low", "over-confident", "timid"],
)
def test_what_each_of_them_sees(truth, score, z):
    rng = np.random.default_rng(3)
    p = rng.uniform(0.02, 0.98, 4000)
    y = rng.random(4000) < truth(p)
    assert (calibration_score_test(y, p).p_value < 0.001) == score
    found = spiegelhalter_test(y, p)
    assert (found.p_value < 0.001) == z
    if z:
        assert (found.statistic > 0) == (truth(0.9) < 0.9)  # worse than promised: over-confident


@BOTH
def test_bad_input_gets_a_sentence(test):
    with pytest.raises(InvalidInputError, match=r"y_proba must lie in \[0, 1\], got a maximum of 1\.7"):
        test([0, 1], [0.5, 1.7])
    with pytest.raises(InvalidInputError, match=r"y_true must hold only 0 and 1, got 2"):
        test([0, 2], [0.5, 0.7])
    with pytest.raises(InvalidInputError, match=r"sample_weight must not be negative"):
        test([0, 1], [0.5, 0.7], sample_weight=[1, -1])
