"""MLflow's model flavor ``caliber``: save, log, load and recalibrate a base model with its calibrator and policy.

A saved model is a folder that any MLflow tool can read::

    MLmodel                       signature, flavors python_function and caliber
    base_model/                   a complete MLflow model of its own flavor (absent when only referred to by URI)
    caliber/calibrator.json       the calibrator's state
    caliber/policy.json           the abstain policy
    caliber/reference.json        class frequencies and the feature and score profile of the calibration data

What is ours is JSON with a format version, and reading it executes no code. How the base model is stored is the
business of its own MLflow flavor.
"""

from mlflow_caliber.flavor._load import _load_pyfunc, load_model
from mlflow_caliber.flavor._recalibrate import Recalibration, recalibrate
from mlflow_caliber.flavor._replace import replace_calibrator
from mlflow_caliber.flavor._save import log_model, save_model
from mlflow_caliber.flavor._signature import OUTPUT_MODES

__all__ = [
    "OUTPUT_MODES",
    "Recalibration",
    "_load_pyfunc",
    "load_model",
    "log_model",
    "recalibrate",
    "replace_calibrator",
    "save_model",
]
