"""The calibration alarm: how often it is false over a long good time, and how soon it is right.

Many alarms are played at once, as rows of one array: a second implementation, checked against the first.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from mlflow_caliber.online import CalibrationAlarm, HedgedRecalibrator, backtest

pytestmark = pytest.mark.slow

SEED = 20261123
ALPHA = 0.05
SLOPES = np.array([0.05, 0.15, 0.3, 0.45, 0.6, 0.8, 1, 1.25, 1.6, 2])
A, B = (side.ravel() for side in np.meshgrid(SLOPES, np.linspace(-2.4, 2.4, 17)))
PRIOR = np.exp(-0.5 * ((np.log(A) / 0.5) ** 2 + (B / 0.75) ** 2))
PRIOR = np.append(0.5, 0.5 * PRIOR / PRIOR.sum())


def log_gains(p, y):
    """What each outcome adds to ln E and to the CUSUM; rows are streams, columns are time."""
    weights, gains = np.tile(PRIOR, (len(p), 1)), np.empty(p.shape)
    for t in range(p.shape[1]):
        z = np.log(p[:, t]) - np.log1p(-p[:, t])
        sign = 2.0 * y[:, t] - 1.0
        right = np.where(y[:, t] == 1, p[:, t], 1 - p[:, t])
        chance = np.column_stack([right, expit(sign[:, None] * (A * z[:, None] + B))])
        weights *= chance
        bet = weights.sum(axis=1)
        weights *= (1 - 1 / 500) / bet[:, None]
        weights += PRIOR / 500
        gains[:, t] = np.log(bet / right)
    return gains


def first(gains, level):
    """When the running sum first reaches the level; the length of the stream if never."""
    reached = np.cumsum(gains, axis=1) >= level
    return np.where(reached.any(axis=1), reached.argmax(axis=1), gains.shape[1])


def cusum_first(gains, level):
    """When the CUSUM first reaches the level."""
    value, when = np.zeros(len(gains)), np.full(len(gains), gains.shape[1])
    for t in range(gains.shape[1]):
        value = np.maximum(value, 0.0) + gains[:, t]
        when = np.where((value >= level) & (when == gains.shape[1]), t, when)
    return when


def drawn(rng, rows, n, truth=expit, change=0):
    z = rng.normal(-0.1, 1.35, (rows, n))
    q = np.where(np.arange(n) < change, expit(z), truth(z))
    return expit(z), (rng.random((rows, n)) < q).astype(int)


def test_the_array_is_the_alarm():
    p, y = drawn(np.random.default_rng(0), 2, 400, lambda z: expit(0.4 * z - 1), 200)
    alarm = CalibrationAlarm()
    for score, outcome in zip(p[1], y[1], strict=True):
        alarm.update(score, int(outcome))
    assert log_gains(p, y)[1].sum() == pytest.approx(alarm.log_e_value, abs=1e-6)


def test_false_alarms_over_ten_thousand_outcomes():
    rows, n = 400, 10_000
    gains = log_gains(*drawn(np.random.default_rng(SEED), rows, n))
    rate = (first(gains, -np.log(ALPHA)) < n).mean()
    cusum = (cusum_first(gains, np.log(1e4)) < n).mean()
    print(f"false alarms: e-process {rate:.3f}, e-CUSUM at 1e4 {cusum:.3f} (R = {rows})")
    assert rate <= 0.07
    # With an average run length of at least 1e4 (here far more), not even 1 - 1/e of the streams may have alarmed.
    assert cusum <= 0.63


@pytest.mark.parametrize(
    ("name", "truth", "limit"),
    [
        ("reference drift", lambda z: expit(0.42643 * z - 0.98085), 100),
        ("slope .7, offset -.3", lambda z: expit(0.7 * z - 0.3), 600),
        ("offset +.5", lambda z: expit(z + 0.5), 500),
    ],
)
def test_delay_of_a_true_alarm(name, truth, limit):
    rows, change = 200, 1000
    gains = log_gains(*drawn(np.random.default_rng(SEED + 1), rows, 4000, truth, change))
    when, cusum = first(gains, -np.log(ALPHA)), cusum_first(gains, np.log(1e4))
    delay, soonest = np.median(when[when >= change]) - change, np.median(cusum[cusum >= change]) - change
    late = np.quantile(when[when >= change], 0.9) - change
    print(f"{name}: median delay {delay:.0f} (90 %: {late:.0f}), e-CUSUM {soonest:.0f}")
    assert delay <= limit


def test_outcome_dependent_delay_raises_no_false_alarms_in_the_order_of_the_forecasts():
    """Positives come after 20 forecasts, negatives after 200: in order of arrival every stream looks drifted."""
    rows, n = 300, 4000
    p, y = drawn(np.random.default_rng(SEED + 2), rows, n)
    arrival = np.argsort(np.arange(n) + np.where(y == 1, 20, 200), axis=1, kind="stable")
    by_arrival = log_gains(np.take_along_axis(p, arrival, 1), np.take_along_axis(y, arrival, 1))
    in_order = log_gains(p[:, :-200], y[:, :-200])
    false = [(first(gains, -np.log(ALPHA)) < gains.shape[1]).mean() for gains in (in_order, by_arrival)]
    print(f"outcome-dependent delay, false alarms: order of forecasts {false[0]:.3f}, of arrival {false[1]:.3f}")
    assert false[0] <= 0.08
    assert false[1] >= 0.9


def test_a_recalibrator_releases_in_that_order():
    rng = np.random.default_rng(SEED + 3)
    p, y = (column[0] for column in drawn(rng, 1, 3000))
    hedged, alarm, forecasts = HedgedRecalibrator(), CalibrationAlarm(), []
    due = np.arange(3000) + np.where(y == 1, 20, 200)
    for t in range(3000):
        forecasts.append(hedged.forecast(p[t]))
        for known in np.flatnonzero(due[: t + 1] == t):
            for forecast, outcome in hedged.update(forecasts[known], int(y[known])):
                alarm.update(forecast.score, outcome)
    assert alarm.n_seen >= 2800
    assert not alarm.raised
    delays = np.where(y == 1, 20, 200)
    assert backtest(HedgedRecalibrator(), p, y, delay=delays).recalibrator.n_learned == hedged.n_learned
