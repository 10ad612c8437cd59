"""The hedged recalibrator against a second, slow implementation, written from the recipe alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from mlflow_caliber.online import HedgedRecalibrator, backtest

EPS, TINY, SHARE, PI = 1e-6, 1e-9, 1e-3, 0.1
SLOPES = np.array([0.05, 0.15, 0.3, 0.45, 0.6, 0.8, 1, 1.25, 1.6, 2])
A, B = (side.ravel() for side in np.meshgrid(SLOPES, np.linspace(-2.4, 2.4, 17)))
PRIOR = np.exp(-0.5 * ((np.log(A) / 0.5) ** 2 + (B / 0.75) ** 2))
PRIOR /= PRIOR.sum()


def logit(p):
    p = np.clip(p, EPS, 1 - EPS)
    return np.log(p / (1 - p))


def chance(p, y):
    return np.maximum(p if y else 1 - np.asarray(p), TINY)


class Grid:
    def __init__(self, rate):
        self.rate, self.g = rate, PRIOR.copy()

    def answer(self, z):
        return self.g @ expit(A * z + B)

    def learn(self, z, y):
        g = self.g * chance(expit(A * z + B), y)
        self.g = (1 - self.rate) * g / g.sum() + self.rate * PRIOR


class Map:
    def __init__(self, start, precision, half_life, beta):
        self.start, self.L0, self.f, self.beta = np.array(start), np.diag(precision), 0.5 ** (1 / half_life), beta
        self.theta, self.info, self.h = self.start, 0 * self.L0, 0 * self.start

    def x(self, p):
        p = np.clip(p, EPS, 1 - EPS)
        return np.array([np.log(p), -np.log1p(-p), 1]) if self.beta else np.array([logit(p), 1])

    def answer(self, p):
        theta = self.theta.copy()
        theta[:-1] = np.maximum(theta[:-1], 0)
        return expit(theta @ self.x(p))

    def learn(self, p, y):
        x = self.x(p)
        t = self.theta @ x
        s = expit(t)
        v = max(s * (1 - s), 1e-4)
        self.info = self.f * self.info + v * np.outer(x, x)
        self.h = self.f * self.h + (v * t + y - s) * x
        self.theta = np.linalg.inv(self.L0 + self.info) @ (self.L0 @ self.start + self.h)


class Isotonic:
    def __init__(self):
        self.p, self.y, self.count, self.knots = [], [], 0, None

    def answer(self, p):
        return p if self.knots is None else np.interp(p, *self.knots)

    def learn(self, p, y):
        self.p, self.y, self.count = [*self.p, p][-2000:], [*self.y, y][-2000:], self.count + 1
        if len(self.p) >= 50 and self.count % 10 == 0 and (len(self.p) <= 500 or (self.count - 500) % 40 == 0):
            fit = IsotonicRegression().fit_transform(self.p, self.y)
            values = np.unique(np.round(fit, 12))
            centre = [np.mean(np.array(self.p)[np.abs(fit - value) < 1e-9]) for value in values]
            self.knots = centre, np.clip(values, 0.01, 0.99)


class Naive:
    """The recipe, line by line; forecasts are dictionaries, kept in one list in the order of issue."""

    def __init__(self):
        self.experts = [Grid(1 / 50), Grid(1 / 400), Grid(1 / 4000)]
        self.maps = [Map([1, 0], [4, 2], 150, False), Map([1, 1, 0], [8, 8, 2], 800, True), Isotonic()]
        self.w0 = np.array([0.25, 0.1, 0.1, 0.15, 0.1, 0.1, 0.2])
        self.w, self.ws0 = self.w0, np.array([0.1, 0.3, 0.3, 0.3])
        self.segments, self.slots, self.horizon, self.log = {}, [], 500.0, []

    def open(self, segment=None):
        return [f for f in self.log if not f["gone"] and segment in (None, f["segment"])]

    def forecast(self, p, segment):
        f = {"n": len(self.log), "p": np.clip(p, TINY, 1 - TINY), "segment": segment, "y": None, "gone": False}
        z = logit(p)
        f["q"] = np.array([f["p"], *(g.answer(z) for g in self.experts), *(m.answer(f["p"]) for m in self.maps)])
        f["pooled"] = active = self.w @ f["q"]
        if segment is not None:
            ws, grids = self.segments.setdefault(segment, (self.ws0, [Grid(1 / 400), Grid(1 / 4000)]))
            f["qs"] = np.array([f["p"], active, *(g.answer(logit(active)) for g in grids)])
            active = ws @ f["qs"]
        f["active"] = np.clip(active, TINY, 1 - TINY)
        taken = {other["slot"] for other in self.open()}
        free = [k for k in range(len(self.slots)) if k not in taken]
        if not free:
            free, pi = [len(self.slots)], PI / 10 if self.slots else PI
            self.slots.append(np.log(pi / (1 - pi)))
        f["slot"] = free[0]
        m = expit(self.slots[f["slot"]])
        f["served"] = m * f["p"] + (1 - m) * f["active"]
        f["late"], f["slate"] = len(self.open()), len(self.open(segment)) if segment is not None else 0
        self.log.append(f)
        return f

    def update(self, f, y):
        f["y"] = y
        self.horizon = max(2 * (len(self.log) - 1 - f["n"]), self.horizon * (1 - 1 / 500))
        for f in self.open():
            if f["y"] is None and len(self.log) - 1 - f["n"] <= self.horizon:
                break
            f["gone"] = True
            if f["y"] is not None:
                self.learn(f, f["y"])

    def learn(self, f, y):
        self.w = self.weigh(self.w, self.w0, f["q"], y, max(f["late"], len(self.open())))
        for grid in self.experts:
            grid.learn(logit(f["p"]), y)
        for each in self.maps:
            each.learn(f["p"], y)
        if f["segment"] is not None:
            ws, grids = self.segments[f["segment"]]
            ws = self.weigh(ws, self.ws0, f["qs"], y, max(f["slate"], len(self.open(f["segment"]))))
            self.segments[f["segment"]] = ws, grids
            for grid in grids:
                grid.learn(logit(f["pooled"]), y)
        self.slots[f["slot"]] += np.log(chance(f["p"], y)) - np.log(chance(f["active"], y))

    def weigh(self, w, w0, q, y, d):
        eta = (1 + d) ** -0.5
        w = w * chance(q, y) ** eta
        return (1 - SHARE * eta) * w / w.sum() + SHARE * eta * w0


def replay(p, y, segments, delay):
    """What the naive one serves; a delay below 0 is an outcome that never comes."""
    naive, served, known = Naive(), [], []
    for row in range(len(p)):
        known.append(naive.forecast(p[row], segments[row]))
        served.append(known[row]["served"])
        for due in range(row + 1):
            if delay[due] >= 0 and due + delay[due] == row:
                naive.update(known[due], y[due])
    return np.array(served)


DELAYS = {
    "none": lambda rng, y: np.zeros(y.size),
    "constant": lambda rng, y: np.full(y.size, 7),
    "by outcome": lambda rng, y: np.where(y == 1, 3, 25),
    "random, some never": lambda rng, y: rng.integers(-1, 12, y.size),
    "batches": lambda rng, y: 19 - np.arange(y.size) % 20,
}


@pytest.mark.parametrize("delays", DELAYS)
@pytest.mark.parametrize("by_segment", [False, True])
def test_it_is_the_recipe(delays, by_segment):
    rng = np.random.default_rng(11)
    n = 620
    p = np.round(rng.random(n), 2)  # ties, and scores of exactly 0 and 1
    y = (rng.random(n) < 0.7 * p).astype(int)
    segments = rng.choice(["a", "b", "c"], n).tolist() if by_segment else [None] * n
    delay = DELAYS[delays](rng, y)
    served = backtest(HedgedRecalibrator(), p, y, segments=segments, delay=delay).served
    np.testing.assert_allclose(served, replay(p, y, segments, delay), atol=1e-9, rtol=0)
