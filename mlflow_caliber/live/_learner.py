"""What is learned from one model's log: a pure function of its entries, in their order.

No clock, no database: whoever replays the same log, from the beginning or from a saved state, in any number of batches,
arrives at the same bits. That is what makes a killed worker harmless.
"""

from __future__ import annotations

import contextlib
import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.online import CalibrationAlarm, HedgedForecast, HedgedRecalibrator, Learned

__all__ = ["Counts", "Losses", "Observed", "Predicted", "StreamLearner"]

FORMAT_VERSION = 1
_LABELS = {0: 0, 1: 1}
_TINY = 1e-9
# Predictions that the recalibrator has given up and whose outcomes still tell it how long outcomes take.
_REMEMBERED = 10_000


class Predicted(NamedTuple):
    """A prediction: ``base`` is the shipped model's probability of the positive class, ``served`` what was answered."""

    seq: int
    at: float
    prediction_id: str
    base: float
    served: float
    segment: str | None = None


class Observed(NamedTuple):
    """An outcome: whether its prediction stands before it in the log, and whether another outcome does."""

    seq: int
    at: float
    prediction_id: str
    y: int
    known: bool = True
    correction: bool = False


@dataclass
class Counts:
    """What became of the outcomes.

    Attributes
    ----------
    learned : int
        Outcomes that were learned, in the order of their predictions.
    expired : int
        Predictions that were given up, because no outcome came within the horizon.
    late : int
        Outcomes that came after their prediction was given up, or of a row that the model could not score. They count
        in reports and teach nothing.
    corrected : int
        Outcomes of predictions whose outcome was known already. They count in reports; what was learned stays.
    unmatched : int
        Outcomes whose prediction did not come within the horizon.
    """

    learned: int = 0
    expired: int = 0
    late: int = 0
    corrected: int = 0
    unmatched: int = 0


@dataclass
class Losses:
    """Log loss, in nats, summed over the learned outcomes: of the shipped model, and of what was really served."""

    base: float = 0.0
    served: float = 0.0

    def add(self, base: float, served: float, y: int) -> None:
        self.base += _loss(base, y)
        self.served += _loss(served, y)


class _Waiting(NamedTuple):
    prediction_id: str
    seq: int
    at: float
    forecast: HedgedForecast
    served: float


