"""How often each verdict is given when the truth is known: the table in docs/user-guide/diagnosis.md.

Scores: z ~ N(-.1, 1.35^2), p = sigma(z) is served; the reference is calibrated. Each case says what the true
probability of the live rows is, or how their scores are spread.
"""

from collections import Counter

import numpy as np
import pytest
from scipy.special import expit

from mlflow_caliber.diagnosis import diagnose

pytestmark = pytest.mark.slow

DRAWS = 300
USUAL = (-0.1, 1.35)


def calibrated(z, _):
    return expit(z)


CASES = {
    "none": (calibrated, USUAL),
    "covariate shift: closer cases": (calibrated, (-0.1, 0.7)),
    "covariate shift: more positives": (calibrated, (1.0, 1.0)),
    "covariate shift: wider": (calibrated, (-0.5, 2.0)),
    "prior +1": (lambda z, _: expit(z + 1.0), USUAL),
    "prior -1": (lambda z, _: expit(z - 1.0), USUAL),
    "over-confidence (true slope 1/1.6)": (lambda z, _: expit(z / 1.6), USUAL),
    "timidity (true slope 1.6)": (lambda z, _: expit(z * 1.6), USUAL),
    "drift (slope .43, offset -.98)": (lambda z, _: expit(0.42643 * z - 0.98085), USUAL),
    "AUC loss": (lambda z, rng: expit(0.3 * z + 0.9 * rng.normal(size=z.size) - 0.2), USUAL),
}


def draw(rng, n, truth, scores):
    z = rng.normal(*scores, n)
    q = truth(z, rng)
    return rng.random(n) < q, expit(z)


def rates(case, n_live, n_reference=2000, draws=DRAWS):
    """The share of each verdict."""
    rng = np.random.default_rng(sum(map(ord, case)))
    verdicts = Counter(
        diagnose(draw(rng, n_reference, calibrated, USUAL), draw(rng, n_live, *CASES[case])).verdict
        for _ in range(draws)
    )
    return {verdict: count / draws for verdict, count in verdicts.items()}


@pytest.mark.parametrize(
    ("case", "verdict", "rate"),
    [
        ("none", "none", 0.95),
        ("covariate shift: closer cases", "none", 0.95),
        ("covariate shift: more positives", "none", 0.95),
        ("covariate shift: wider", "none", 0.95),
        ("prior +1", "recalibrate", 0.95),
        ("prior -1", "recalibrate", 0.95),
        ("over-confidence (true slope 1/1.6)", "recalibrate_and_retrain", 0.85),
        ("timidity (true slope 1.6)", "recalibrate", 0.95),
        ("drift (slope .43, offset -.98)", "recalibrate_and_retrain", 0.95),
        ("AUC loss", "recalibrate_and_retrain", 0.95),
    ],
)
def test_a_thousand_rows_are_enough(case, verdict, rate):
    assert rates(case, 1000).get(verdict, 0.0) >= rate


@pytest.mark.parametrize(
    ("case", "verdict", "rate"),
    [
        ("none", "none", 0.95),
        ("covariate shift: closer cases", "none", 0.95),
        ("prior +1", "recalibrate", 0.95),
        ("over-confidence (true slope 1/1.6)", "recalibrate_and_retrain", 0.65),
        ("AUC loss", "recalibrate_and_retrain", 0.95),
    ],
)
def test_five_hundred_rows(case, verdict, rate):
    assert rates(case, 500).get(verdict, 0.0) >= rate


def test_a_reference_no_larger_than_the_live_sample():
    assert rates("none", 1000, n_reference=1000)["none"] >= 0.95
    assert rates("AUC loss", 1000, n_reference=1000)["recalibrate_and_retrain"] >= 0.95


@pytest.mark.parametrize(("n", "positives"), [(60, 0.0), (1000, -4.5)])
def test_few_rows_of_a_class_seldom_alarm(n, positives):
    """Down to the 10 rows of a class that are asked for: no verdict but none in more than 5 % of calibrated samples."""
    rng = np.random.default_rng(0)
    scores, alarms, draws = (positives, 1.0), 0, 0
    while draws < 400:
        before, now = draw(rng, n, calibrated, scores), draw(rng, n, calibrated, scores)
        if min(before[0].sum(), now[0].sum(), n - before[0].sum(), n - now[0].sum()) >= 10:
            draws += 1
            alarms += diagnose(before, now).verdict != "none"
    assert alarms / 400 < 0.06


def test_the_power_that_is_stated_is_there():
    """A shortfall of the detectable size is called one in about 80 % of the draws."""
    rng = np.random.default_rng(0)
    limit = np.mean(
        [
            diagnose(
                draw(rng, 2000, calibrated, USUAL), draw(rng, 1000, calibrated, USUAL)
            ).evidence.detectable_shortfall
            for _ in range(50)
        ]
    )
    found = []
    for slope in (0.6, 0.5, 0.4):
        flat = [
            diagnose(
                draw(rng, 2000, calibrated, USUAL), draw(rng, 1000, lambda z, _, a=slope: expit(a * z), USUAL)
            ).evidence
            for _ in range(150)
        ]
        found.append((np.mean([e.shortfall for e in flat]), np.mean([e.shortfall_z > 1.645 for e in flat])))
    shortfalls, powers = zip(*found, strict=True)
    assert np.interp(limit, shortfalls, powers) > 0.75
