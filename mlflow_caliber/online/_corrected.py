"""A calibrator and, on top of it, what was learned since: as one calibrator."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import ArrayLike

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.calibrators import Calibrator, MulticlassCalibrator, calibrator_from_dict
from mlflow_caliber.exceptions import StateError
from mlflow_caliber.online._snapshot import SnapshotMap
from mlflow_caliber.online._state import FORMAT_VERSION, read_saved

__all__ = ["CorrectedCalibrator"]


class CorrectedCalibrator:
    """The calibrator that a model was shipped with, followed by a recalibrator's map of some instant.

    Parameters
    ----------
    shipped : Calibrator or CorrectedCalibrator
        From raw scores to the shipped model's probabilities.
    correction : SnapshotMap
        From these to the recalibrated ones.

    Examples
    --------
    >>> from mlflow_caliber.calibrators import make_calibrator
    >>> from mlflow_caliber.online import HedgedRecalibrator
    >>> shipped = make_calibrator("sigmoid").fit([0.2, 0.4, 0.7], [0, 1, 1])
    >>> corrected = CorrectedCalibrator(shipped, HedgedRecalibrator().snapshot())
    >>> bool(abs(corrected.predict([0.5]) - shipped.predict([0.5])).max() < 0.01)
    True
    """

    name: ClassVar[str] = "corrected"

    def __init__(self, shipped: Calibrator | CorrectedCalibrator, correction: SnapshotMap) -> None:
        self.shipped = shipped
        self.correction = correction

    @property
    def uses_segment(self) -> bool:
        """Whether an answer depends on the row's segment."""
        return self.shipped.uses_segment or bool(self.correction.segments_)

    def predict(self, scores: ArrayLike, *, segment: Any = None) -> FloatArray:
        """The probability of each score; ``segment`` is that of all rows or of each, as both maps take it.

        Raises
        ------
        InvalidInputError
            NaN, a score outside [0, 1], empty input, segments of another length.
        """
        asked = {"segment": segment} if self.shipped.uses_segment else {}
        return self.correction.predict(self.shipped.predict(scores, **asked), segment=segment)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values in the form of a saved calibrator; floats keep every bit."""
        state = {"shipped": self.shipped.to_dict(), "correction": self.correction.to_dict()}
        return {"name": self.name, "format_version": FORMAT_VERSION, "params": {}, "state": state}

    @classmethod
    def from_dict(cls, data: Any) -> CorrectedCalibrator:
        """The calibrator that :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            Anything that :meth:`to_dict` would not have written.
        """
        params, state = read_saved(data, cls.name)
        params.close()
        shipped = any_calibrator_from_dict(state.value("shipped"))
        if isinstance(shipped, MulticlassCalibrator):
            raise StateError(f"Saved {cls.name} calibrator: 'shipped' must be for two classes, got a multiclass one.")
        corrected = cls(shipped, SnapshotMap.from_dict(state.value("correction")))
        state.close()
        return corrected


def any_calibrator_from_dict(data: Any) -> Calibrator | MulticlassCalibrator | CorrectedCalibrator:
    """A saved calibrator of any kind, corrected ones too."""
    is_corrected = isinstance(data, dict) and data.get("name") == CorrectedCalibrator.name
    return CorrectedCalibrator.from_dict(data) if is_corrected else calibrator_from_dict(data)
