"""The recalibrator's maps of one instant, as knots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray, check_scores, check_segment
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.online._numbers import TINY
from mlflow_caliber.online._state import FORMAT_VERSION, read_saved

__all__ = ["SnapshotMap", "snapshot_of"]

# The exact map is read at so many logits, evenly spaced, and between them as long as it rises by more than this; then
# knots are dropped as long as that moves the map by no more than this. Together they stay below 0.001.
_FIRST_KNOTS, _RISE, _MOVE = 257, 5e-4, 4e-4
# Enough to make the width of a jump 1e-8 logits; no two knots ever meet.
_HALVINGS = 24
_END = float(np.log1p(-TINY) - np.log(TINY))


class _Knots:
    """Straight lines between knots (logit of the score, probability), constant beyond them."""

    def __init__(self, logit: FloatArray, probability: FloatArray) -> None:
        self.logit = logit
        self.probability = probability

    def at(self, scores: FloatArray) -> FloatArray:
        z = _logits(scores)
        if self.logit.size == 1:
            return np.full(z.shape, self.probability[0])
        left = np.clip(np.searchsorted(self.logit, z, side="right") - 1, 0, self.logit.size - 2)
        low, high = self.probability[left], self.probability[left + 1]
        part = (z - self.logit[left]) / (self.logit[left + 1] - self.logit[left])
        # Rounding must not carry a line above its right end: the map never decreases, to the last bit.
        line: FloatArray = np.clip(low + (high - low) * part, low, high)
        return line

    def to_dict(self) -> dict[str, Any]:
        return {"logit": self.logit.tolist(), "probability": self.probability.tolist()}

    @classmethod
    def read(cls, saved: StateReader) -> _Knots:
        logit, probability = saved.floats("logit"), saved.floats("probability", 0.0, 1.0)
        if not logit or len(logit) != len(probability) or np.any(np.diff(logit) <= 0.0):
            raise saved.misfit("logit", "increasing knots, one for each probability", logit)
        if np.any(np.diff(probability) < 0.0):
            raise saved.misfit("probability", "a list that never decreases", probability)
        saved.close()
        return cls(np.array(logit), np.array(probability))


class SnapshotMap:
    """A recalibrator's maps of one instant: what is served where the recalibrator itself does not run.

    It answers as a fitted calibrator does, many scores at a time. Between knots it is straight in the logit of the
    score; the map never decreases.

    Attributes
    ----------
    n_samples_ : int
        Outcomes that the recalibrator had learned.
    segments_ : list of str
        Segments with a map of their own.

    Examples
    --------
    >>> from mlflow_caliber.online import HedgedRecalibrator
    >>> snapshot = HedgedRecalibrator().snapshot()
    >>> snapshot.predict([0.2, 0.7]).round(3)
    array([0.206, 0.697])
    >>> SnapshotMap.from_dict(snapshot.to_dict()).predict([0.7], segment="north").round(2)
    array([0.7])
    """

    name: ClassVar[str] = "online_snapshot"

    def __init__(self, pooled: _Knots, segments: Mapping[str, _Knots], n_samples: int) -> None:
        self._pooled = pooled
        self._segments = dict(segments)
        self.n_samples_ = n_samples

    @property
    def segments_(self) -> list[str]:
        return list(self._segments)

    def predict(self, scores: ArrayLike, *, segment: Any = None) -> FloatArray:
        """The recalibrated probability of each score.

        Parameters
        ----------
        scores : array-like of shape (n,)
            In [0, 1].
        segment : str or array-like of shape (n,), optional
            Segment of all rows, or of each. Missing and unknown ones, and no segment at all, mean the pooled map.

        Returns
        -------
        ndarray of shape (n,)
            ``float64``, in [0, 1], non-decreasing in the score within a segment.

        Raises
        ------
        InvalidInputError
            NaN, a score outside [0, 1], empty input, segments of another length.
        """
        try:
            p = check_scores(scores, "scores")
        except OverflowError:  # a whole number that no float can hold
            raise InvalidInputError("scores must be numbers in [0, 1], got one beyond all floats.") from None
        answers = self._pooled.at(p)
        if segment is not None and self._segments:
            column = check_segment(segment, p.size)
            for name, knots in self._segments.items():
                rows = np.flatnonzero(column == name)
                answers[rows] = knots.at(p[rows])
        return answers

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values in the form of a saved calibrator; floats keep every bit."""
        segments = {name: knots.to_dict() for name, knots in self._segments.items()}
        state = {"n_samples": self.n_samples_, "pooled": self._pooled.to_dict(), "segments": segments}
        return {"name": self.name, "format_version": FORMAT_VERSION, "params": {}, "state": state}

    @classmethod
    def from_dict(cls, data: Any) -> SnapshotMap:
        """The map that :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            Anything that :meth:`to_dict` would not have written.
        """
        params, state = read_saved(data, cls.name)
        params.close()
        segments = state.nested("segments")
        knots = {name: _Knots.read(segments.nested(name)) for name in segments.names()}
        snapshot = cls(_Knots.read(state.nested("pooled")), knots, state.integer("n_samples"))
        state.close()
        return snapshot


def snapshot_of(
    curve: Callable[[FloatArray, str | None], FloatArray], segments: Iterable[str], n_samples: int
) -> SnapshotMap:
    """Read the maps of ``curve(scores, segment)`` into knots."""

    def knots(segment: str | None) -> _Knots:
        return _knots_of(lambda z: curve(_scores(z), segment))

    return SnapshotMap(knots(None), {name: knots(name) for name in segments}, n_samples)


def _knots_of(line: Callable[[FloatArray], FloatArray]) -> _Knots:
    """Halve the intervals until the map rises little in each, then drop the knots that are not needed.

    A map that never decreases stays between its values at the ends of an interval, and so does the straight line: they
    are no further apart than these are.
    """
    z = np.linspace(-_END, _END, _FIRST_KNOTS)
    y = line(z)
    for _ in range(_HALVINGS):
        steep = np.flatnonzero(np.diff(y) > _RISE)
        if not steep.size:
            break
        middle = 0.5 * (z[steep] + z[steep + 1])
        z, y = np.insert(z, steep + 1, middle), np.insert(y, steep + 1, line(middle))
    y = np.maximum.accumulate(np.clip(y, 0.0, 1.0))
    keep = _needed(z, y)
    return _Knots(z[keep], y[keep])


def _needed(z: FloatArray, y: FloatArray) -> list[int]:
    """Knots whose lines stay within the tolerance of all (the split at the farthest point, Douglas and Peucker)."""
    keep, spans = {0, z.size - 1}, [(0, z.size - 1)]
    while spans:
        first, last = spans.pop()
        inner = slice(first + 1, last)
        slope = (y[last] - y[first]) / (z[last] - z[first])
        off = np.abs(y[inner] - y[first] - slope * (z[inner] - z[first]))
        if off.size and off.max() > _MOVE:
            worst = first + 1 + int(off.argmax())
            keep.add(worst)
            spans += [(first, worst), (worst, last)]
    return sorted(keep)


def _logits(scores: FloatArray) -> FloatArray:
    p = np.clip(scores, TINY, 1.0 - TINY)
    z: FloatArray = np.log(p) - np.log1p(-p)
    return z


def _scores(z: FloatArray) -> FloatArray:
    p: FloatArray = 1.0 / (1.0 + np.exp(-z))
    return p
