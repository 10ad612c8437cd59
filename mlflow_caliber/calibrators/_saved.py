"""The door back in for saved calibrators of every kind."""

from __future__ import annotations

from typing import Any

from mlflow_caliber.calibrators._base import Calibrator
from mlflow_caliber.calibrators._make import BINARY_KINDS
from mlflow_caliber.calibrators._multiclass import MulticlassCalibrator
from mlflow_caliber.calibrators._registry import read_as

__all__ = ["calibrator_from_dict"]


def calibrator_from_dict(data: Any) -> Calibrator | MulticlassCalibrator:
    """The fitted calibrator that ``to_dict`` wrote; its predictions are the same to the last bit.

    Parameters
    ----------
    data : dict
        What ``to_dict`` returned, possibly by way of a JSON file. It is only read, never executed.

    Returns
    -------
    Calibrator or MulticlassCalibrator
        Fitted.

    Raises
    ------
    StateError
        Anything that ``to_dict`` would not have written: an unknown name, another format version, a missing, strange or
        surplus key, NaN, knots that are out of order.

    Examples
    --------
    >>> from mlflow_caliber.calibrators import make_calibrator
    >>> saved = make_calibrator("isotonic").fit([0.2, 0.4, 0.7], [0, 1, 1]).to_dict()
    >>> saved["state"]
    {'n_samples': 3, 'x_thresholds': [0.2, 0.4, 0.7], 'y_thresholds': [0.0, 1.0, 1.0]}
    >>> calibrator_from_dict(saved).predict([0.3])
    array([0.5])
    """
    kinds: dict[str, type[Calibrator | MulticlassCalibrator]] = {**BINARY_KINDS}
    kinds[MulticlassCalibrator.name] = MulticlassCalibrator
    return read_as(data, kinds)
