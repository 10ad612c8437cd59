"""What `auto` costs where nothing was wrong, and leaves where something was: mean excess log loss on fresh numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from mlflow_caliber.calibrators import AutoCalibrator
from mlflow_caliber.metrics import roc_auc

pytestmark = pytest.mark.slow

REPLICATES = 300
# Mean excess log loss, thousandths of a nat, at 50, 200 and 500 rows.
_MISCALIBRATED = (30.0, 9.0, 5.0)
LIMITS = {"calibrated": (10.0, 2.0, 1.0), "slope": _MISCALIBRATED, "drift": _MISCALIBRATED, "kink": _MISCALIBRATED}


def kink(p):
    """Piecewise linear and monotone: slope 1 up to .3, then .14/.55 up to .85, then .6."""
    return np.interp(p, [0.0, 0.3, 0.85, 1.0], [0.0, 0.3, 0.44, 0.53])


TRUTHS = {
    "calibrated": expit,
    "slope": lambda z: expit(0.6 * z - 0.3),
    "drift": lambda z: expit(0.42643 * z - 0.98085),
    "kink": lambda z: kink(expit(z)),
}


def excess(truth, answer):
    """Mean Kullback-Leibler divergence in thousandths of a nat."""
    answer = np.clip(answer, 1e-9, 1 - 1e-9)
    gap = truth * np.log(truth / answer) + (1 - truth) * np.log((1 - truth) / (1 - answer))
    return 1000.0 * gap.mean()


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize(("size", "n"), list(enumerate((50, 200, 500))))
def test_cost(truth, size, n):
    rng = np.random.default_rng([20261122, n, len(truth)])
    costs = []
    for _ in range(REPLICATES):
        z, new = rng.normal(-0.1, 1.35, n), rng.normal(-0.1, 1.35, 2000)
        y = (rng.random(n) < TRUTHS[truth](z)).astype(int)
        if y.min() == y.max():
            continue
        calibrator = AutoCalibrator().fit(expit(z), y)
        costs.append(excess(TRUTHS[truth](new), calibrator.predict(expit(new))))
    print(f"{truth} {n}: {np.mean(costs):.2f} +- {np.std(costs) / len(costs) ** 0.5:.2f}")
    assert np.mean(costs) <= LIMITS[truth][size]


@pytest.mark.parametrize("truth", TRUTHS)
def test_ranking_stays(truth):
    rng = np.random.default_rng(7)
    for n in (50, 200, 500):
        z, new = rng.normal(-0.1, 1.35, n), rng.normal(-0.1, 1.35, 5000)
        calibrator = AutoCalibrator().fit(expit(z), (rng.random(n) < TRUTHS[truth](z)).astype(int))
        y = (rng.random(5000) < TRUTHS[truth](new)).astype(int)
        assert roc_auc(y, calibrator.predict(expit(new))) == pytest.approx(roc_auc(y, expit(new)), abs=1e-12)
