"""A calibrator fitted again and again on the last outcomes: the usual way, done with care."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray, check_count, check_unit_interval
from mlflow_caliber.calibrators import Calibrator, SegmentedCalibrator, calibrator_from_dict, make_calibrator
from mlflow_caliber.exceptions import CaliberError, InvalidInputError, OneClassError, StateError
from mlflow_caliber.online._forecast import Forecast, Learned
from mlflow_caliber.online._ledger import Ledger, Ticket
from mlflow_caliber.online._numbers import check_probability, read_segment
from mlflow_caliber.online._recalibrator import Recalibrator
from mlflow_caliber.online._snapshot import SnapshotMap, snapshot_of
from mlflow_caliber.online._state import FORMAT_VERSION, read_saved

__all__ = ["RollingRecalibrator"]


class RollingRecalibrator(Recalibrator[Forecast]):
    """Fit a calibrator on the last outcomes, and again whenever so many new ones have come.

    This is the baseline for :class:`HedgedRecalibrator`, with the same methods. It has no bound: a small window
    over-fits, a large one lags. Outcomes enter the window in the order of their forecasts, whatever their delays; the
    window and the count until the next fit are part of the saved state; a window of one class keeps the last map.

    Parameters
    ----------
    calibrator : str, default="isotonic"
        Whatever :func:`~mlflow_caliber.calibrators.make_calibrator` knows; ``"segmented"`` fits a map for each segment,
        the others ignore segments.
    window : int, default=500
        Outcomes to fit on.
    min_samples : int, default=50
        With fewer outcomes the raw score is served.
    refit_every : int, default=10
        New outcomes from one fit to the next.
    clip : float, default=0.01
        Answers of the calibrator are kept in [clip, 1 - clip]: a window without a single positive is no proof of
        probability 0.
    calibrator_params : dict, optional
        Parameters of the calibrator.

    Attributes
    ----------
    n_issued, n_outstanding, n_learned : int
        Forecasts issued, those without a verdict, outcomes learned.

    Raises
    ------
    InvalidInputError, ConfigError
        Parameters that make no sense, or that the calibrator does not have.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> recalibrator = RollingRecalibrator("sigmoid", window=400)
    >>> for p in rng.random(1000):
    ...     forecast = recalibrator.forecast(p)
    ...     _ = recalibrator.update(forecast, rng.random() < 0.5 * p)
    >>> round(recalibrator.predict(0.8), 1)
    0.4
    """

    name: ClassVar[str] = "rolling"

    def __init__(
        self,
        calibrator: str = "isotonic",
        *,
        window: int = 500,
        min_samples: int = 50,
        refit_every: int = 10,
        clip: float = 0.01,
        calibrator_params: Mapping[str, Any] | None = None,
    ) -> None:
        self.calibrator = calibrator
        self.calibrator_params = dict(calibrator_params or {})
        make_calibrator(calibrator, **self.calibrator_params)
        self.window = check_count(window, "window", minimum=2)
        self.min_samples = check_count(min_samples, "min_samples", minimum=2)
        if self.min_samples > self.window:
            raise InvalidInputError(f"min_samples must be at most window = {self.window}, got {self.min_samples}.")
        self.refit_every = check_count(refit_every, "refit_every")
        self.clip = check_unit_interval(clip, "clip")
        if self.clip >= 0.5:
            raise InvalidInputError(f"clip must be below 0.5, got {self.clip:.6g}.")
        self.n_learned = 0
        self._rows: deque[tuple[float, int, str | None]] = deque(maxlen=self.window)
        self._since_fit = 0
        self._fitted: Any = None
        self._ledger: Ledger[Forecast] = Ledger()

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
            In [clip, 1 - clip] once a calibrator is fitted.

        Raises
        ------
        InvalidInputError
            A score outside [0, 1], NaN.
        """
        p, segment = check_probability(p), read_segment(segment)
        return p if self._fitted is None else self._map(np.array([p]), segment).item()

    def forecast(self, p: float, segment: Any = None) -> Forecast:
        """Serve a probability whose outcome will be learned; parameters and errors as of :meth:`predict`.

        Parameters
        ----------
        p : float
            Raw score, in [0, 1].
        segment : str, optional
            Any value is read as text; None and NaN mean no segment.

        Returns
        -------
        Forecast
            ``.served`` is the probability. Keep the forecast for :meth:`update`.
        """
        segment = read_segment(segment)
        served = self.predict(p, segment)
        forecast = Forecast(self._ledger.issued, float(p), segment, served)
        self._ledger.issue(Ticket(segment, served, 0))
        return forecast

    def snapshot(self) -> SnapshotMap:
        """The map of this instant as a compact value of its own, to be served elsewhere.

        Returns
        -------
        SnapshotMap
            Never further than 0.001 from the exact map, but for the width of 1e-8 logits around a jump.
        """
        segments = list(self._fitted.segments_) if isinstance(self._fitted, SegmentedCalibrator) else []
        return snapshot_of(self._curve, segments, self.n_learned)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; whoever goes on from there computes the same bits."""
        return {
            "name": self.name,
            "format_version": FORMAT_VERSION,
            "params": {
                "calibrator": self.calibrator,
                "window": self.window,
                "min_samples": self.min_samples,
                "refit_every": self.refit_every,
                "clip": self.clip,
                "calibrator_params": self.calibrator_params,
            },
            "state": {
                "n_learned": self.n_learned,
                "since_fit": self._since_fit,
                "scores": [p for p, _, _ in self._rows],
                "outcomes": [y for _, y, _ in self._rows],
                "segments": [segment for _, _, segment in self._rows],
                "fitted": None if self._fitted is None else self._fitted.to_dict(),
                "ledger": self._ledger.to_dict(),
            },
        }

    @classmethod
    def from_dict(cls, data: Any) -> RollingRecalibrator:
        """The recalibrator that :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            Anything that :meth:`to_dict` would not have written.
        """
        params, state = read_saved(data, cls.name)
        recalibrator = cls._from_params(params)
        recalibrator._restore(state)
        state.close()
        return recalibrator

    @classmethod
    def _from_params(cls, params: StateReader) -> RollingRecalibrator:
        values = {name: params.value(name) for name in params.names()}
        try:
            return cls(**values)
        except (TypeError, CaliberError) as error:
            raise StateError(f"Saved {cls.name} state: params: {error}") from error

    def _restore(self, state: StateReader) -> None:
        self.n_learned, self._since_fit = state.integer("n_learned"), state.integer("since_fit")
        scores, outcomes = state.floats("scores", 0.0, 1.0), state.integers("outcomes")
        segments = state.sequence("segments")
        if not len(scores) == len(outcomes) == len(segments) <= self.window or not set(outcomes) <= {0, 1}:
            raise state.misfit(
                "outcomes", f"an outcome and a segment for each of at most {self.window} scores", outcomes
            )
        self._rows.extend(zip(scores, outcomes, segments, strict=True))
        fitted = state.value("fitted")
        self._fitted = None if fitted is None else calibrator_from_dict(fitted)
        self._ledger = Ledger.read(state.nested("ledger"), Forecast.from_dict)

    def _map(self, scores: FloatArray, segment: str | None) -> FloatArray:
        by_segment = isinstance(self._fitted, SegmentedCalibrator) and segment is not None
        answers = self._fitted.predict(scores, segment=segment) if by_segment else self._fitted.predict(scores)
        clipped: FloatArray = np.clip(answers, self.clip, 1.0 - self.clip)
        return clipped

    def _curve(self, scores: FloatArray, segment: str | None) -> FloatArray:
        return scores if self._fitted is None else self._map(scores, segment)

    def _release(self) -> list[Learned]:
        learned = []
        for release in self._ledger.release():
            if release.forecast is not None:
                self._rows.append((release.forecast.score, release.y, release.forecast.segment))
                self.n_learned += 1
                self._since_fit += 1
                learned.append(Learned(release.forecast, release.y))
                if self.n_learned >= self.min_samples and self._since_fit >= self.refit_every:
                    self._fit()
        return learned

    def _fit(self) -> None:
        self._since_fit = 0
        scores, outcomes, segments = zip(*self._rows, strict=True)
        calibrator: Calibrator = make_calibrator(self.calibrator, **self.calibrator_params)
        try:
            if isinstance(calibrator, SegmentedCalibrator):
                calibrator.fit(scores, outcomes, segment=np.array(segments, dtype=object))
            else:
                calibrator.fit(scores, outcomes)
        except OneClassError:
            return
        self._fitted = calibrator