@dataclass
class StreamLearner:
    """The recalibrator of one stream, its alarms and its accounts.

    Parameters
    ----------
    horizon : float
        Seconds after which an outcome is not waited for any more.
    recalibrator : HedgedRecalibrator
        Fed with the shipped model's probabilities.
    base_alarm, served_alarm : CalibrationAlarm
        Of the shipped model, and of what was served.
    position : int
        The last entry of the log that was taken.
    counts : Counts
    losses : Losses
    forgiven : float
        The part of :attr:`excess` that somebody has been told of.

    Examples
    --------
    >>> learner = StreamLearner(horizon=3600.0)
    >>> learner.take([Predicted(1, 0.0, "a", 0.7, 0.7), Observed(2, 5.0, "a", 1)])
    >>> learner.position, learner.counts.learned
    (2, 1)
    >>> StreamLearner.from_bytes(learner.to_bytes()).counts.learned
    1
    """

    horizon: float
    recalibrator: HedgedRecalibrator = field(default_factory=HedgedRecalibrator)
    base_alarm: CalibrationAlarm = field(default_factory=CalibrationAlarm)
    served_alarm: CalibrationAlarm = field(default_factory=CalibrationAlarm)
    position: int = 0
    counts: Counts = field(default_factory=Counts)
    losses: Losses = field(default_factory=Losses)
    forgiven: float = 0.0
    _waiting: dict[int, _Waiting] = field(default_factory=dict)
    _early: dict[str, tuple[float, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = {waiting.prediction_id: number for number, waiting in self._waiting.items()}

    @property
    def n_waiting(self) -> int:
        """Predictions whose outcome is not learned yet, and which are not given up."""
        return len(self._waiting)

    @property
    def settled(self) -> int:
        """Up to this entry of the log everything has been learned or given up."""
        return next(iter(self._waiting.values())).seq - 1 if self._waiting else self.position

    @property
    def excess(self) -> float:
        """Nats that serving has cost so far against the shipped model; negative is a gain."""
        return self.losses.served - self.losses.base

    def take(self, entries: Iterable[Predicted | Observed], upto: int | None = None) -> None:
        """The next entries of the log; what lies between them, and up to ``upto``, teaches nothing.

        Raises
        ------
        InvalidInputError
            An entry that is not after the position: it has been learned.
        """
        for entry in entries:
            if entry.seq <= self.position:
                raise InvalidInputError(f"Entries must come after position {self.position}, got {entry.seq}.")
            self._expire(entry.at)
            if isinstance(entry, Predicted):
                self._predicted(entry)
            else:
                self._observed(entry)
            self.position = entry.seq
        if upto is not None:
            self.position = max(self.position, upto)

    def to_bytes(self) -> bytes:
        """Everything as compressed JSON; floats keep every bit."""
        state = {
            "format_version": FORMAT_VERSION,
            "horizon": self.horizon,
            "position": self.position,
            "recalibrator": self.recalibrator.to_dict(),
            "base_alarm": self.base_alarm.to_dict(),
            "served_alarm": self.served_alarm.to_dict(),
            "counts": asdict(self.counts),
            "losses": asdict(self.losses),
            "forgiven": self.forgiven,
            "waiting": [[*w[:3], w.forecast.to_dict(), w.served] for w in self._waiting.values()],
            "early": [[key, *early] for key, early in self._early.items()],
        }
        return zlib.compress(json.dumps(state, allow_nan=False, separators=(",", ":")).encode(), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The learner that :meth:`to_bytes` wrote.

        Raises
        ------
        StateError
            Anything that :meth:`to_bytes` would not have written.
        """
        try:
            state = json.loads(zlib.decompress(data))
            if state["format_version"] != FORMAT_VERSION:
                raise StateError(
                    f"A learner's state must have format_version {FORMAT_VERSION}, got {state['format_version']!r}."
                )
            return cls(
                horizon=float(state["horizon"]),
                recalibrator=HedgedRecalibrator.from_dict(state["recalibrator"]),
                base_alarm=CalibrationAlarm.from_dict(state["base_alarm"]),
                served_alarm=CalibrationAlarm.from_dict(state["served_alarm"]),
                position=int(state["position"]),
                counts=Counts(**{name: int(value) for name, value in state["counts"].items()}),
                losses=Losses(**{name: float(value) for name, value in state["losses"].items()}),
                forgiven=float(state["forgiven"]),
                _waiting=_read_waiting(state["waiting"]),
                _early={str(key): (float(at), _LABELS[y]) for key, at, y in state["early"]},
            )
        except (zlib.error, ValueError, KeyError, TypeError, OverflowError) as error:
            raise StateError(f"A learner's saved state cannot be read: {error!s:.200}") from error

    def _predicted(self, entry: Predicted) -> None:
        if entry.prediction_id in self._numbers:
            return  # sent again after the store had forgotten it
        forecast = self.recalibrator.forecast(entry.base, entry.segment)
        self._waiting[forecast.number] = _Waiting(entry.prediction_id, entry.seq, entry.at, forecast, entry.served)
        self._numbers[entry.prediction_id] = forecast.number
        while len(self._waiting) - self.recalibrator.n_outstanding > _REMEMBERED:
            self._leave(next(iter(self._waiting)))  # the recalibrator gave it up, and remembers it no more either
            self.counts.expired += 1
        early = self._early.pop(entry.prediction_id, None)
        if early is not None:
            self._mark(forecast.number, early[1])

    def _observed(self, entry: Observed) -> None:
        number = self._numbers.get(entry.prediction_id)
        if entry.correction:
            self.counts.corrected += 1
        elif number is not None:
            self._mark(number, entry.y)
        elif entry.known:
            self.counts.late += 1
        if entry.prediction_id in self._early or not (entry.known or entry.correction):
            self._early[entry.prediction_id] = entry.at, entry.y

    def _mark(self, number: int, y: int) -> None:
        waiting = self._waiting[number]
        if self.recalibrator.awaits(waiting.forecast):
            self._learned(self.recalibrator.update(waiting.forecast, y))
            return
        self.counts.late += 1
        self._leave(number)
        with contextlib.suppress(InvalidInputError):  # forgotten there long ago; else it says how long outcomes take
            self.recalibrator.update(waiting.forecast, y)

    def _learned(self, learned: list[Learned]) -> None:
        for forecast, y in learned:
            served = self._leave(forecast.number).served
            self.counts.learned += 1
            self.losses.add(forecast.score, served, y)
            self.base_alarm.update(forecast.score, y)
            self.served_alarm.update(served, y)

    def _expire(self, now: float) -> None:
        """Give up what has waited too long; the log's times never fall, so the oldest come first."""
        while self._waiting:
            number, waiting = next(iter(self._waiting.items()))
            if now - waiting.at <= self.horizon:
                break
            self._leave(number)
            self.counts.expired += 1
            if self.recalibrator.awaits(waiting.forecast):
                self._learned(self.recalibrator.expire(waiting.forecast))
        while self._early:
            key, (at, _) = next(iter(self._early.items()))
            if now - at <= self.horizon:
                break
            del self._early[key]
            self.counts.unmatched += 1

    def _leave(self, number: int) -> _Waiting:
        waiting = self._waiting.pop(number)
        self._numbers.pop(waiting.prediction_id, None)
        return waiting


def _read_waiting(entries: Any) -> dict[int, _Waiting]:
    waiting = (
        _Waiting(str(key), int(seq), float(at), HedgedForecast.from_dict(forecast), float(served))
        for key, seq, at, forecast, served in entries
    )
    return {each.forecast.number: each for each in waiting}


def _loss(p: float, y: int) -> float:
    return -math.log(max(p if y else 1.0 - p, _TINY))
