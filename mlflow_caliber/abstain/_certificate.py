"""What a certified threshold promises, and on what evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mlflow_caliber._validation import (
    check_at_least,
    check_count,
    check_flag,
    check_known_keys,
    check_text,
    check_unit_interval,
)
from mlflow_caliber.exceptions import InvalidInputError, StateError


@dataclass(frozen=True, kw_only=True)
class Certificate:
    r"""From which confidence on the error rate of answers is bounded, by what evidence; or why there is no such bound.

    :meth:`AbstainPolicy.certify` makes it. The chance, over the draw of the rows it was made from, that it is granted
    and the error rate of answered cases yet exceeds `max_risk`, is at most `delta`. It holds for new cases drawn like
    those rows and scored by the same frozen model and calibrator, neither of which was fitted on these rows. A refitted
    calibrator, inputs that drift, or another threshold end it.

    Attributes
    ----------
    granted : bool
        Whether there is a certificate. Without one nothing is answered.
    max_risk : float
        The limit of the error rate of answered cases, in (0, 1).
    delta : float
        The chance of being wrong about it, in (0, 1).
    threshold : float
        Cases are answered from this confidence on; 1 where nothing is, or where each class has a threshold of its own.
    n, answered, errors : int
        Rows looked at; those at or above the threshold; and how many of these were wrong.
    upper_bound : float
        Clopper and Pearson's upper bound of the error rate of answered cases, at level 1 - `delta`: at most `max_risk`
        if granted, else 1. Of a certificate for each class: the greatest of theirs.
    reason : str
        Why there is no certificate; empty if granted.
    rows_needed : int or None
        If not granted: with about so many rows like these there might be one; None where more are unlikely to help.
    classes : mapping of str to Certificate, or None
        One for each predicted class, at `delta` divided by their number, so that all hold at once.
    calibrator_revision : str or None
        The calibrator whose confidences were certified.
    predictions_per_day, reviews_per_day : float or None
        The traffic that is expected, and the number of reviews there is room for.
    suspended : str
        Why the certificate no longer holds; empty while it does.

    Examples
    --------
    >>> from mlflow_caliber.abstain import AbstainPolicy
    >>> confidence = [0.95] * 700 + [0.6] * 300
    >>> correct = [1] * 660 + [0] * 40 + [1, 0] * 150
    >>> certificate = AbstainPolicy.certify(confidence, correct, max_risk=0.1).certificate
    >>> certificate.answered, certificate.errors, certificate.upper_bound
    (700, 40, 0.0737)
    >>> print(certificate.sentence(predictions_per_day=400).replace("; ", ";\n"))
    error at most 10 % on answered cases with 95 % confidence;
    coverage 70 %;
    about 120 reviews a day at 400 predictions a day
    """

    granted: bool
    max_risk: float
    delta: float
    threshold: float
    n: int
    answered: int
    errors: int
    upper_bound: float
    reason: str = ""
    rows_needed: int | None = None
    classes: Mapping[str, Certificate] | None = field(default=None, hash=False)
    calibrator_revision: str | None = None
    predictions_per_day: float | None = None
    reviews_per_day: float | None = None
    suspended: str = ""

    def __post_init__(self) -> None:
        check_flag(self.granted, "granted")
        check_unit_interval(self.max_risk, "max_risk", open_ends=True)
        check_unit_interval(self.delta, "delta", open_ends=True)
        check_unit_interval(self.threshold, "threshold")
        check_unit_interval(self.upper_bound, "upper_bound")
        check_text(self.reason, "reason")
        check_text(self.suspended, "suspended")
        if self.calibrator_revision is not None:
            check_text(self.calibrator_revision, "calibrator_revision")
        if self.rows_needed is not None:
            check_count(self.rows_needed, "rows_needed")
        for name in ("n", "answered", "errors"):
            check_count(getattr(self, name), name, minimum=0)
        for name in ("predictions_per_day", "reviews_per_day"):
            if getattr(self, name) is not None:
                check_at_least(getattr(self, name), name, 0.0)
        if not self.errors <= self.answered <= self.n:
            got = f"errors {self.errors}, answered {self.answered}, n {self.n}"
            raise InvalidInputError(f"A certificate must have errors <= answered <= n, got {got}.")
        if self.granted and self.upper_bound > self.max_risk:
            got = f"{self.upper_bound:.6g} over {self.max_risk:.6g}"
            raise InvalidInputError(f"A granted certificate must have an upper_bound within its max_risk, got {got}.")

    @property
    def coverage(self) -> float:
        """Share of the rows that is answered, in [0, 1]."""
        return self.answered / self.n if self.n else 0.0

    @property
    def within_capacity(self) -> bool | None:
        """Whether the reviews it takes are at most `reviews_per_day`; None where no capacity is stated."""
        if self.predictions_per_day is None or self.reviews_per_day is None:
            return None
        return self._reviews(self.predictions_per_day) <= self.reviews_per_day

    def sentence(self, predictions_per_day: float | None = None) -> str:
        """The certificate in words.

        Parameters
        ----------
        predictions_per_day : float, optional
            To say how many reviews a day it takes; by default what the certificate was made with.
        """
        stated = self._promise(predictions_per_day) if self.granted else self._refusal()
        return f"suspended: {self.suspended} (it said: {stated})" if self.suspended else stated

    def __str__(self) -> str:
        return self.sentence()

    def to_dict(self) -> dict[str, Any]:
        """The certificate as plain JSON values."""
        state = {item.name: getattr(self, item.name) for item in fields(self)}
        if self.classes is not None:
            state["classes"] = {name: part.to_dict() for name, part in self.classes.items()}
        return state

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Certificate:
        """The certificate that :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            When `state` is no mapping, lacks a value, or holds one that no certificate can have.
        ConfigError
            When it holds an unknown key.
        """
        if not isinstance(state, Mapping):
            raise StateError(f"A certificate must be read from a mapping, got a {type(state).__name__}.")
        names = [item.name for item in fields(cls)]
        check_known_keys(state, names, "certificate")
        missing = [name for name in names if name not in state]
        if missing:
            raise StateError(f"A certificate must have {', '.join(names)}, got no {missing[0]!r}.")
        try:
            return cls(**{**state, "classes": _parts(state["classes"])})
        except InvalidInputError as error:
            raise StateError(f"A certificate cannot be read: {error}") from error

    def _promise(self, predictions_per_day: float | None) -> str:
        cases = "answered cases" if self.classes is None else "answered cases of each predicted class"
        limit = f"error at most {_percent(self.max_risk)} on {cases} with {_percent(1.0 - self.delta)} confidence"
        coverage = f"coverage {_about_percent(self.coverage)}"
        return f"{limit}; {coverage}{self._workload(predictions_per_day)}{self._excluded()}"

    def _reviews(self, predictions_per_day: float) -> float:
        return (1.0 - self.coverage) * predictions_per_day

    def _workload(self, predictions_per_day: float | None) -> str:
        per_day = self.predictions_per_day if predictions_per_day is None else predictions_per_day
        if per_day is None:
            return ""
        check_at_least(per_day, "predictions_per_day", 0.0)
        reviews = self._reviews(per_day)
        text = f"; about {_about(reviews)} reviews a day at {per_day:,.6g} predictions a day"
        if self.reviews_per_day is None or reviews <= self.reviews_per_day:
            return text
        return f"{text}, more than the {self.reviews_per_day:,.6g} there is room for"

    def _excluded(self) -> str:
        refused = [name for name, part in (self.classes or {}).items() if not part.granted]
        return f"; no certificate for {', '.join(map(repr, refused))}, withheld throughout" if refused else ""

    def _refusal(self) -> str:
        more = (
            "more cases alone are unlikely to help"
            if self.rows_needed is None
            else f"with about {self.rows_needed:,} cases there might be one"
        )
        asked = f"error at most {_percent(self.max_risk)} with {_percent(1.0 - self.delta)} confidence"
        return f"no certificate ({asked}): {self.reason}; {more}; nothing is answered"


def _parts(state: Any) -> dict[str, Certificate] | None:
    if state is None:
        return None
    if not isinstance(state, Mapping):
        raise StateError(f"A certificate's classes must be a mapping, got a {type(state).__name__}.")
    return {check_text(name, "class"): Certificate.from_dict(part) for name, part in state.items()}


def _percent(share: float) -> str:
    return f"{100.0 * share:.4g} %"


def _about_percent(share: float) -> str:
    percent = 100.0 * share
    return f"{percent:.0f} %" if percent >= 10.0 else f"{percent:.2g} %"


def _about(count: float) -> str:
    """Two leading digits."""
    return f"{float(f'{count:.2g}'):,.0f}" if count >= 10.0 else f"{count:.2g}"
