"""Which predictions are withheld and go to a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber._validation import (
    FloatArray,
    check_choice,
    check_column,
    check_confidence,
    check_known_keys,
    check_segment_thresholds,
    check_unit_interval,
)
from mlflow_caliber.exceptions import InvalidInputError, StateError

__all__ = ["AbstainPolicy"]

FORMAT_VERSION = 1
_ON_ERROR = ("abstain", "raw")


@dataclass(frozen=True)
class AbstainPolicy:
    """Withhold a prediction whose confidence lies below a threshold.

    Parameters
    ----------
    threshold : float, default=0.0
        Predictions of confidence < threshold are withheld; in [0, 1]. 0 withholds none, save those of confidence NaN.
    segment_thresholds : mapping of str to float, optional
        Thresholds of their own for named segments; any other segment uses `threshold`.
    on_calibrator_error : {"abstain", "raw"}, default="abstain"
        What serving does when the calibrator fails: withhold the prediction, or answer with the raw probability.

    Raises
    ------
    InvalidInputError
        For a threshold outside [0, 1], a segment name that is no text, or an unknown `on_calibrator_error`.

    References
    ----------
    Chow (1970), "On Optimum Recognition Error and Reject Tradeoff", IEEE Transactions on Information Theory.

    Examples
    --------
    >>> from mlflow_caliber.abstain import AbstainPolicy
    >>> policy = AbstainPolicy(0.7, segment_thresholds={"new": 0.9})
    >>> policy.apply([0.6, 0.7, 0.8, float("nan")])
    array([ True, False, False,  True])
    >>> policy.apply([0.8, 0.8, 0.8], segment=["new", "old", None])
    array([ True, False, False])
    """

    threshold: float = 0.0
    segment_thresholds: Mapping[str, float] | None = field(default=None, kw_only=True, hash=False)
    on_calibrator_error: Literal["abstain", "raw"] = field(default="abstain", kw_only=True)

    def __post_init__(self) -> None:
        check_choice(self.on_calibrator_error, "on_calibrator_error", _ON_ERROR)
        object.__setattr__(self, "threshold", check_unit_interval(self.threshold, "threshold"))
        object.__setattr__(self, "segment_thresholds", check_segment_thresholds(self.segment_thresholds))

    def apply(self, confidence: ArrayLike, *, segment: Any = None, threshold: float | None = None) -> NDArray[np.bool_]:
        """Which predictions are withheld.

        Parameters
        ----------
        confidence : array-like of shape (n,)
            Calibrated probability of the predicted label; NaN (no confidence is known) is withheld. `n` may be 0.
        segment : str or array-like of shape (n,), optional
            The segment of all rows, or of each row; unknown and missing ones use the policy's `threshold`.
        threshold : float, optional
            Used for every row in place of the policy's thresholds, those of segments included.

        Returns
        -------
        ndarray of shape (n,), bool
            True where the prediction is withheld.

        Raises
        ------
        InvalidInputError
            For confidences that are no numbers, segments of another length, or a threshold outside [0, 1].
        """
        conf = check_confidence(confidence)
        limit = self._limit(segment, conf) if threshold is None else check_unit_interval(threshold, "threshold")
        # Not conf < limit: a NaN must come out withheld.
        return np.logical_not(conf >= limit)

    def _limit(self, segment: Any, confidence: FloatArray) -> float | FloatArray:
        thresholds: dict[Any, float] = dict(self.segment_thresholds or {})
        if segment is None or isinstance(segment, str):
            return thresholds.get(segment, self.threshold)
        segments = check_column(segment, "segment", confidence.size)
        limits = pd.Series(segments, dtype=object).map(thresholds)
        return np.asarray(limits.fillna(self.threshold), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """The policy as plain JSON values.

        Examples
        --------
        >>> AbstainPolicy(0.7).to_dict()
        {'format_version': 1, 'threshold': 0.7, 'segment_thresholds': None, 'on_calibrator_error': 'abstain'}
        """
        segments = self.segment_thresholds
        return {
            "format_version": FORMAT_VERSION,
            "threshold": self.threshold,
            "segment_thresholds": None if segments is None else dict(segments),
            "on_calibrator_error": self.on_calibrator_error,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> AbstainPolicy:
        """The policy that :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            When `state` is no mapping, has another format version, or holds a value that no policy can have.
        ConfigError
            When it holds an unknown key.
        """
        if not isinstance(state, Mapping):
            raise StateError(f"An abstain policy must be read from a mapping, got a {type(state).__name__}.")
        version = state.get("format_version")
        if version != FORMAT_VERSION:
            raise StateError(f"An abstain policy must have format_version {FORMAT_VERSION}, got {version!r}.")
        values = {key: value for key, value in state.items() if key != "format_version"}
        check_known_keys(values, ("threshold", "segment_thresholds", "on_calibrator_error"), "abstain policy")
        try:
            return cls(**values)
        except InvalidInputError as error:
            raise StateError(f"An abstain policy cannot be read: {error}") from error
