"""Base model + calibrator + abstain policy as one predictor, and the same thing as a scikit-learn estimator."""

from mlflow_caliber.model._calibrated import (
    FRAME_COLUMNS,
    REASONS,
    UNCALIBRATED,
    CalibratedModel,
    Calibrates,
    Scorer,
    check_pos_label,
    encode_labels,
    fit_calibrator,
    is_unfitted,
)
from mlflow_caliber.model._classifier import CaliberClassifier

__all__ = [
    "FRAME_COLUMNS",
    "REASONS",
    "UNCALIBRATED",
    "CaliberClassifier",
    "CalibratedModel",
    "Calibrates",
    "Scorer",
    "check_pos_label",
    "encode_labels",
    "fit_calibrator",
    "is_unfitted",
]
