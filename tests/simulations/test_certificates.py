"""How often certificates are wrong, how much they leave answered, and how often intervals of risk-coverage areas cover.

Run with ``-s`` to see the tables that docs/user-guide/abstain.md prints. Scores: z ~ N(-0.1, s^2), p = sigmoid(z), the
label is drawn from Bernoulli(p), and the confidence in the more likely label is max(p, 1 - p). Certificates take
s = 2.7, intervals s = 1.35.
"""

import math

import numpy as np
import pytest
from scipy import stats

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.metrics import augrc, aurc, e_aurc, selective_intervals

pytestmark = pytest.mark.slow

REPLICATES = 400


def draw(rng, n, spread=2.7):
    p = 1.0 / (1.0 + np.exp(-rng.normal(-0.1, spread, n)))
    return np.maximum(p, 1.0 - p), (rng.random(n) < p) == (p > 0.5)


class Truth:
    """Risk and coverage of any threshold, by the probabilities of two million cases."""

    def __init__(self):
        confidence, _ = draw(np.random.default_rng(99), 2_000_000)
        self.confidence = np.sort(confidence)[::-1]
        self.risk = np.cumsum(1.0 - self.confidence) / np.arange(1, self.confidence.size + 1)

    def of(self, threshold):
        answered = int(np.searchsorted(-self.confidence, -threshold, side="right"))
        return (self.risk[answered - 1] if answered else 0.0), answered / self.confidence.size

    def best_coverage(self, max_risk):
        return np.searchsorted(self.risk, max_risk, side="right") / self.risk.size


@pytest.fixture(scope="module")
def truth():
    return Truth()


def by_certificate(confidence, correct, max_risk):
    policy = AbstainPolicy.certify(confidence, correct, max_risk=max_risk)
    return policy.threshold if policy.certificate.granted else None


def by_empirical_risk(confidence, correct, max_risk):
    """The loosest threshold whose error rate on these rows is within the limit: what is done without a guarantee."""
    order = np.argsort(-confidence)
    within = np.flatnonzero(np.cumsum(~correct[order]) / np.arange(1, order.size + 1) <= max_risk)
    return confidence[order][within[-1]] if within.size else None


def by_sgr(confidence, correct, max_risk, delta=0.05):
    """Selection with guaranteed risk (Geifman and El-Yaniv, 2017): bisection, a part of delta a step."""
    order = np.argsort(-confidence)
    ordered, errors = confidence[order], np.cumsum(~correct[order])
    low, high, found = 1, ordered.size, None
    for _ in range(steps := math.ceil(math.log2(ordered.size))):
        middle = (low + high) // 2
        k = int(errors[middle - 1])
        bound = stats.beta.ppf(1 - delta / steps, k + 1, middle - k)
        if bound <= max_risk:
            low, found = middle, ordered[middle - 1]
        else:
            high = middle
    return found


@pytest.mark.parametrize("n", [300, 1000, 3000])
@pytest.mark.parametrize("max_risk", [0.05, 0.10])
def test_violations_and_coverage(truth, n, max_risk):
    """At delta = .05 a certificate is granted and wrong in at most 7 % of 400 draws (5 % and two standard errors)."""
    rng = np.random.default_rng(round(1000 * max_risk) + n)
    rules = {"certify": by_certificate, "empirical": by_empirical_risk, "SGR": by_sgr}
    found = {name: [] for name in rules}
    for _ in range(REPLICATES):
        rows = draw(rng, n)
        for name, rule in rules.items():
            found[name].append(rule(*rows, max_risk))
    print(f"\nmax_risk {max_risk}, n {n}, best possible coverage {truth.best_coverage(max_risk):.3f}")
    table = {}
    for name, thresholds in found.items():
        risk, coverage = np.array([truth.of(np.inf if t is None else t) for t in thresholds]).T
        none = np.mean([t is None for t in thresholds])
        table[name] = np.mean(risk > max_risk), coverage.mean(), none
        print(f"  {name:10s} violated {table[name][0]:.3f}, coverage {table[name][1]:.3f}, none {none:.3f}")
    assert table["certify"][0] <= 0.07
    assert table["empirical"][0] > 0.3
    if (max_risk, n) == (0.10, 1000):
        assert table["certify"][1] >= 0.60
    if n >= 1000:
        assert table["certify"][1] > table["SGR"][1]


def test_violations_of_class_certificates(truth):
    """Both classes at once, at delta = .05 in all."""
    rng = np.random.default_rng(5)
    p = 1.0 / (1.0 + np.exp(-rng.normal(-0.1, 2.7, 1_000_000)))
    reference = {name: np.sort(c)[::-1] for name, c in (("1", p[p > 0.5]), ("0", 1.0 - p[p <= 0.5]))}
    violated = 0
    for _ in range(REPLICATES):
        p = 1.0 / (1.0 + np.exp(-rng.normal(-0.1, 2.7, 1000)))
        positive = p > 0.5
        correct = (rng.random(1000) < p) == positive
        policy = AbstainPolicy.certify(
            np.maximum(p, 1.0 - p), correct, max_risk=0.1, predicted=positive.astype(int), classes=[0, 1]
        )
        granted = {name for name, part in policy.certificate.classes.items() if part.granted}
        risks = [(1.0 - reference[name][reference[name] >= policy.class_thresholds[name]]).mean() for name in granted]
        violated += any(risk > 0.1 for risk in risks)
    print(f"\nclass certificates, max_risk 0.1, n 1000: violated {violated / REPLICATES:.3f}")
    assert violated / REPLICATES <= 0.07


def test_violations_with_ties(truth):
    """Confidences of two digits, as of a coarse calibrator."""
    rng = np.random.default_rng(6)
    rounded = np.round(truth.confidence[::20], 2)
    error = 1.0 - truth.confidence[::20]
    violated = 0
    for _ in range(REPLICATES):
        confidence, correct = draw(rng, 1000)
        threshold = by_certificate(confidence.round(2), correct, 0.10)
        violated += threshold is not None and error[rounded >= threshold].mean() > 0.10
    print(f"\nties, max_risk 0.1, n 1000: violated {violated / REPLICATES:.3f}")
    assert violated / REPLICATES <= 0.07


@pytest.mark.parametrize("n", [200, 1000, 5000])
def test_intervals_of_areas_cover(n):
    """95 % intervals hold the areas of two million cases in 92 to 98 % of the draws, three standard errors aside."""
    large = draw(np.random.default_rng(7), 2_000_000, spread=1.35)
    truths = {"aurc": aurc(*large), "e_aurc": e_aurc(*large), "augrc": augrc(*large)}
    rng = np.random.default_rng(n)
    hits = dict.fromkeys(truths, 0)
    for seed in range(REPLICATES):
        found = selective_intervals(*draw(rng, n, spread=1.35), random_state=seed)
        for key, (low, high) in found.items():
            hits[key] += low <= truths[key] <= high
    print(f"\nintervals, n {n}:", {key: count / REPLICATES for key, count in hits.items()})
    assert all(0.95 - 0.033 <= count / REPLICATES <= 0.95 + 0.033 for count in hits.values())
