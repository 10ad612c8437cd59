"""The certificate of an abstain policy: what it promises, and whether these rows speak against it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber import metrics
from mlflow_caliber.abstain import AbstainPolicy, Certificate
from mlflow_caliber.evidence import Rows
from mlflow_caliber.gate._outcome import RuleOutcome, Verdict
from mlflow_caliber.gate._side import Side
from mlflow_caliber.gate.policy import CertificatePolicy


def certified(wanted: CertificatePolicy, side: Side) -> RuleOutcome:
    """Hold the demand for a certificate against the evidence.

    The certificate is the proof; it was made from other rows. These rows can only refute it: if they show, with
    confidence 1 - max_delta, that more of what is answered is wrong than it promises.
    """
    policy = None if side.report.policy is None else AbstainPolicy.from_dict(side.report.policy)
    promise = None if policy is None else policy.certificate
    if policy is None or promise is None:
        return _outcome(wanted, "fail", "no certificate")
    fault = _fault(wanted, promise)
    if fault is not None:
        return _outcome(wanted, "fail", fault)
    stated = f"{promise.max_risk:g} at {promise.delta:g}"
    if side.rows is None:
        return _outcome(wanted, "inconclusive", f"{stated}, which cannot be checked without the rows")
    parts = list(_answered(policy, promise, side.rows, side.report.classes))
    if not parts:
        return _outcome(wanted, "inconclusive", f"{stated}, which these rows cannot check: none of them is answered")
    checks = [_check(part, wanted.max_delta / len(parts)) for part in parts]
    worst = max(checks, key=lambda check: check.low - promise.max_risk)
    found = f"{worst.errors:g} of {worst.n:g} answered rows{worst.where} are wrong"
    interval = (worst.low, worst.high)
    if worst.low > promise.max_risk:
        got = f"{stated}, which these rows refute: {found}, so at least {worst.low:.4g} of all"
        return _outcome(wanted, "fail", got, interval)
    return _outcome(wanted, "pass", f"{stated}; here {found}, between {worst.low:.4g} and {worst.high:.4g}", interval)


def _outcome(
    wanted: CertificatePolicy, verdict: Verdict, got: str, interval: tuple[float, float] | None = None
) -> RuleOutcome:
    said = f"at most {wanted.max_risk:g} wrong answers at a chance of error of at most {wanted.max_delta:g}"
    return RuleOutcome(
        rule=f"certificate max_risk {wanted.max_risk:g} max_delta {wanted.max_delta:g}",
        verdict=verdict,
        wanted=said,
        got=got,
        sentence=f"The abstain policy must have a certificate of {said}, got {got}.",
        interval=interval,
    )


def _fault(wanted: CertificatePolicy, promise: Certificate) -> str | None:
    if not promise.granted:
        return f"one that was not granted: {promise.reason}"
    if promise.suspended:
        return f"one that is suspended: {promise.suspended}"
    if promise.max_risk > wanted.max_risk or promise.delta > wanted.max_delta:
        return f"{promise.max_risk:g} at {promise.delta:g}"
    return None


@dataclass(frozen=True)
class _Answered:
    """Answered rows that one promise is about."""

    wrong: NDArray[np.bool_]
    weight: NDArray[np.float64]
    where: str


@dataclass(frozen=True)
class _Check:
    errors: float
    n: float
    low: float
    high: float
    where: str


def _answered(policy: AbstainPolicy, promise: Certificate, rows: Rows, classes: tuple[str, ...]) -> Iterator[_Answered]:
    """All answered rows; of a certificate for each class, those predicted so."""
    binary = rows.p.ndim == 1
    confidence = np.maximum(rows.p, 1.0 - rows.p) if binary else rows.p.max(axis=1)
    guess = np.asarray(rows.p > 0.5 if binary else rows.p.argmax(axis=1), dtype=np.intp)
    predicted = np.array(classes, dtype=object)[guess]
    weight = np.ones(len(rows.y)) if rows.weight is None else rows.weight
    answered = ~policy.apply(confidence, segment=rows.group, predicted=predicted) & (weight > 0.0)
    parts = {"": answered}
    if promise.classes is not None:
        parts = {f" predicted {name!r}": answered & (predicted == name) for name in promise.classes}
    for where, these in parts.items():
        if these.any():
            yield _Answered((guess != rows.y)[these], weight[these], where)


def _check(part: _Answered, delta: float) -> _Check:
    # Kish: so many rows of equal weight would be as uncertain.
    n = float(part.weight.sum() ** 2 / (part.weight @ part.weight))
    errors = n * float(np.average(part.wrong, weights=part.weight))
    low, high = metrics.proportion_interval(min(errors, n), n, confidence=1.0 - 2.0 * delta)
    return _Check(errors, n, low, high, part.where)
