"""What the monitor has seen of one stream at one moment: values, made once and only read after that."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from mlflow_caliber.diagnosis import Diagnosis
from mlflow_caliber.drift import DriftReport
from mlflow_caliber.report import ReliabilityReport
from mlflow_caliber.store import StreamCounts

__all__ = ["AgeGroup", "AlarmState", "Learning", "Maturity", "Observation", "ReplicaState", "Served", "Window"]

_READABLE = 10.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """The revision that is to be served; number 0 is the shipped calibrator, of which the store knows no more."""

    number: int
    revision: str
    pinned: bool
    published_at: float | None
    n_learned: int


@dataclass(frozen=True, kw_only=True)
class AlarmState:
    """A calibration alarm: ``log_e_value`` is the evidence now, ``raised`` whether it is enough now."""

    raised: bool
    log_e_value: float
    n_seen: int

    @property
    def e_value(self) -> str:
        """The e-value as people read it, also one that no float can hold."""
        log = self.log_e_value
        return f"{math.exp(log):.3g}" if abs(log) < _READABLE else f"10^{log / math.log(10.0):.0f}"


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How far a stream has been learned, and what that has brought.

    Attributes
    ----------
    holder : str or None
        Who learns; None when nobody does, or the lease has run out.
    position : int
        The last entry of the log that was written down as learned.
    unread : int
        Entries behind it; :data:`MANY_UNREAD` stands for so many or more.
    lag_seconds : float
        How long the oldest of them has been there.
    n_waiting : int
        Predictions whose outcome may still come.
    excess : float
        Nats that serving has cost against the shipped model; negative is a gain.
    learned, late, expired, corrected, unmatched : int
        As :class:`Counts` says.
    base, served : AlarmState or None
        Of the shipped model, and of what was served; None before anything was learned.
    trouble : str
        Why the saved state cannot be read; then it is all zeros.
    """

    holder: str | None
    position: int
    unread: int
    lag_seconds: float
    n_waiting: int = 0
    excess: float = 0.0
    learned: int = 0
    late: int = 0
    expired: int = 0
    corrected: int = 0
    unmatched: int = 0
    base: AlarmState | None = None
    served: AlarmState | None = None
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class AgeGroup:
    """Predictions that are at least ``days`` old, and younger than those of the next group: how many are labelled."""

    days: float
    n: int
    labelled: int


@dataclass(frozen=True, kw_only=True)
class Maturity:
    """How far outcomes have come in.

    ``settled_before`` is the time from which on too few have: what is judged was recorded before. Outcomes that come
    at once are often of one kind (defaults show early, repayments late), so young rows with outcomes are no sample.
    """

    predictions: int
    labelled: int
    ages: tuple[AgeGroup, ...]
    median_delay: float | None
    settled_before: float | None

    @property
    def waiting(self) -> int:
        """Predictions of the window without an outcome."""
        return self.predictions - self.labelled


@dataclass(frozen=True, kw_only=True)
class Window:
    """The predictions of the window; where something could not be computed, its note says why in a sentence.

    ``report`` is about what was served, ``report.raw`` about the shipped model on the same rows.
    """

    since: float
    maturity: Maturity
    report: ReliabilityReport | None
    report_note: str
    drift: DriftReport | None
    drift_note: str
    diagnosis: Diagnosis | None
    diagnosis_note: str


@dataclass(frozen=True, kw_only=True)
class ReplicaState:
    """A serving process: ``stale`` if it answers with another revision than the one to be served, and had time."""

    name: str
    revision: str
    dropped: int
    trouble: str
    seen_at: float
    silent: bool
    stale: bool


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One stream at one moment; see :func:`observe`."""

    model: str
    version: str
    at: float
    is_learned: bool
    first_at: float | None
    counts: StreamCounts
    served: Served
    window: Window
    learning: Learning | None
    replicas: tuple[ReplicaState, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe values."""
        window = self.window
        parts = {"report": window.report, "drift": window.drift, "diagnosis": window.diagnosis}
        maturity = {**asdict(window.maturity), "waiting": window.maturity.waiting}
        return {
            "model": self.model,
            "version": self.version,
            "at": self.at,
            "first_at": self.first_at,
            "counts": asdict(self.counts),
            "served": asdict(self.served),
            "window": {
                "since": window.since,
                "maturity": maturity,
                **{name: None if part is None else part.to_dict() for name, part in parts.items()},
                **{f"{name}_note": getattr(window, f"{name}_note") for name in parts},
            },
            "learning": None if self.learning is None else asdict(self.learning),
            "replicas": [asdict(replica) for replica in self.replicas],
        }
