"""How far statistics counted on the grid are from the rows they stand for, and what they cost in memory.

The bounds are those that ``docs/user-guide/statistics-at-scale.md`` states.
"""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import expit, logit

from mlflow_caliber import metrics
from mlflow_caliber.calibrators import make_calibrator
from mlflow_caliber.metrics import ScoreStatistics

pytestmark = pytest.mark.slow

SCORES = {
    "uniform": lambda rng, n: rng.uniform(size=n),
    "beta": lambda rng, n: rng.beta(2, 5, n),
    "U-shaped": lambda rng, n: rng.beta(0.3, 0.3, n),
    "over-confident": lambda rng, n: expit(8 * rng.normal(size=n)),
    "rare events": lambda rng, n: np.minimum(np.exp(rng.normal(-7, 1, n)), 0.0099),
    "rare, beta": lambda rng, n: rng.beta(0.8, 200, n),
    "four decimals": lambda rng, n: rng.beta(1, 2, n).round(4),
}
TRUTHS = {
    "calibrated": lambda p: p,
    "slope": lambda p: expit(0.7 * logit(np.clip(p, 1e-12, 1 - 1e-12)) - 0.2 * (p.max() > 0.1)),
    "kink": lambda p: np.where(p < 0.3, p, 0.3 + 0.25 * (p - 0.3)),
}
SIZES = [11_000, 100_000, 1_000_000]
# Of every metric: the greatest difference with so many rows. Where noise is drawn, a hypothesis is tested or a cell is
# cut in two, more rows are no help.
BOUNDS = {
    "ece": (1e-3, 5e-4, 1e-4),
    "ece_upper": (1e-3, 5e-4, 1e-4),
    "ece_null_mean": (5e-4, 2e-4, 5e-5),
    "ece_null_p95": (1e-3, 5e-4, 1e-4),
    "ece_l2_debiased": (1e-3, 1e-3, 1e-3),
    "smooth_ece": (2e-5, 2e-5, 2e-5),
    "spiegelhalter_z": (5e-3, 5e-3, 5e-3),
    "calibration_p": (1e-2, 1e-2, 1e-2),
    "mcb": (1e-4, 5e-5, 2e-5),
    "dsc": (1e-4, 5e-5, 2e-5),
    "aurc": (2e-5, 1e-5, 1e-6),
    "e_aurc": (2e-5, 1e-5, 1e-6),
    "augrc": (1e-5, 5e-6, 1e-6),
    "coverage": (1e-3, 1e-3, 1e-3),
    "selective_risk": (1e-3, 1e-3, 1e-3),
    "abstain_rate": (1e-3, 1e-3, 1e-3),
}
EXACT = ("brier", "log_loss", "unc", "accuracy", "prevalence")
THRESHOLD = 0.8123  # between two edges


def drawn(scores, truth, n, seed):
    rng = np.random.default_rng([n, seed])
    p = SCORES[scores](rng, n)
    return (rng.random(n) < TRUTHS[truth](p)).astype(np.int64), p


def from_rows(y, p):
    confidence, correct = np.maximum(p, 1 - p), (p > 0.5) == y
    given = confidence >= THRESHOLD
    floor = metrics.calibration_error_null(p)
    return {
        "ece": metrics.expected_calibration_error(y, p),
        "ece_upper": metrics.expected_calibration_error_upper(y, p),
        "ece_null_mean": floor.mean,
        "ece_null_p95": floor.p95,
        "ece_l2_debiased": metrics.expected_calibration_error(y, p, norm="l2", debias=True),
        "smooth_ece": metrics.smooth_calibration_error(y, p),
        "spiegelhalter_z": metrics.spiegelhalter_test(y, p).statistic,
        "calibration_p": metrics.calibration_score_test(y, p).p_value,
        "brier": metrics.brier_score(y, p),
        "log_loss": metrics.log_loss(y, p),
        **dict(zip(("mcb", "dsc", "unc"), metrics.brier_decomposition(y, p), strict=True)),
        "aurc": metrics.aurc(confidence, correct),
        "e_aurc": metrics.e_aurc(confidence, correct),
        "augrc": metrics.augrc(confidence, correct),
        "coverage": np.mean(given),
        "selective_risk": 1 - np.mean(correct[given]),
        "abstain_rate": np.mean(~given),
        "accuracy": np.mean(correct),
        "prevalence": np.mean(y),
    }


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("scores", SCORES)
def test_metrics(scores, n):
    for seed, truth in enumerate(TRUTHS if n < SIZES[-1] else ["slope"]):
        y, p = drawn(scores, truth, n, seed)
        statistics = ScoreStatistics.from_rows(y, p, exact_up_to=0)
        expected, found = from_rows(y, p), statistics.metrics(threshold=THRESHOLD)
        for key, bounds in BOUNDS.items():
            assert found[key] == pytest.approx(expected[key], abs=bounds[SIZES.index(n)], rel=0), (key, truth)
        for key in EXACT:
            assert found[key] == pytest.approx(expected[key], abs=1e-13, rel=1e-12), (key, truth)
        # With few positives the AUC moves with each of them; so does, and far more, its sampling error.
        interval = metrics.roc_auc_interval(y, p)
        assert abs(found["roc_auc"] - metrics.roc_auc(y, p)) <= 1e-5 + (interval.high - interval.low) / 200, truth


