"""Venn-ABERS: its interval, by golden values and against the package of the method's authors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.isotonic import IsotonicRegression
from venn_abers import VennAbers

from mlflow_caliber.calibrators import make_calibrator

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=2, max_size=40)


def test_sixteen_rows(sixteen):
    low, high = make_calibrator("venn_abers").fit(*sixteen).predict_interval([0.5, 0.82])
    assert_allclose(low, [0.25, 0.6], atol=1e-12)
    assert_allclose(high, [2 / 3, 0.8], atol=1e-12)


def test_thousand_rows(thousand):
    # Computed independently, by isotonic regression of the rows with one more.
    low, high = make_calibrator("venn_abers").fit(*thousand).predict_interval([0, 0.1, 0.25, 0.5, 0.7505, 0.9, 1])
    assert_allclose(
        low,
        [0, 0.037037037037, 0.142857142857, 0.510638297872, 0.819444444444, 0.938775510204, 0.990740740741],
        atol=1e-11,
    )
    assert_allclose(
        high, [0.010752688172, 0.071428571429, 0.166666666667, 0.531914893617, 0.838709677419, 1, 1], atol=1e-11
    )


@given(ROWS)
def test_interval_is_isotonic_regression_with_the_row_as_zero_and_as_one(rows):
    y, score = (np.array(column) for column in zip(*rows, strict=True))
    assume(0 < y.sum() < y.size)
    scores, asked = score / 12, np.arange(25) / 24
    ends = make_calibrator("venn_abers").fit(scores, y).predict_interval(asked)
    for label, end in enumerate(ends):
        for s, found in zip(asked, end, strict=True):
            refitted = IsotonicRegression().fit(np.append(scores, s), np.append(y, label))
            assert found == pytest.approx(refitted.predict([s])[0], abs=1e-9)


@pytest.mark.filterwarnings("ignore:All-NaN slice encountered:RuntimeWarning")
@given(ROWS)
def test_agrees_with_the_authors_package_at_the_scores_of_the_data(rows):
    y, score = (np.array(column) for column in zip(*rows, strict=True))
    assume(0 < y.sum() < y.size)
    scores = score / 12
    theirs = VennAbers()
    theirs.fit(np.column_stack([1 - scores, scores]), y)
    probability, ends = theirs.predict_proba(np.column_stack([1 - scores, scores]))
    ours = make_calibrator("venn_abers").fit(scores, y)
    known = np.isfinite(ends).all(axis=1)  # of few scores theirs has no answer at some
    assume(known.any())
    assert_allclose(np.column_stack(ours.predict_interval(scores))[known], ends[known], atol=1e-9)
    assert_allclose(ours.predict(scores)[known], probability[known, 1], atol=1e-9)
