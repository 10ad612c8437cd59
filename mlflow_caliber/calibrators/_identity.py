"""The calibrator that changes nothing."""

from __future__ import annotations

from typing import Any, ClassVar

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray, IntArray
from mlflow_caliber.calibrators._base import Calibrator

__all__ = ["IdentityCalibrator"]


class IdentityCalibrator(Calibrator):
    """Score and probability are the same: what every other calibrator has to beat.

    It still refuses data that no calibrator could learn from, so that exchanging one name for another never
    turns a refusal into an answer.

    Examples
    --------
    >>> IdentityCalibrator().fit([0.2, 0.9], [0, 1]).predict([0.2, 0.5])
    array([0.2, 0.5])
    """

    name: ClassVar[str] = "identity"

    def _fit(self, scores: FloatArray, y: FloatArray | IntArray, weight: FloatArray | None) -> None:
        """Nothing to learn."""

    def _map(self, scores: FloatArray) -> FloatArray:
        return scores.copy()

    def _state(self) -> dict[str, Any]:
        return {}

    def _restore(self, state: StateReader) -> None:
        """Nothing was learnt."""
