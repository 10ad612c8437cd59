"""What is read off statistics: metrics, intervals, curves, shifts and fits, as from the rows."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merged_statistics import PROBABILITIES, ROWS, columns, many_scores, of, quick
from mlflow_caliber import metrics
from mlflow_caliber.calibrators import make_calibrator
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import METRICS, ScoreStatistics
from mlflow_caliber.metrics._statistics import EXACT_UP_TO

THRESHOLD = 0.8


def from_rows(y, p, w=None, *, n_bins=10, strategy="quantile"):
    """The metrics that statistics give, from rows."""
    binning = {"n_bins": n_bins, "sample_weight": w}
    confidence, correct = np.maximum(p, 1 - p), ((p > 0.5) == y).astype(float)
    given = confidence >= THRESHOLD
    weights = np.ones_like(p) if w is None else w
    values = {
        "ece": metrics.expected_calibration_error(y, p, strategy=strategy, **binning),
        "ece_upper": metrics.expected_calibration_error_upper(y, p, **binning),
        "ece_l2_debiased": metrics.expected_calibration_error(y, p, norm="l2", debias=True, **binning),
        "smooth_ece": metrics.smooth_calibration_error(y, p, sample_weight=w),
        "spiegelhalter_z": metrics.spiegelhalter_test(y, p, sample_weight=w).statistic,
        "calibration_p": metrics.calibration_score_test(y, p, sample_weight=w).p_value,
        "brier": metrics.brier_score(y, p, sample_weight=w),
        "log_loss": metrics.log_loss(y, p, sample_weight=w),
        **dict(zip(("mcb", "dsc", "unc"), metrics.brier_decomposition(y, p, sample_weight=w), strict=True)),
        "aurc": metrics.aurc(confidence, correct, sample_weight=w),
        "e_aurc": metrics.e_aurc(confidence, correct, sample_weight=w),
        "augrc": metrics.augrc(confidence, correct, sample_weight=w),
        "coverage": np.average(given, weights=weights),
        "abstain_rate": np.average(~given, weights=weights),
        "accuracy": np.average(correct, weights=weights),
        "prevalence": np.average(y, weights=weights),
    }
    if weights[given].sum():
        values["selective_risk"] = np.average(1 - correct[given], weights=weights[given])
    if 0 < values["prevalence"] < 1:
        values["roc_auc"] = metrics.roc_auc(y, p, sample_weight=w)
    return values


def intervals_from_rows(y, p, w=None):
    confidence, correct = np.maximum(p, 1 - p), (p > 0.5) == y
    return {
        "ece": metrics.expected_calibration_error_interval(y, p, sample_weight=w),
        "roc_auc": metrics.roc_auc_interval(y, p, sample_weight=w),
        **metrics.score_intervals(y, p, sample_weight=w),
        **metrics.selective_intervals(confidence, correct, sample_weight=w),
    }


def assert_metrics(statistics, expected, **kwargs):
    found = statistics.metrics(threshold=THRESHOLD, **kwargs)
    noise_floor = {"ece_null_mean", "ece_null_p95"}
    assert found.keys() - noise_floor == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-9, abs=1e-7), key


class TestReading:
    @pytest.mark.parametrize("weighted", [False, True])
    @quick
    @given(rows=ROWS.filter(lambda rows: any(w for *_, w in rows)), strategy=st.sampled_from(["quantile", "uniform"]))
    def test_few_scores_give_the_metrics_of_the_rows(self, rows, weighted, strategy):
        y, p, w = columns(rows)
        expected = from_rows(y, p, w if weighted else None, strategy=strategy)
        assert_metrics(of(rows, weighted=weighted), expected, strategy=strategy)

    @pytest.mark.parametrize("n_bins", [10, 15, 20])
    @pytest.mark.parametrize("strategy", ["quantile", "uniform"])
    def test_the_grid_gives_them_for_scores_of_three_decimals(self, n_bins, strategy):
        y, p = many_scores(3000)
        p = p.round(3)
        statistics = ScoreStatistics.from_rows(y, p, exact_up_to=0)
        assert not statistics.exact
        expected = from_rows(y, p, n_bins=n_bins, strategy=strategy)
        assert_metrics(statistics, expected, n_bins=n_bins, strategy=strategy)

    @pytest.mark.parametrize("n_bins", [2, 10, 15, 20, 100])
    def test_the_grid_is_exact_in_what_lies_on_it(self, n_bins):
        y, p = many_scores(20_000)
        p[:300] = np.repeat([0.0, 0.5, 1.0], 100)
        statistics = ScoreStatistics.from_rows(y, p, exact_up_to=0)
        expected = from_rows(y, p, n_bins=n_bins, strategy="uniform")
        found = statistics.metrics(n_bins=n_bins, strategy="uniform", threshold=THRESHOLD)
        exact = {
            "ece",
            "brier",
            "log_loss",
            "unc",
            "accuracy",
            "coverage",
            "selective_risk",
            "abstain_rate",
            "prevalence",
        }
        for key in exact:
            assert found[key] == pytest.approx(expected[key], abs=1e-13), key
        histogram = np.histogram(p, np.arange(n_bins + 1) / n_bins)[0]
        np.testing.assert_array_equal(statistics.histogram(n_bins), histogram)
        curve = metrics.reliability_curve(y, p, n_bins=n_bins, strategy="uniform")
        ours = statistics.reliability_curve(n_bins=n_bins, strategy="uniform")
        np.testing.assert_array_equal(ours.count, curve.count)
        for field in ("lower_edge", "mean_predicted", "mean_observed", "interval_low", "interval_high"):
            np.testing.assert_allclose(getattr(ours, field), getattr(curve, field), rtol=1e-11, atol=1e-15)

    @pytest.mark.parametrize("threshold", [0.5, 0.6, 0.666, 0.7, 0.93, 0.999, 1.0])
    def test_decisions_at_three_decimals_are_exact(self, threshold):
        rng = np.random.default_rng(4)
        p = np.where(rng.random(4000) < 0.5, rng.uniform(size=4000), rng.integers(0, 1001, 4000) / 1000)
        y = rng.random(4000) < p
        given = np.maximum(p, 1 - p) >= threshold
        found = ScoreStatistics.from_rows(y, p, exact_up_to=0).metrics(threshold=threshold)
        assert found["coverage"] == np.mean(given)
        assert found["abstain_rate"] == pytest.approx(np.mean(~given), abs=1e-15)
        assert found["selective_risk"] == pytest.approx(np.mean((p > 0.5)[given] != y[given]), abs=1e-15)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_intervals_are_those_of_the_rows(self, weighted):
        y, p = many_scores(4000)
        w = np.random.default_rng(3).gamma(2.0, 1.0, y.size) if weighted else None
        p = p.round(3)
        expected = intervals_from_rows(y, p, w)
        for limit in (0, EXACT_UP_TO):
            statistics = ScoreStatistics.from_rows(y, p, sample_weight=w, exact_up_to=limit)
            found, values = statistics.intervals(), statistics.metrics()
            for key, interval in expected.items():
                assert found[key] == pytest.approx(interval, abs=1e-9), key
            assert found.keys() - expected.keys() == {
                "coverage",
                "selective_risk",
                "abstain_rate",
                "accuracy",
                "prevalence",
            }
            for key, (low, high) in found.items():
                assert low <= values[key] <= high, key

    def test_intervals_of_shares(self):
        statistics = ScoreStatistics.from_rows([1, 0, 1, 1], [0.9, 0.8, 0.6, 0.3])
        found = statistics.intervals(threshold=0.75, confidence=0.9)
        assert found["selective_risk"] == metrics.proportion_interval(1, 2, confidence=0.9)
        assert found["coverage"] == found["abstain_rate"] == metrics.proportion_interval(2, 4, confidence=0.9)
        assert found["prevalence"] == metrics.proportion_interval(3, 4, confidence=0.9)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_curves_are_those_of_the_rows(self, weighted):
        y, p = many_scores(4000)
        w = np.random.default_rng(3).gamma(2.0, 1.0, y.size) if weighted else None
        statistics = ScoreStatistics.from_rows(y, p, sample_weight=w)
        confidence, correct = np.maximum(p, 1 - p), (p > 0.5) == y
        for ours, theirs in (
            (statistics.reliability_curve(), metrics.reliability_curve(y, p, sample_weight=w)),
            (statistics.corp_curve(), metrics.corp_curve(y, p, sample_weight=w)),
            (statistics.risk_coverage_curve(), metrics.risk_coverage_curve(confidence, correct, sample_weight=w)),
        ):
            assert len(ours) == len(theirs)
            for name, column in ours.to_dict().items():
                np.testing.assert_allclose(column, getattr(theirs, name), rtol=1e-9, atol=1e-12)

    def test_noise_floor_is_that_of_the_rows(self):
        y, p = many_scores(2000)
        found = ScoreStatistics.from_rows(y, p).metrics(random_state=5)
        floor = metrics.calibration_error_null(p, random_state=5)
        assert (found["ece_null_mean"], found["ece_null_p95"]) == pytest.approx(floor)

    def test_winning_classes(self):
        rng = np.random.default_rng(0)
        proba = rng.dirichlet([1, 1, 1], 500)
        y = rng.integers(0, 3, 500)
        confidence, correct = proba.max(axis=1), proba.argmax(axis=1) == y
        statistics = ScoreStatistics.from_rows(correct, confidence)
        found, intervals = statistics.metrics(top_label=True), statistics.intervals(top_label=True)
        assert found["ece"] == pytest.approx(metrics.top_label_calibration_error(y, proba))
        assert found["aurc"] == pytest.approx(metrics.aurc(confidence, correct))
        assert found["accuracy"] == pytest.approx(correct.mean())
        assert intervals["accuracy"] == pytest.approx(metrics.proportion_interval(correct.sum(), 500))
        assert not {"brier", "log_loss", "roc_auc", "prevalence"} & (found.keys() | intervals.keys())
        curve = metrics.risk_coverage_curve(confidence, correct)
        np.testing.assert_allclose(statistics.risk_coverage_curve(top_label=True).risk, curve.risk, atol=1e-15)

    def test_one_class_is_said(self):
        measured = ScoreStatistics.from_rows([1, 1, 1], [0.2, 0.7, 1.0]).measure(threshold=1.0)
        assert measured.not_computed == {"roc_auc": "roc_auc needs both classes, got only class 1 in 3 rows."}
        assert measured.metrics.keys() | measured.not_computed.keys() == METRICS.keys() - {
            "classwise_ece",
            "classwise_ece_max",
            "drift_share",
        }
        assert "roc_auc" not in ScoreStatistics.from_rows([0], [0.5]).intervals()

    def test_everything_withheld_is_said(self):
        measured = ScoreStatistics.from_rows([1, 0], [0.6, 0.5]).measure(threshold=0.9)
        assert measured.not_computed == {
            "selective_risk": "selective_risk needs an answered row, got none: all are withheld."
        }
        assert measured.metrics["coverage"] == 0.0

    @pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("label", [0, 1])
    def test_a_single_row(self, p, label):
        found = ScoreStatistics.from_rows([label], [p]).metrics()
        assert found["accuracy"] == float((p > 0.5) == label)
        assert found["brier"] == (p - label) ** 2
        assert found["ece"] == abs(p - label)
        assert all(low <= found[key] <= high for key, (low, high) in of([(label, p, 1)]).intervals().items())

    def test_weights_that_differ_are_told_from_equal_ones(self):
        y, p = many_scores(500)
        assert not ScoreStatistics.from_rows(y, p).weighted
        assert not ScoreStatistics.from_rows(y, p, sample_weight=np.full(500, 0.1)).weighted
        assert ScoreStatistics.from_rows(y, p, sample_weight=np.linspace(1, 1.001, 500)).weighted

    @pytest.mark.parametrize(
        ("question", "sentence"),
        [
            (lambda s: s.metrics(n_bins=0), r"n_bins must be a whole number >= 1, got 0\."),
            (lambda s: s.metrics(strategy="mass"), r"strategy must be one of quantile, uniform, got 'mass'\."),
            (lambda s: s.metrics(threshold=1.5), r"threshold must be a number in \[0, 1\], got 1\.5\."),
            (lambda s: s.measure(top_label="yes"), r"top_label must be True or False, got 'yes'\."),
            (lambda s: s.intervals(confidence=1.0), r"confidence must be a number strictly between 0 and 1, got 1\."),
            (lambda s: s.reliability_curve(strategy="mass"), r"strategy must be one of quantile, uniform"),
            (lambda s: s.corp_curve(n_resamples=2), r"n_resamples must be a whole number >= 20, got 2\."),
            (lambda s: s.histogram(0), r"n_bins must be a whole number >= 1, got 0\."),
            (lambda s: s.psi(s, n_bins=0), r"n_bins must be a whole number >= 1, got 0\."),
            (lambda s: ScoreStatistics(exact_up_to=-1), r"exact_up_to must be a whole number >= 0, got -1\."),
        ],
    )
    def test_impossible_questions_get_a_sentence(self, question, sentence):
        with pytest.raises(InvalidInputError, match=sentence):
            question(of([(1, 0.3, 1)]))

    @pytest.mark.parametrize(
        "ask", ["metrics", "intervals", "reliability_curve", "corp_curve", "histogram", "weighted_rows"]
    )
    def test_nothing_seen_is_said(self, ask):
        with pytest.raises(InvalidInputError, match=r"must have seen a row of positive weight, got none so far\."):
            getattr(ScoreStatistics(), ask)()


def naive_psi(reference, current, n_bins):
    """In a loop: bins of equal mass that split no ties, a tie going where its middle lies."""
    values, counts = np.unique(reference, return_counts=True)
    before, lowest = 0, {}
    for value, count in zip(values, counts, strict=True):
        k = min(int((before + count / 2) * n_bins / reference.size + 1e-9), n_bins - 1)
        lowest.setdefault(k, value)
        before += count
    edges = [-np.inf, *list(lowest.values())[1:], np.inf]
    total = 0.0
    for low, high in itertools.pairwise(edges):
        e = (np.sum((reference >= low) & (reference < high)) + 0.5) / (reference.size + 0.5 * len(lowest))
        a = (np.sum((current >= low) & (current < high)) + 0.5) / (current.size + 0.5 * len(lowest))
        total += (a - e) * math.log(a / e)
    return total


class TestShift:
    @quick
    @given(
        reference=st.lists(PROBABILITIES, min_size=1, max_size=40),
        current=st.lists(PROBABILITIES, min_size=1, max_size=40),
        n_bins=st.integers(1, 12),
    )
    def test_psi_is_the_naive_one(self, reference, current, n_bins):
        a, b = (ScoreStatistics.from_rows(np.zeros(len(p)), p) for p in (reference, current))
        expected = naive_psi(np.array(reference), np.array(current), n_bins)
        assert a.psi(b, n_bins=n_bins) == pytest.approx(expected, abs=1e-12)
        assert a.psi(a, n_bins=n_bins) == 0.0

    @pytest.mark.parametrize("grids", [(0, EXACT_UP_TO), (EXACT_UP_TO, 0), (0, 0)])
    def test_psi_on_the_grid_is_exact_for_three_decimals(self, grids):
        p, q = (many_scores(5000, seed)[1].round(3) for seed in (0, 1))
        a, b = (
            ScoreStatistics.from_rows(np.zeros(p.size), scores, exact_up_to=limit)
            for scores, limit in zip((p, q**1.1), grids, strict=True)
        )
        assert a.psi(b) == pytest.approx(naive_psi(p, q**1.1, 10), abs=2e-4)
        c = ScoreStatistics.from_rows(np.zeros(q.size), q, exact_up_to=grids[1])
        assert a.psi(c) == pytest.approx(naive_psi(p, q, 10), abs=1e-12)

    def test_equal_weights_change_nothing_and_unequal_ones_count(self):
        p, q = many_scores(300, 0)[1], many_scores(300, 1)[1]
        a, b = (ScoreStatistics.from_rows(np.zeros(300), scores) for scores in (p, q))
        c = ScoreStatistics.from_rows(np.zeros(300), q, sample_weight=np.full(300, 7.0))
        d = ScoreStatistics.from_rows(np.zeros(300), q, sample_weight=np.where(q > 0.5, 9.0, 1.0))
        assert a.psi(c) == pytest.approx(a.psi(b))
        assert a.psi(d) > 2 * a.psi(b)

    def test_psi_needs_rows_on_both_sides(self):
        for a, b in ((ScoreStatistics(), of([(1, 0.3, 1)])), (of([(1, 0.3, 1)]), ScoreStatistics())):
            with pytest.raises(InvalidInputError, match=r"must have seen a row"):
                a.psi(b)


class TestFits:
    """Calibrators fitted to the rows that stand for all."""

    @pytest.mark.parametrize("name", ["isotonic", "centered_isotonic", "sigmoid", "beta", "temperature", "auto"])
    @pytest.mark.parametrize("digits", [3, 16])
    def test_few_scores_give_the_fit_of_the_rows(self, name, digits):
        y, p = many_scores(5000)
        p = p.round(digits)
        statistics = ScoreStatistics.from_rows(y, p, exact_up_to=0 if digits == 3 else EXACT_UP_TO)
        x = np.linspace(0, 1, 301)
        expected = make_calibrator(name).fit(p, y).predict(x)
        found = make_calibrator(name).fit(*statistics.weighted_rows()).predict(x)
        np.testing.assert_allclose(found, expected, atol=1e-8)

    @pytest.mark.parametrize(("name", "tolerance"), [("sigmoid", 1e-4), ("beta", 1e-4), ("temperature", 1e-4)])
    def test_many_scores_give_nearly_the_same_parametric_fit(self, name, tolerance):
        y, p = many_scores()
        x = np.linspace(0, 1, 301)
        expected = make_calibrator(name).fit(p, y).predict(x)
        found = make_calibrator(name).fit(*ScoreStatistics.from_rows(y, p).weighted_rows()).predict(x)
        np.testing.assert_allclose(found, expected, atol=tolerance)