@pytest.mark.parametrize("scores", SCORES)
def test_intervals(scores):
    """No end moves by more than a twentieth of the interval's width, or 1e-4."""
    y, p = drawn(scores, "slope", 100_000, 1)
    confidence, correct = np.maximum(p, 1 - p), (p > 0.5) == y
    expected = {
        "ece": metrics.expected_calibration_error_interval(y, p),
        "roc_auc": metrics.roc_auc_interval(y, p),
        **metrics.score_intervals(y, p),
        **metrics.selective_intervals(confidence, correct),
    }
    found = ScoreStatistics.from_rows(y, p, exact_up_to=0).intervals()
    for key, interval in expected.items():
        slack = 1e-4 + (interval.high - interval.low) / 20
        assert found[key] == pytest.approx(interval, abs=slack, rel=0), key


@pytest.mark.parametrize("n", SIZES[:2])
@pytest.mark.parametrize("scores", SCORES)
def test_psi(scores, n):
    rng = np.random.default_rng(n)
    p, q = SCORES[scores](rng, n), SCORES[scores](rng, n // 2) ** 1.1
    labels = np.zeros(n)
    exactly, on_grid = (
        ScoreStatistics.from_rows(labels, p, exact_up_to=limit).psi(
            ScoreStatistics.from_rows(labels[: n // 2], q, exact_up_to=limit)
        )
        for limit in (2 * n, 0)
    )
    assert on_grid == pytest.approx(exactly, abs=2e-4, rel=0.01)


def expected_loss(served, truth):
    served = np.clip(served, 1e-6, 1 - 1e-6)
    return -np.mean(truth * np.log(served) + (1 - truth) * np.log1p(-served))


@pytest.mark.parametrize("n", SIZES[:2])
@pytest.mark.parametrize("scores", sorted(SCORES.keys() - {"four decimals"}))
@pytest.mark.parametrize(
    ("name", "mean", "greatest", "loss"),
    [
        ("sigmoid", 1e-5, 1e-3, 1e-5),
        ("beta", 1e-5, 1e-3, 1e-5),
        ("temperature", 1e-5, 1e-3, 1e-5),
        ("isotonic", 2e-3, 0.15, 3e-4),
        ("centered_isotonic", 5e-3, 0.15, 3e-4),
        ("auto", 2e-2, 1.0, 1e-3),  # near a tie between its maps it may take another one: no bound at single scores
    ],
)
def test_fits(name, mean, greatest, loss, scores, n):
    """Of the two fitted maps: mean and greatest distance over fresh scores, and what one loses more than the other."""
    for seed, truth in enumerate(TRUTHS):
        y, p = drawn(scores, truth, n, seed)
        fresh = drawn(scores, truth, 20_000, 99 + seed)[1]
        rows = make_calibrator(name).fit(p, y).predict(fresh)
        statistics = ScoreStatistics.from_rows(y, p, exact_up_to=0)
        cells = make_calibrator(name).fit(*statistics.weighted_rows()).predict(fresh)
        assert np.mean(np.abs(rows - cells)) <= mean
        assert np.max(np.abs(rows - cells)) <= greatest
        q = TRUTHS[truth](fresh)
        assert expected_loss(cells, q) - expected_loss(rows, q) <= loss


REPORT_OF_TEN_MILLION = """
import resource
import numpy as np
from mlflow_caliber.metrics import ScoreStatistics

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def chunk():
    p = rng.beta(0.7, 1.3, 1_000_000)
    return rng.random(1_000_000) < p, p

rng = np.random.default_rng(0)
rows = chunk()
before = peak()
total = ScoreStatistics()
for _ in range(10):
    rows = chunk()
    total.update(*rows)
total.metrics(), total.intervals(), total.reliability_curve(), total.corp_curve(), total.risk_coverage_curve()
print(total.n, peak() - before)
"""


def test_memory_of_ten_million_rows_in_chunks():
    done = subprocess.run([sys.executable, "-c", REPORT_OF_TEN_MILLION], capture_output=True, text=True, check=True)
    n, megabytes = map(float, done.stdout.split())
    assert n == 10_000_000
    assert megabytes < 100
