"""The broken line that isotonic maps are read from: quick, the same for one row and many, and never decreasing."""

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from mlflow_caliber.calibrators import calibrator_from_dict, make_calibrator
from mlflow_caliber.calibrators._line import BrokenLine

UNIT = st.floats(0.0, 1.0)


@st.composite
def lines(draw):
    x = sorted(draw(st.sets(UNIT.map(abs), min_size=1, max_size=12)))
    y = sorted(draw(st.lists(UNIT.map(abs), min_size=len(x), max_size=len(x))))
    return BrokenLine(np.array(x), np.array(y))


def around(line):
    """Knots, their neighbours among floats, middles, both ends of the scale: in order."""
    x = line.x
    return np.sort(np.r_[x, np.nextafter(x, 0.0), np.nextafter(x, 1.0), (x[1:] + x[:-1]) / 2, 0.0, 1.0, 0.37])


@settings(max_examples=300, deadline=None)
@given(line=lines())
def test_never_decreases_and_stays_between_its_ends(line):
    p = line.at_all(around(line))
    assert np.all(np.diff(p) >= 0.0)
    assert p.min() >= line.y[0]
    assert p.max() <= line.y[-1]


@settings(max_examples=300, deadline=None)
@given(line=lines())
def test_one_score_gets_the_bits_of_many(line):
    scores = around(line)
    few = line.at_all(scores)
    assert_array_equal([line.at(s) for s in scores.tolist()], few)
    assert_array_equal(line.at_all(np.tile(scores, 2000))[: scores.size], few)


@settings(max_examples=200, deadline=None)
@given(k=st.integers(2, 400), seed=st.integers(0, 2**32 - 1))
def test_is_numpys_interpolation(k, seed):
    rng = np.random.default_rng(seed)
    x, y = np.unique(rng.random(k)), np.sort(rng.random(k))
    line = BrokenLine(x, y[: x.size])
    scores = np.r_[x, rng.random(5000)]
    assert_allclose(line.at_all(scores), np.interp(scores, line.x, line.y), rtol=4e-16, atol=0)


@pytest.mark.parametrize("name", ["isotonic", "centered_isotonic", "auto"])
def test_what_is_cached_is_neither_stored_nor_copied(name):
    rng = np.random.default_rng(0)
    scores = rng.random(3000)
    calibrator = make_calibrator(name).fit(scores, (rng.random(3000) < scores).astype(int))
    before = len(pickle.dumps(calibrator)), json.dumps(calibrator.to_dict()), calibrator.get_params()
    many = rng.random(20_000)
    p = calibrator.predict(many)
    assert calibrator.predict(many[:1])[0] == p[0]
    assert (len(pickle.dumps(calibrator)), json.dumps(calibrator.to_dict()), calibrator.get_params()) == before
    saved = calibrator_from_dict(json.loads(before[1]))
    for other in (pickle.loads(pickle.dumps(calibrator)), copy.deepcopy(calibrator), saved):
        assert_array_equal(other.predict(many), p)
        assert other.predict(many[:1])[0] == p[0]
    assert not hasattr(clone(calibrator), "n_samples_")
