"""AURC and its relatives: weights as repeated rows, both ways of summing, independent implementations, intervals."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from mlflow_caliber import _cells
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import (
    _risk,
    augrc,
    aurc,
    e_aurc,
    proportion_interval,
    risk_coverage_curve,
    selective_intervals,
)

quick = settings(max_examples=50, deadline=None)
AREAS = {"aurc": aurc, "e_aurc": e_aurc, "augrc": augrc}
of_areas = pytest.mark.parametrize("area", AREAS.values(), ids=AREAS.keys())

# Few distinct values, some of them negative: ties in nearly every example.
ROW = st.tuples(st.integers(-2, 8).map(lambda k: k / 8), st.integers(0, 1), st.integers(0, 4))
ROWS = st.lists(ROW, min_size=1, max_size=40).filter(lambda rows: any(w for _, _, w in rows))


def columns(rows):
    confidence, correct, weight = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    return confidence, correct, weight


def simulated(n, seed, digits=None):
    """Calibrated confidences of a model with an error rate of .28."""
    rng = np.random.default_rng(seed)
    p = 1.0 / (1.0 + np.exp(-rng.normal(-0.1, 1.35, n)))
    confidence = np.maximum(p, 1.0 - p)
    return confidence if digits is None else confidence.round(digits), (rng.random(n) < p) == (p > 0.5)


@of_areas
@quick
@given(rows=ROWS)
def test_weights_are_repeated_rows(area, rows):
    confidence, correct, weight = columns(rows)
    times = weight.astype(int)
    repeated = area(np.repeat(confidence, times), np.repeat(correct, times))
    assert area(confidence, correct, sample_weight=weight) == pytest.approx(repeated, rel=1e-12, abs=1e-14)


@quick
@given(rows=ROWS)
def test_weights_are_repeated_rows_on_the_curve(rows):
    confidence, correct, weight = columns(rows)
    times = weight.astype(int)
    repeated = risk_coverage_curve(np.repeat(confidence, times), np.repeat(correct, times))
    weighted = risk_coverage_curve(confidence, correct, sample_weight=weight)
    assert np.array_equal(weighted.threshold, repeated.threshold)
    np.testing.assert_allclose(weighted.coverage, repeated.coverage, rtol=1e-12)
    np.testing.assert_allclose(weighted.risk, repeated.risk, rtol=1e-12, atol=1e-15)


@of_areas
@quick
@given(rows=ROWS, random=st.randoms(use_true_random=False))
def test_row_order_never_matters(area, rows, random):
    confidence, correct, weight = columns(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    other = columns(shuffled)
    assert area(*other[:2]) == pytest.approx(area(confidence, correct), rel=1e-12, abs=1e-14)
    assert area(*other[:2], sample_weight=other[2]) == pytest.approx(
        area(confidence, correct, sample_weight=weight), rel=1e-12, abs=1e-14
    )


def harmonic(x):
    """H(x) as Euler's integral."""
    return integrate.quad(lambda t: (1.0 - t**x) / (1.0 - t), 0.0, 1.0, epsabs=1e-13)[0]


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.floats(0.1, 5.0)), min_size=1, max_size=8))
def test_parts_of_rows_count_in_part(rows):
    """The definition, group by group, with the harmonic numbers of any real argument from their integral."""
    confidence, correct, weight = columns(rows)
    total, before, errors_before = 0.0, 0.0, 0.0
    for value in np.unique(confidence)[::-1]:
        tied = confidence == value
        mass, errors = weight[tied].sum(), (weight * (1.0 - correct))[tied].sum()
        rate = errors / mass
        total += errors + (errors_before - rate * before) * (harmonic(before + mass) - harmonic(before))
        before, errors_before = before + mass, errors_before + errors
    assert aurc(confidence, correct, sample_weight=weight) == pytest.approx(total / before, rel=1e-8)


