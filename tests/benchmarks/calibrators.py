"""How long calibrators take to fit and to predict, against their peers and against sorting the scores once.

Run it by hand: ``python tests/benchmarks/calibrators.py``. Ours and the peer take turns on the same data in one
process; what is printed is the median of each and of their ratios. Everything is the public call with all its checks,
on scores of float64 and labels of int64.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")

import numpy as np
import probcal
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from mlflow_caliber.calibrators import (
    AutoCalibrator,
    BetaCalibrator,
    CenteredIsotonicCalibrator,
    IsotonicCalibrator,
    SigmoidCalibrator,
    TemperatureCalibrator,
)

Rows = tuple[NDArray[np.float64], NDArray[np.int64]]
Line = tuple[str, str, float, float, float, str]

_SHAPES: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "uniform scores": lambda rng, n: rng.random(n),
    "rare events, beta(1, 20)": lambda rng, n: rng.beta(1.0, 20.0, n),
    "scores of two decimals": lambda rng, n: rng.random(n).round(2),
}
MILLION = 1_000_000
_CLIP = 1e-6


def table() -> list[Line]:
    """Work, rows, our milliseconds, the peer's, how many times faster ours is, and the peer."""
    return [*isotonic_fits(), *isotonic_predictions(), *parametric_fits()]


def rows(n: int, shape: str = "uniform scores", seed: int = 0) -> Rows:
    """Scores that are too extreme, and outcomes."""
    rng = np.random.default_rng(seed)
    scores = _SHAPES[shape](rng, n)
    truth = expit(0.7 * logit(np.clip(scores, _CLIP, 1.0 - _CLIP)) - 0.2)
    return scores, (rng.random(n) < truth).astype(np.int64)


def isotonic_fits() -> list[Line]:
    """Exact isotonic regression, several sizes and shapes."""
    lines = []
    cases = [
        ("uniform scores", n, rounds) for n, rounds in ((10_000, 51), (100_000, 21), (MILLION, 9), (10 * MILLION, 3))
    ]
    cases += [(shape, MILLION, 5) for shape in list(_SHAPES)[1:]]
    for shape, n, rounds in cases:
        scores, y = rows(n, shape)
        work = f"isotonic fit, {shape}"

        def fit(scores=scores, y=y) -> object:
            return IsotonicCalibrator().fit(scores, y)

        def theirs(scores=scores, y=y) -> object:
            return IsotonicRegression(out_of_bounds="clip").fit(scores, y)

        lines.append(line(work, n, fit, theirs, "scikit-learn IsotonicRegression", rounds))
        lines.append(line(work, n, fit, lambda scores=scores: np.sort(scores), "np.sort (floor)", rounds))
    scores, y = rows(MILLION)
    weight = np.random.default_rng(1).random(MILLION) + 0.5
    lines.append(
        line(
            "isotonic fit, weights",
            MILLION,
            lambda: IsotonicCalibrator().fit(scores, y, weight),
            lambda: IsotonicRegression(out_of_bounds="clip").fit(scores, y, weight),
            "scikit-learn IsotonicRegression",
            5,
        )
    )
    return lines


def isotonic_predictions() -> list[Line]:
    """One row, as a server asks, and a million."""
    fitted = rows(100_000)
    ours, centred = IsotonicCalibrator().fit(*fitted), CenteredIsotonicCalibrator().fit(*fitted)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(*fitted)
    one, many = rows(1, seed=1)[0], rows(MILLION, seed=1)[0]
    two_decimals = many.round(2)
    peer = "scikit-learn IsotonicRegression"
    return [
        line("isotonic predict", 1, lambda: ours.predict(one), lambda: theirs.predict(one), peer, 25, repeat=200),
        line("isotonic predict", MILLION, lambda: ours.predict(many), lambda: theirs.predict(many), peer, 11),
        line(
            "isotonic predict, scores of two decimals",
            MILLION,
            lambda: ours.predict(two_decimals),
            lambda: theirs.predict(two_decimals),
            peer,
            11,
        ),
        line(
            "centered isotonic predict",
            MILLION,
            lambda: centred.predict(many),
            lambda: np.interp(many, centred.x_thresholds_, centred.y_thresholds_),
            "np.interp",
            11,
        ),
    ]


def parametric_fits() -> list[Line]:
    """The maps with a formula; scikit-learn's are fitted through its public door, on a model of logits."""
    scores, y = rows(MILLION)
    logits = logit(np.clip(scores, _CLIP, 1.0 - _CLIP))[:, None]
    model = FrozenEstimator(LogisticRegression().fit(logits[:1000], y[:1000]))

    def theirs(method: str) -> Callable[[], object]:
        return lambda: CalibratedClassifierCV(model, method=method).fit(logits, y)

    def predictions() -> object:
        return model.predict_proba(logits)

    return [
        line(
            "temperature fit",
            MILLION,
            lambda: TemperatureCalibrator().fit(scores, y),
            theirs("temperature"),
            "scikit-learn temperature",
            3,
        ),
        line(
            "sigmoid fit",
            MILLION,
            lambda: SigmoidCalibrator().fit(scores, y),
            theirs("sigmoid"),
            "scikit-learn sigmoid",
            3,
        ),
        line(
            "beta fit",
            MILLION,
            lambda: BetaCalibrator().fit(scores, y),
            lambda: probcal.BetaCalibrator().fit(scores, y),
            "probcal beta",
            3,
        ),
        line(
            "auto fit",
            MILLION,
            lambda: AutoCalibrator().fit(scores, y),
            lambda: probcal.BetaCalibrator().fit(scores, y),
            "probcal beta, one fit",
            3,
        ),
    ]


def line(
    work: str,
    n: int,
    ours: Callable[[], object],
    peer: Callable[[], object],
    name: str,
    rounds: int,
    *,
    repeat: int = 1,
) -> Line:
    """Both in turn, ``repeat`` calls at a time."""
    ours(), peer()
    times = [(seconds(ours, repeat), seconds(peer, repeat)) for _ in range(rounds)]
    mine, other = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    return work, f"{n:,}", mine, other, statistics.median(b / a for a, b in times), name


def seconds(call: Callable[[], object], repeat: int) -> float:
    """Of the processor, which other programs on it lengthen less than those of the clock; the mean of the calls."""
    start = time.process_time()
    for _ in range(repeat):
        call()
    return (time.process_time() - start) / repeat


if __name__ == "__main__":
    print("| work | rows | ours, ms | peer, ms | ratio | peer |\n|---|---|---|---|---|---|")
    for work, n, mine, other, ratio, name in table():
        print(f"| {work} | {n} | {mine:.4g} | {other:.4g} | {ratio:.2f} | {name} |", flush=True)
