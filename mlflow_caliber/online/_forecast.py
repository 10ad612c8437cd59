"""A forecast: what was served, and all that learning from its outcome will need."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

from mlflow_caliber._state import StateReader

__all__ = ["Forecast", "HedgedForecast", "Learned"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """One issued prediction. Store it (:meth:`to_dict` is JSON) until the outcome comes, then hand it to ``update``.

    Attributes
    ----------
    number : int
        Forecasts are numbered from 0 in the order in which they were issued.
    score : float
        The raw score.
    segment : str or None
        The segment, if there is one.
    served : float
        The probability that was answered.
    """

    number: int
    score: float
    segment: str | None
    served: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; floats keep every bit."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The forecast that :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            Anything that :meth:`to_dict` would not have written.
        """
        saved = StateReader(data, "Saved forecast:")
        forecast = cls(**cls._read(saved))
        saved.close()
        return forecast

    @staticmethod
    def _read(saved: StateReader) -> dict[str, Any]:
        return {
            "number": saved.integer("number"),
            "score": saved.number("score", 0.0, 1.0),
            "segment": saved.text_or_none("segment"),
            "served": saved.number("served", 0.0, 1.0),
        }


@dataclass(frozen=True, slots=True)
class HedgedForecast(Forecast):
    """A forecast of :class:`HedgedRecalibrator`, with the answers of its experts at that time.

    Attributes
    ----------
    experts : tuple of float
        The pooled experts' answers, in the order of ``HedgedRecalibrator.EXPERTS``.
    pooled : float
        Their weighted mean.
    segment_experts : tuple of float
        Answers of the segment's experts; empty without a segment.
    active : float
        The recalibrated answer, before a share of the raw score was mixed in.
    slot : int
        Which of the outstanding forecasts' slots it occupies.
    late, segment_late : int
        Forecasts that were outstanding when it was issued, in all and in its segment.
    """

    experts: tuple[float, ...]
    pooled: float
    segment_experts: tuple[float, ...]
    active: float
    slot: int
    late: int
    segment_late: int

    @staticmethod
    def _read(saved: StateReader) -> dict[str, Any]:
        return {
            **Forecast._read(saved),
            "experts": tuple(saved.floats("experts", 0.0, 1.0, length=7)),
            "pooled": saved.number("pooled", 0.0, 1.0),
            "segment_experts": tuple(saved.floats("segment_experts", 0.0, 1.0)),
            "active": saved.number("active", 0.0, 1.0),
            "slot": saved.integer("slot"),
            "late": saved.integer("late"),
            "segment_late": saved.integer("segment_late"),
        }


class Learned(NamedTuple):
    """A forecast and its outcome, at the moment at which it was learned: in the order of the forecasts."""

    forecast: Forecast
    y: int
