"""The recalibrator without a knob."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray
from mlflow_caliber.online._experts import POOLED_EXPERTS, SEGMENT_EXPERTS, PooledExperts, SegmentExperts
from mlflow_caliber.online._forecast import HedgedForecast, Learned
from mlflow_caliber.online._hedge import Slots
from mlflow_caliber.online._ledger import Ledger, Ticket
from mlflow_caliber.online._numbers import (
    TINY,
    check_probability,
    check_share,
    inside,
    likelihood,
    read_segment,
    sigmoid,
)
from mlflow_caliber.online._recalibrator import Recalibrator
from mlflow_caliber.online._snapshot import SnapshotMap, snapshot_of
from mlflow_caliber.online._state import FORMAT_VERSION, read_saved

__all__ = ["HedgedRecalibrator"]


class _Answer(NamedTuple):
    experts: tuple[float, ...]
    pooled: float
    segment_experts: tuple[float, ...]
    active: float
    served: float


class HedgedRecalibrator(Recalibrator[HedgedForecast]):
    """Recalibrates a stream of scores, outcome by outcome, and never does the raw scores much worse.

    Seven maps of the score (the identity, three Bayesian filters over logistic maps, two logistic fits that forget,
    centered isotonic regression of the last 2000 outcomes) are weighted by how well each forecast what came. A segment
    corrects the pooled answer as its own outcomes earn it. Into the answer goes a share of the raw score, which grows
    when the recalibrated answer does worse: that is where the bound comes from. There is nothing to set.

    Call :meth:`forecast` for each prediction that is served, keep what it returns, and hand it to :meth:`update` when
    the outcome is known, in any order. Outcomes are learned in the order of their forecasts. :meth:`predict` only
    looks. At each instant the map never decreases in the score, so it never changes a ranking within a segment.

    Parameters
    ----------
    passive_share : float, default=0.1
        The share pi of the raw score at the start, in [1e-9, 1 - 1e-9].

    Attributes
    ----------
    n_issued, n_outstanding, n_learned : int
        Forecasts issued, those without a verdict, outcomes learned.
    excess_loss : float
        Log loss of what was served minus that of the raw scores, summed over the learned outcomes, in nats.
    excess_bound : float
        What ``excess_loss`` can never exceed: ln(1/pi) as long as each outcome came before the next forecast, whatever
        the data; ln(10/pi) more for each further forecast that was ever outstanding at the same time.

    Notes
    -----
    Proved: the bound, with both losses cut off at probability 1e-9; and, without delay, that the answer costs at most
    -ln(1 - pi) nats more than the recalibrated answer alone. Not proved, only measured: that tempering the evidence of
    late outcomes by (1 + d) ** -0.5 keeps it from doing worse than a rolling isotonic fit. See
    ``docs/user-guide/online.md``.

    References
    ----------
    Herbster, M., Warmuth, M. (1998). Tracking the best expert. Machine Learning 32.
    Joulani, P., Gyorgy, A., Szepesvari, C. (2013). Online learning under delayed feedback. ICML.
    Vovk, V., Petej, I., Gammerman, A. (2021). Protected probabilistic classification. COPA.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> recalibrator = HedgedRecalibrator()
    >>> for p in rng.random(1000):
    ...     forecast = recalibrator.forecast(p)
    ...     _ = recalibrator.update(forecast, rng.random() < 0.5 * p)  # the scores have become twice too high
    >>> round(recalibrator.predict(0.8), 1)
    0.4
    >>> recalibrator.excess_loss < recalibrator.excess_bound
    True
    """

    name: ClassVar[str] = "hedged"
    _kind = HedgedForecast
    EXPERTS: ClassVar[tuple[str, ...]] = tuple(POOLED_EXPERTS)

    def __init__(self, passive_share: float = 0.1) -> None:
        self.passive_share = check_share(passive_share, "passive_share")
        self.n_learned = 0
        self.excess_loss = 0.0
        self._slots = Slots(self.passive_share)
        self._pooled = PooledExperts()
        self._segments: dict[str, SegmentExperts] = {}
        self._ledger: Ledger[HedgedForecast] = Ledger()

    @property
    def excess_bound(self) -> float:
        return self._slots.bound

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each pooled expert; and ``passive``, the share of the raw score in the next answer."""
        weights = dict(zip(self.EXPERTS, self._pooled.hedge.weights, strict=True))
        return {**weights, "passive": self._slots.passive()}

    def segment_weights(self) -> dict[str, dict[str, float]]:
        """Weights of the experts of each segment that has learned something."""
        return {
            name: dict(zip(SEGMENT_EXPERTS, segment.hedge.weights, strict=True))
            for name, segment in self._segments.items()
        }

    def predict(self, p: float, segment: Any = None) -> float:
        """The probability that :meth:`forecast` would serve now; nothing changes.

        Parameters
        ----------
        p : float
            Raw score, in [0, 1].
        segment : str, optional
            Any value is read as text; None and NaN mean no segment.

        Returns
        -------
        float
            In [1e-9, 1 - 1e-9].

        Raises
        ------
        InvalidInputError
            A score outside [0, 1], NaN.
        """
        return self._answer(check_probability(p), read_segment(segment)).served

    def forecast(self, p: float, segment: Any = None) -> HedgedForecast:
        """Serve a probability whose outcome will be learned.

        Parameters
        ----------
        p : float
            Raw score, in [0, 1].
        segment : str, optional
            Any value is read as text; None and NaN mean no segment.

        Returns
        -------
        HedgedForecast
            ``.served`` is the probability. Keep the forecast for :meth:`update`.

        Raises
        ------
        InvalidInputError
            A score outside [0, 1], NaN.
        """
        p, segment = check_probability(p), read_segment(segment)
        answer, ledger = self._answer(p, segment), self._ledger
        forecast = HedgedForecast(
            number=ledger.issued,
            score=p,
            segment=segment,
            served=answer.served,
            experts=answer.experts,
            pooled=answer.pooled,
            segment_experts=answer.segment_experts,
            active=answer.active,
            slot=self._slots.take(),
            late=ledger.outstanding(),
            segment_late=0 if segment is None else ledger.outstanding_in(segment),
        )
        ledger.issue(Ticket(segment, forecast.served, forecast.slot))
        return forecast

    def snapshot(self) -> SnapshotMap:
        """The map of this instant as a compact value of its own, to be served elsewhere.

        Returns
        -------
        SnapshotMap
            Knots for the pooled map and for each segment, never further than 0.001 from the exact maps.
        """
        return snapshot_of(self._curve, list(self._segments), self.n_learned)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; whoever goes on from there computes the same bits.

        Returns
        -------
        dict
            About 60 kB of JSON, 8 kB for each segment, and what is outstanding.
        """
        return {
            "name": self.name,
            "format_version": FORMAT_VERSION,
            "params": {"passive_share": self.passive_share},
            "state": {
                "n_learned": self.n_learned,
                "excess_loss": self.excess_loss,
                "odds": list(self._slots.odds),
                "free": sorted(self._slots.free),
                "pooled": self._pooled.to_dict(),
                "segments": {name: segment.to_dict() for name, segment in self._segments.items()},
                "ledger": self._ledger.to_dict(),
            },
        }

    @classmethod
    def from_dict(cls, data: Any) -> HedgedRecalibrator:
        """The recalibrator that :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            Anything that :meth:`to_dict` would not have written.
        """
        params, state = read_saved(data, cls.name)
        recalibrator = cls(params.number("passive_share", TINY, 1.0 - TINY))
        params.close()
        recalibrator._restore(state)
        state.close()
        return recalibrator

    def _restore(self, state: StateReader) -> None:
        self.n_learned, self.excess_loss = state.integer("n_learned"), state.number("excess_loss")
        self._slots.odds, self._slots.free = state.floats("odds"), state.integers("free")
        self._pooled = PooledExperts.read(state.nested("pooled"))
        segments = state.nested("segments")
        self._segments = {name: SegmentExperts.read(segments.nested(name)) for name in segments.names()}
        self._ledger = Ledger.read(state.nested("ledger"), HedgedForecast.from_dict)
        taken = sorted([*self._slots.free, *self._ledger.slots()])
        if taken != list(range(len(self._slots.odds))):
            raise state.misfit("free", "the slots that no outstanding forecast occupies", self._slots.free)

    def _answer(self, p: float, segment: str | None) -> _Answer:
        p = inside(p)
        experts = self._pooled.answer(p)
        pooled = self._pooled.hedge.mix(experts)
        active = pooled
        segment_experts: tuple[float, ...] = ()
        if segment is not None:
            layer = self._segments.get(segment, _NEW_SEGMENT)
            segment_experts = layer.answer(p, pooled)
            active = layer.hedge.mix(segment_experts)
        active = inside(active)
        odds = self._slots.next_odds()
        return _Answer(experts, pooled, segment_experts, active, sigmoid(odds) * p + sigmoid(-odds) * active)

    def _curve(self, scores: FloatArray, segment: str | None) -> FloatArray:
        """What :meth:`predict` says to many scores."""
        p = np.clip(scores, TINY, 1.0 - TINY)
        active = self._pooled.curve(p)
        if segment is not None:
            active = self._segments[segment].curve(p, active)
        odds = self._slots.next_odds()
        served: FloatArray = sigmoid(odds) * p + sigmoid(-odds) * np.clip(active, TINY, 1.0 - TINY)
        return served

    def _release(self) -> list[Learned]:
        learned = []
        for release in self._ledger.release():
            if release.forecast is not None:
                self._learn(release.forecast, release.y)
                learned.append(Learned(release.forecast, release.y))
            self._slots.release(release.ticket.slot)
        return learned

    def _learn(self, forecast: HedgedForecast, y: int) -> None:
        """The forecast has just left the ledger: those outstanding there were issued after it."""
        p = inside(forecast.score)
        outstanding = max(forecast.late, self._ledger.outstanding())
        self._pooled.learn(p, y, forecast.experts, outstanding)
        if forecast.segment is not None:
            layer = self._segments.get(forecast.segment) or SegmentExperts()
            self._segments[forecast.segment] = layer
            outstanding = max(forecast.segment_late, self._ledger.outstanding_in(forecast.segment))
            layer.learn(forecast.pooled, y, forecast.segment_experts, outstanding)
        raw, served = likelihood(p, y), likelihood(forecast.served, y)
        self._slots.learn(forecast.slot, raw, likelihood(forecast.active, y))
        self.n_learned += 1
        self.excess_loss += math.log(raw) - math.log(served)


# Answers for every segment that has learned nothing; never learns itself.
_NEW_SEGMENT = SegmentExperts()
