"""The segmented calibrator: one map a segment, shrunk to the pooled one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logit
from sklearn.base import clone

from mlflow_caliber.calibrators import calibrator_from_dict, make_calibrator
from mlflow_caliber.exceptions import InvalidInputError, OneClassError

GRID = np.linspace(0.0, 1.0, 41)


def rows(n, seed, slopes):
    rng = np.random.default_rng(seed)
    segment = rng.choice(list(slopes), n)
    scores = rng.random(n)
    truth = expit(np.array([slopes[name] for name in segment]) * logit(scores))
    return scores, (rng.random(n) < truth).astype(int), segment


def test_segments_that_differ_get_their_own_map():
    slopes = {"north": 0.4, "south": 2.0}
    scores, y, segment = rows(4000, 0, slopes)
    calibrator = make_calibrator("segmented").fit(scores, y, segment=segment)
    inside = GRID[4:-4]
    for name, slope in slopes.items():
        assert_allclose(calibrator.predict(inside, segment=name), expit(slope * logit(inside)), atol=0.07)


def test_segments_that_agree_stay_at_the_pooled_map():
    scores, y, segment = rows(2000, 1, dict.fromkeys("abcdefgh", 0.6))
    calibrator = make_calibrator("segmented").fit(scores, y, segment=segment)
    for name in "abcdefgh":
        assert_allclose(calibrator.predict(GRID, segment=name), calibrator.predict(GRID), atol=0.06)


def test_unknown_and_missing_segments_get_the_pooled_map():
    scores, y, segment = rows(1000, 2, {"a": 0.5, "b": 1.5})
    calibrator = make_calibrator("segmented", method="sigmoid").fit(scores, y, segment=segment)
    pooled = make_calibrator("sigmoid").fit(scores, y).predict(GRID)
    assert_array_equal(calibrator.predict(GRID), pooled)
    assert_array_equal(calibrator.predict(GRID, segment="elsewhere"), pooled)
    assert_array_equal(calibrator.predict(GRID, segment=[None] * GRID.size), pooled)


def test_a_segment_of_one_class_is_fitted_and_shrunk():
    scores, y, segment = rows(1000, 3, {"a": 1.0})
    segment = segment.astype(object)
    few = np.flatnonzero(y == 1)[:5]
    segment[few] = "lucky"
    calibrator = make_calibrator("segmented").fit(scores, y, segment=segment)
    lucky = calibrator.predict(GRID, segment="lucky")
    assert np.all(np.isfinite(lucky))
    assert np.all(np.diff(lucky) >= 0.0)
    assert lucky[20] < 0.95  # five rows are no proof


@pytest.mark.parametrize("shrinkage", ["auto", 8.0])
def test_weights_act_as_repeated_rows_and_order_does_not_matter(shrinkage):
    scores, y, segment = rows(300, 4, {"a": 0.5, "b": 1.5})
    weight = np.random.default_rng(0).integers(0, 4, 300)
    calibrator = make_calibrator("segmented", method="sigmoid", shrinkage=shrinkage)
    weighted = clone(calibrator).fit(scores, y, weight, segment=segment)
    order = np.random.default_rng(1).permutation(weight.sum())
    repeated = [np.repeat(column, weight)[order] for column in (scores, y, segment)]
    again = clone(calibrator).fit(repeated[0], repeated[1], segment=repeated[2])
    for name in ("a", "b"):
        assert_allclose(weighted.predict(GRID, segment=name), again.predict(GRID, segment=name), atol=1e-8)


def test_strong_shrinkage_is_the_pooled_map():
    scores, y, segment = rows(1000, 5, {"a": 0.3, "b": 2.5})
    calibrator = make_calibrator("segmented", shrinkage=1e9).fit(scores, y, segment=segment)
    assert_allclose(calibrator.predict(GRID[1:-1], segment="a"), calibrator.predict(GRID[1:-1]), atol=1e-5)


def test_saved_form_is_json_and_keeps_every_bit():
    scores, y, segment = rows(500, 6, {"a": 0.5, "b": 1.5})
    calibrator = make_calibrator("segmented").fit(scores, y, segment=segment)
    text = json.dumps(calibrator.to_dict(), allow_nan=False)
    restored = calibrator_from_dict(json.loads(text))
    for name in ("a", "b", "c"):
        assert_array_equal(restored.predict(GRID, segment=name), calibrator.predict(GRID, segment=name))
    assert json.dumps(restored.to_dict()) == text


def test_what_is_refused():
    with pytest.raises(InvalidInputError, match="The segmented calibrator needs the segment of each row"):
        make_calibrator("segmented").fit([0.2, 0.8], [0, 1])
    with pytest.raises(InvalidInputError, match="segment must have one value a row, got 1 values for 2 rows"):
        make_calibrator("segmented").fit([0.2, 0.8], [0, 1], segment=["a"])
    with pytest.raises(OneClassError, match="needs both classes"):
        make_calibrator("segmented").fit([0.2, 0.8], [1, 1], segment=["a", "b"])
    with pytest.raises(InvalidInputError, match="shrinkage must be a finite number of at least 1e-06, got 0"):
        make_calibrator("segmented", shrinkage=0.0).fit([0.2, 0.8], [0, 1], segment="a")
    with pytest.raises(InvalidInputError, match="method must be one of auto"):
        make_calibrator("segmented", method="segmented").fit([0.2, 0.8], [0, 1], segment="a")


def test_segments_are_named_alike_whatever_their_type_and_company():
    rng = np.random.default_rng(0)
    scores, region = rng.random(900), rng.integers(1, 4, 900)
    y = rng.random(900) < scores ** np.array([0, 0.5, 1.0, 2.0])[region]
    calibrator = make_calibrator("segmented").fit(scores, y, segment=region)
    assert list(calibrator.segments_) == ["1", "2", "3"]
    same = make_calibrator("segmented").fit(scores, y, segment=region.astype(float))
    assert same.to_dict() == calibrator.to_dict()
    mixed = np.array([1, 1.0, "1", np.float64(1), np.int8(1), True, None], dtype=object)
    answers = calibrator.predict(np.full(7, 0.5), segment=mixed)
    pooled, first = calibrator.predict([0.5])[0], calibrator.predict([0.5], segment="1")[0]
    assert answers.tolist() == [first] * 5 + [pooled] * 2
    assert calibrator.predict(np.full(7, 0.5), segment=mixed[::-1]).tolist() == answers[::-1].tolist()


def test_a_segment_that_no_utf8_can_hold_is_a_segment():
    calibrator = make_calibrator("segmented").fit([0.2, 0.8, 0.4, 0.6], [0, 1, 0, 1], segment=["a", "a", "\ud800", "b"])
    assert "\ud800" in calibrator.segments_