def test_augrc_does_not_depend_on_the_scale_of_weights_and_aurc_a_little():
    confidence, correct = simulated(500, 0)
    weight = np.random.default_rng(0).random(500)
    for scale in (1e-200, 0.1, 7.0, 1e90):
        assert augrc(confidence, correct, sample_weight=scale * weight) == pytest.approx(
            augrc(confidence, correct, sample_weight=weight), rel=1e-12
        )
    one_row = aurc(confidence, correct, sample_weight=weight / weight.sum() * 1e-9)
    assert one_row == pytest.approx(np.average(1 - correct, weights=weight), rel=1e-6)
    assert aurc(confidence, correct, sample_weight=np.full(500, 1.0)) == pytest.approx(aurc(confidence, correct))


@pytest.mark.parametrize("digits", [None, 2, 3, 5], ids=str)
def test_rows_and_groups_give_one_answer(digits, monkeypatch):
    monkeypatch.setattr(_risk, "_CHUNK", 64)  # ties across the ends of chunks
    for seed in range(20):
        confidence, correct = simulated(1000 + seed, seed, digits)
        rows = _risk.Rows(_cells.sorted_keys(correct, confidence))
        groups = _risk.groups_of(_cells.tie_groups(correct, confidence, np.ones(correct.size)))
        assert np.array_equal(rows.groups().right, groups.right)
        assert np.array_equal(rows.groups().wrong, groups.wrong)
        np.testing.assert_allclose(_risk.areas(rows), _risk.areas(groups), rtol=1e-13)


@pytest.mark.parametrize("digits", [None, 2, 5], ids=str)
def test_large_data_take_the_way_that_is_fast(digits):
    confidence, correct = simulated(20_000, 3, digits)
    assert isinstance(
        _risk.ranked(confidence, correct.astype(float), None), _risk.Groups if digits == 2 else _risk.Rows
    )
    for area in AREAS.values():
        by_rows, by_groups = area(confidence, correct), area(confidence, correct, sample_weight=np.ones(20_000))
        assert by_rows == pytest.approx(by_groups, rel=1e-12)
        assert area(confidence - 2.0, correct) == pytest.approx(area(confidence - 2.0 + 2.0, correct), rel=1e-9)


@pytest.mark.parametrize("before", [0, 1, 7, 255, 256, 257, 10_000, 10**6])
@pytest.mark.parametrize("mass", [0, 1, 2, 50, 3000])
def test_differences_of_harmonic_numbers(before, mass):
    exact = float(sum(Fraction(1, j) for j in range(before + 1, before + mass + 1))) if mass <= 50 else None
    expected = math.fsum(1.0 / j for j in range(before + 1, before + mass + 1)) if exact is None else exact
    found = _risk.harmonic_gap(np.array([float(before)]), np.array([float(mass)]))[0]
    assert found == pytest.approx(expected, rel=1e-13 if before >= 256 else 1e-12, abs=1e-15)


@quick
@given(seed=st.integers(0, 1000), n=st.integers(1, 300))
def test_mapie_agrees_where_nothing_ties(seed, n):
    uncertainty = pytest.importorskip("mapie.metrics.uncertainty")
    confidence, correct = simulated(n, seed)
    assert aurc(confidence, correct) == pytest.approx(1.0 - uncertainty.auarc(correct.astype(int), confidence))


def test_the_oracle_of_e_aurc():
    _, correct = simulated(777, 5)
    ideal = np.sort(correct)[::-1]
    by_hand = np.mean(np.cumsum(1 - ideal) / np.arange(1, 778))
    assert aurc(correct.astype(float), correct) == pytest.approx(by_hand, rel=1e-13)
    confidence = np.random.default_rng(1).random(777)
    assert e_aurc(confidence, correct) == pytest.approx(aurc(confidence, correct) - by_hand, rel=1e-12)


def naive_bootstrap(confidence, correct, n_resamples=400):
    rng = np.random.default_rng(9)
    draws = rng.integers(0, confidence.size, (n_resamples, confidence.size))
    return {key: np.std([area(confidence[rows], correct[rows]) for rows in draws]) for key, area in AREAS.items()}


