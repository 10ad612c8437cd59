"""The CORP curve and its consistency band."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.isotonic import IsotonicRegression

from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.metrics import CorpCurve, brier_decomposition, corp_curve
from scored_rows import ROWS, columns, sample


@settings(max_examples=30, deadline=None)
@given(rows=ROWS)
def test_curve_is_scikit_learns_isotonic_regression(rows):
    y, p, w = columns(rows)
    # scikit-learn ties scores closer than 1e-15, and interpolates between subnormal ones by way of infinity.
    p = np.round(p, 6)
    curve = corp_curve(y, p, sample_weight=w, n_resamples=20)
    kept = w > 0
    expected = IsotonicRegression().fit(p[kept], y[kept], sample_weight=w[kept]).predict(curve.probability)
    np.testing.assert_allclose(curve.recalibrated, expected, atol=1e-9)
    np.testing.assert_allclose(curve.weight, [w[p == value].sum() for value in np.unique(p[kept])])
    assert np.all(curve.band_low <= curve.band_high)
    assert np.all((curve.band_low >= 0) & (curve.band_high <= 1))
    assert np.all(np.diff(curve.band_low) >= -1e-12)


def test_curve_gives_the_decomposition():
    y, p = sample(600, 1, lambda p: p**2)
    curve = corp_curve(y, p, n_resamples=20)
    parts = brier_decomposition(y, p)
    assert np.average((curve.recalibrated - y.mean()) ** 2, weights=curve.weight) == pytest.approx(parts.discrimination)
    frequency = np.array([y[p == value].mean() for value in curve.probability])
    gap = (curve.probability - frequency) ** 2 - (curve.recalibrated - frequency) ** 2
    assert np.average(gap, weights=curve.weight) == pytest.approx(parts.miscalibration)


def test_many_scores_become_cells_that_keep_the_sums():
    y, p = sample(30_000, 2)
    curve = corp_curve(y, p, n_resamples=20)
    assert 900 <= len(curve) <= 1000
    assert curve.weight.sum() == 30_000
    assert curve.weight @ curve.probability == pytest.approx(p.sum())
    assert curve.weight @ curve.recalibrated == pytest.approx(y.sum())
    expected = IsotonicRegression().fit(p, y).predict(curve.probability)
    assert np.abs(curve.recalibrated - expected).max() < 0.02


def naive_band(p, n_resamples, confidence):
    """Labels row by row, regressions by scikit-learn, one set after the other."""
    rng = np.random.default_rng(4)
    curves = [IsotonicRegression().fit(p, rng.random(p.size) < p).predict(p) for _ in range(n_resamples)]
    return np.quantile(curves, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)


@pytest.mark.parametrize("n", [300, 4000])
def test_band_is_where_a_calibrated_model_lies(n):
    """Rows one by one: exactly the same up to 1,000 scores, nearly so for cells of several."""
    p = np.sort(np.random.default_rng(3).beta(0.5, 1.5, n))
    curve = corp_curve(np.zeros(n), p, n_resamples=800, confidence=0.9)
    low, high = (np.interp(curve.probability, p, end) for end in naive_band(p, 800, 0.9))
    inner = slice(len(curve) // 20, -len(curve) // 20)
    width = (high - low)[inner].mean()
    assert np.abs(curve.band_low - low)[inner].mean() < 0.06 * width
    assert np.abs(curve.band_high - high)[inner].mean() < 0.06 * width


def test_band_holds_a_calibrated_model_and_not_another():
    inside = []
    for truth in (lambda p: p, lambda p: 0.25 + p / 2):
        curve = corp_curve(*sample(5000, 6, truth))
        held = (curve.band_low <= curve.recalibrated) & (curve.recalibrated <= curve.band_high)
        inside.append(np.average(held, weights=curve.weight))
    assert inside[0] > 0.85
    assert inside[1] < 0.4


def test_band_of_weights_counts_labels_not_weight():
    y, p = sample(400, 7)
    plain, scaled = corp_curve(y, p), corp_curve(y, p, sample_weight=np.full(400, 9.0))
    np.testing.assert_allclose(scaled.band_high, plain.band_high, atol=1e-12)
    assert scaled.weight.sum() == pytest.approx(3600)
    uneven = corp_curve(y, p, sample_weight=np.where(np.arange(400) % 20, 1.0, 40.0))
    assert np.mean(uneven.band_high - uneven.band_low) > 1.3 * np.mean(plain.band_high - plain.band_low)


@pytest.mark.parametrize("points", [1, 7, 200])
def test_downsampling_averages_neighbours(points):
    curve = corp_curve(*sample(3000, 8), n_resamples=20)
    few = curve.downsample(points)
    assert len(few) <= points
    assert few.weight.sum() == pytest.approx(curve.weight.sum())
    for name in ("probability", "recalibrated", "band_low", "band_high"):
        assert few.weight @ getattr(few, name) == pytest.approx(curve.weight @ getattr(curve, name))
        assert np.all(np.diff(getattr(few, name)) >= -1e-12)
    assert curve.downsample(len(curve)) is curve


def test_curve_survives_json():
    curve = corp_curve(*sample(200, 9), n_resamples=20)
    assert CorpCurve.from_dict(json.loads(json.dumps(curve.to_dict()))) == curve
    with pytest.raises(StateError, match="got none named 'band_low'"):
        CorpCurve.from_dict({"probability": [0.5], "recalibrated": [0.5]})


def test_seed_says_which_labels():
    y, p = sample(200, 9)
    assert corp_curve(y, p, random_state=3) == corp_curve(y, p, random_state=3)
    assert corp_curve(y, p, random_state=3) != corp_curve(y, p, random_state=4)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: corp_curve([0, 1], [0.4, 0.6], n_resamples=19), r"n_resamples must be a whole number >= 20, got 19\."),
        (lambda: corp_curve([0, 1], [0.4, 0.6], confidence=1), r"confidence must be a number strictly between 0 and 1"),
        (lambda: corp_curve([0, 1], [0.4, 1.6]), r"y_proba must lie in \[0, 1\], got a maximum of 1\.6"),
        (lambda: corp_curve([0, 1], [0.4, 0.6]).downsample(0), r"max_points must be a whole number >= 1, got 0\."),
    ],
)
def test_bad_input_gets_a_sentence(call, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        call()
