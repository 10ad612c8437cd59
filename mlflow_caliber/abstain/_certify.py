"""Fixed-sequence testing: the loosest threshold whose error rate is bounded, found without spending the error twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.abstain._certificate import Certificate
from mlflow_caliber.metrics import proportion_upper_bound

_N_TESTS = 60
# The first test is of so large a part of the rows, and of twice the rows that would do without an error among them: a
# strict start that fails by bad luck ends everything.
_FIRST_SHARE = 0.1
_FIRST_FACTOR = 2.0
# Rows that the confidences themselves count as, where only a guess is wanted.
_STEADY_ROWS = 50.0


class Rows(NamedTuple):
    """Checked rows, the surest first, and how many of the first k are wrong (``errors[0]`` is 0)."""

    confidence: FloatArray
    errors: FloatArray


class _Bounded(NamedTuple):
    threshold: float
    answered: int
    errors: int
    upper_bound: float


def surest_first(confidence: FloatArray, correct: FloatArray) -> Rows:
    """Rows in order; of ties the wrong ones first, so that nothing depends on how the rows came."""
    order = np.lexsort((correct, -confidence))
    return Rows(confidence[order], np.concatenate([[0.0], np.cumsum(1.0 - correct[order])]))


def certify_all(rows: Rows, max_risk: float, delta: float, stated: dict[str, Any]) -> Certificate:
    """One certificate for all rows."""
    n = rows.confidence.size
    goal: dict[str, Any] = {"max_risk": max_risk, "delta": delta, "n": n, **stated}
    passed, reason = _loosest(rows, max_risk, delta) if n else (None, "no case was predicted so")
    if passed is not None:
        return Certificate(granted=True, **goal, **passed._asdict())
    needed = rows_needed(rows, max_risk, delta) if n else None
    nothing = _Bounded(threshold=1.0, answered=0, errors=0, upper_bound=1.0)
    return Certificate(granted=False, **goal, **nothing._asdict(), reason=reason, rows_needed=needed)


def certify_classes(
    confidence: FloatArray,
    correct: FloatArray,
    predicted: NDArray[np.object_],
    classes: Sequence[str],
    max_risk: float,
    delta: float,
    stated: dict[str, Any],
) -> Certificate:
    """One certificate a class, all of which hold at once: each takes its part of `delta`."""
    parts = {}
    for name in classes:
        own = predicted == name
        rows = surest_first(confidence[own], correct[own])
        parts[name] = certify_all(rows, max_risk, delta / len(classes), {})
    granted = [part for part in parts.values() if part.granted]
    return Certificate(
        granted=bool(granted),
        max_risk=max_risk,
        delta=delta,
        threshold=1.0,
        n=confidence.size,
        answered=sum(part.answered for part in granted),
        errors=sum(part.errors for part in granted),
        upper_bound=max((part.upper_bound for part in granted), default=1.0),
        reason="" if granted else "; ".join(f"of {name!r}, {part.reason}" for name, part in parts.items()),
        classes=parts,
        **stated,
    )


def _loosest(rows: Rows, max_risk: float, delta: float) -> tuple[_Bounded | None, str]:
    """The last of the tests, from strict to loose, before the first that fails; else why the first failed."""
    n, passed = rows.confidence.size, None
    for threshold in _sequence(rows.confidence, max_risk, delta):
        answered = int(np.searchsorted(-rows.confidence, -threshold, side="right"))
        errors = int(rows.errors[answered])
        bound = proportion_upper_bound(errors, answered, delta=delta)
        if bound > max_risk:
            may_be = f"so that the error rate may be {100.0 * bound:.3g} %"
            return passed, f"{errors:,} of the {answered:,} surest of {n:,} cases are wrong, {may_be}"
        passed = _Bounded(float(threshold), answered, errors, bound)
    return passed, ""


def _sequence(confidence: FloatArray, max_risk: float, delta: float) -> FloatArray:
    """The thresholds to test, by confidence alone: which of the answers are right has no say in it."""
    n = confidence.size
    counts = np.linspace(min(_first_count(n, max_risk, delta), n), n, _N_TESTS).round().astype(np.intp)
    return confidence[np.unique(counts) - 1]


def _first_count(n: int, max_risk: float, delta: float) -> int:
    without_error = math.ceil(math.log(delta) / math.log1p(-max_risk))
    return math.ceil(max(_FIRST_FACTOR * without_error, _FIRST_SHARE * n))


def rows_needed(rows: Rows, max_risk: float, delta: float) -> int | None:
    """Rows, rounded up to two digits, of which the first test would pass if errors lie among them as in these rows."""
    n, expected = rows.confidence.size, _expected_risk(rows)
    for larger in np.ceil(n * np.geomspace(1.25, 1e3, 121)).astype(int).tolist():
        count = min(_first_count(larger, max_risk, delta), larger)
        rate = float(expected[math.ceil(n * count / larger) - 1])
        if proportion_upper_bound(rate * count, count, delta=delta) <= max_risk:
            digits = int(10 ** max(len(str(larger)) - 2, 0))
            return int(math.ceil(larger / digits) * digits)
    return None


def _expected_risk(rows: Rows) -> FloatArray:
    """A guess at the error rate of the surest 1, 2, ... n rows: few errors are steadied by what confidences say.

    Half an error more, for none among few is not none among many; and looser thresholds are not taken to be safer.
    """
    counts = np.arange(1.0, rows.confidence.size + 1.0)
    said = np.cumsum(1.0 - rows.confidence) / counts
    rate = (rows.errors[1:] + 0.5 + _STEADY_ROWS * said) / (counts + 1.0 + _STEADY_ROWS)
    return np.asarray(np.minimum.accumulate(rate[::-1])[::-1])