@pytest.mark.parametrize("digits", [None, 1], ids=str)
def test_the_spread_is_that_of_the_naive_bootstrap(digits):
    confidence, correct = simulated(400, 11, digits)
    naive = naive_bootstrap(confidence, correct)
    for key, interval in selective_intervals(confidence, correct, n_resamples=2000).items():
        estimate, top = AREAS[key](confidence, correct), 0.5 if key == "augrc" else 1.0
        low, high = (math.log(end / (top - end)) for end in interval)
        middle = math.log(estimate / (top - estimate))
        assert (low + high) / 2 == pytest.approx(middle, abs=1e-9)  # centred on the estimate
        spread = (high - low) / 2 / 1.959964 * estimate * (1 - estimate / top)
        assert spread == pytest.approx(naive[key], rel=0.12)


@quick
@given(rows=ROWS, level=st.sampled_from([0.5, 0.95]))
def test_intervals_hold_their_estimates_and_stay_in_range(rows, level):
    confidence, correct, weight = columns(rows)
    for weights in (None, weight, weight * 0.01):
        found = selective_intervals(
            confidence, correct, confidence_level=level, n_resamples=50, sample_weight=weights, random_state=1
        )
        for key, (low, high) in found.items():
            estimate = AREAS[key](confidence, correct, sample_weight=weights)
            assert -1e-12 <= low <= estimate + 1e-9
            assert estimate - 1e-9 <= high <= (0.5 if key == "augrc" else 1.0)


def test_equal_weights_do_not_sharpen_intervals():
    confidence, correct = simulated(300, 2)
    plain = selective_intervals(confidence, correct)["augrc"]
    for weight in (np.full(300, 0.01), np.full(300, 50.0)):
        assert selective_intervals(confidence, correct, sample_weight=weight)["augrc"] == pytest.approx(plain)
    uneven = np.where(np.arange(300) % 10 == 0, 100.0, 1.0)
    low, high = selective_intervals(confidence, correct, sample_weight=uneven)["augrc"]
    assert high - low > 2 * (plain.high - plain.low)


def test_no_error_is_no_certainty():
    """About as wide as the exact interval of the error rate of a confidence that says nothing."""
    confidence = np.linspace(0.5, 0.9, 100)
    found = selective_intervals(confidence, np.ones(100))
    upper = proportion_interval(0, 100).high
    assert found["aurc"].low == found["e_aurc"].low == found["augrc"].low == 0.0
    assert 0.5 * upper < found["aurc"].high < 1.5 * upper
    assert selective_intervals(confidence, np.zeros(100))["aurc"].high == 1.0
    one = selective_intervals(confidence, np.arange(100) > 0)["augrc"]  # one error, where confidence is least
    assert one.high < 0.04
    assert selective_intervals([0.7], [1])["aurc"] == (0.0, 1.0)


def test_intervals_are_seeded_and_shrink():
    confidence, correct = simulated(10_000, 4)
    first = selective_intervals(confidence, correct)
    assert first == selective_intervals(confidence, correct)
    assert first != selective_intervals(confidence, correct, random_state=1)
    small = selective_intervals(confidence[:400], correct[:400])
    for key in AREAS:
        ratio = (small[key].high - small[key].low) / (first[key].high - first[key].low)
        assert ratio == pytest.approx(5.0, rel=0.3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sample_weight": [1.0]}, r"sample_weight must have one value a row, got 1 values for 2 rows\."),
        ({"sample_weight": [-1.0, 1.0]}, r"sample_weight must not be negative, got a minimum of -1\."),
        ({"sample_weight": [0.0, 0.0]}, r"sample_weight must hold at least one positive value, got only zeros\."),
    ],
)
@pytest.mark.parametrize("function", [*AREAS.values(), risk_coverage_curve, selective_intervals])
def test_bad_weights_get_a_sentence(function, arguments, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        function([0.5, 0.6], [0, 1], **arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"confidence_level": 1.0}, r"confidence_level must be a number strictly between 0 and 1, got 1\."),
        ({"n_resamples": 1}, r"n_resamples must be a whole number >= 2, got 1\."),
    ],
)
def test_bad_intervals_get_a_sentence(arguments, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        selective_intervals([0.5, 0.6], [0, 1], **arguments)
