"""Calibration while the outcomes come in.

* :class:`HedgedRecalibrator` needs nothing set, and is bound never to do the raw scores much worse;
  :class:`RollingRecalibrator` fits any calibrator again on a window of the last outcomes.
* :class:`CalibrationAlarm` says when the outcomes contradict the probabilities, however often one looks.
* :func:`backtest` plays a recorded stream through a recalibrator, label delays included.
"""

from mlflow_caliber.online._alarm import CalibrationAlarm
from mlflow_caliber.online._backtest import Backtest, backtest
from mlflow_caliber.online._corrected import CorrectedCalibrator, any_calibrator_from_dict
from mlflow_caliber.online._forecast import Forecast, HedgedForecast, Learned
from mlflow_caliber.online._hedged import HedgedRecalibrator
from mlflow_caliber.online._rolling import RollingRecalibrator
from mlflow_caliber.online._snapshot import SnapshotMap

__all__ = [
    "Backtest",
    "CalibrationAlarm",
    "CorrectedCalibrator",
    "Forecast",
    "HedgedForecast",
    "HedgedRecalibrator",
    "Learned",
    "RollingRecalibrator",
    "SnapshotMap",
    "any_calibrator_from_dict",
    "backtest",
]
