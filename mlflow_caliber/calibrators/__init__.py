"""Maps from a model's score to a probability that means what it says: one contract, one saved form.

Start with :func:`make_calibrator`; ``docs/user-guide/calibrators.md`` says which one when.
"""

from mlflow_caliber.calibrators._auto import AutoCalibrator
from mlflow_caliber.calibrators._base import Calibrator
from mlflow_caliber.calibrators._identity import IdentityCalibrator
from mlflow_caliber.calibrators._isotonic import CenteredIsotonicCalibrator, IsotonicCalibrator
from mlflow_caliber.calibrators._make import make_calibrator
from mlflow_caliber.calibrators._multiclass import MulticlassCalibrator
from mlflow_caliber.calibrators._parametric import BetaCalibrator, SigmoidCalibrator, TemperatureCalibrator
from mlflow_caliber.calibrators._registry import CALIBRATORS
from mlflow_caliber.calibrators._saved import calibrator_from_dict
from mlflow_caliber.calibrators._segmented import SegmentedCalibrator
from mlflow_caliber.calibrators._venn_abers import VennAbersCalibrator

__all__ = [
    "CALIBRATORS",
    "AutoCalibrator",
    "BetaCalibrator",
    "Calibrator",
    "CenteredIsotonicCalibrator",
    "IdentityCalibrator",
    "IsotonicCalibrator",
    "MulticlassCalibrator",
    "SegmentedCalibrator",
    "SigmoidCalibrator",
    "TemperatureCalibrator",
    "VennAbersCalibrator",
    "calibrator_from_dict",
    "make_calibrator",
]
