"""The reliability layer of MLflow: probabilities that mean what they say.

``import mlflow_caliber as caliber`` loads nothing but this file; each name below is imported when it is first used.

The rooms, from the numbers up (imports point down only):

=====================  ==========================================================================================
``calibrators``        score -> probability: isotonic, centered isotonic, sigmoid, beta, temperature, auto
``metrics``            calibration error, proper scores and their decomposition, risk-coverage
``abstain``            :class:`AbstainPolicy`: which predictions go to a person
``drift``              how far today's features and scores are from the reference; performance without labels
``diagnosis``          :func:`diagnose`: none, recalibrate, recalibrate and retrain, or investigate
``report``             :func:`reliability_report` -> :class:`ReliabilityReport`, the frozen result of one evaluation
``model``              :class:`CalibratedModel` = base model + calibrator + policy; :class:`CaliberClassifier`
``plots``, ``html``    the report, drawn
``theme``              what all web pages share: colours, style, how elements are built
``scorers``            any MLflow model -> class probabilities
``evidence``           the report of one model version on one data set, bound to both by digests
``config``             ``caliber.yaml``, checked and described by one shape
``flavor``             MLflow's model flavor: save, log, load, recalibrate
``evaluator``          MLflow's model evaluator ``caliber``
``gate``               policy and evidence -> decision; tags and aliases in the registry
``ledger``             who decided what: an append-only, hash-chained log in the registry's own database
``client``             talks to the live service: predictions, outcomes, reviews, reports
``store``, ``live``    what production says, kept; what is learned and watched from it, and reports of any length
``guard``              MLflow's server with a registry that refuses; entry point ``mlflow.app = caliber``
``server``             the live service: API, review queue, dashboard
``cli``                the ``mlflow-caliber`` command
=====================  ==========================================================================================
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlflow_caliber._version import __version__

if TYPE_CHECKING:
    from mlflow_caliber.abstain import AbstainPolicy
    from mlflow_caliber.calibrators import calibrator_from_dict, make_calibrator
    from mlflow_caliber.diagnosis import diagnose
    from mlflow_caliber.flavor import load_model, log_model, recalibrate, save_model
    from mlflow_caliber.gate import GatePolicy, decide, promote, rollback
    from mlflow_caliber.model import CaliberClassifier, CalibratedModel
    from mlflow_caliber.report import ReliabilityReport, reliability_report

_HOME = {
    "AbstainPolicy": "abstain",
    "CaliberClassifier": "model",
    "CalibratedModel": "model",
    "GatePolicy": "gate",
    "ReliabilityReport": "report",
    "_load_pyfunc": "flavor",
    "calibrator_from_dict": "calibrators",
    "decide": "gate",
    "diagnose": "diagnosis",
    "load_model": "flavor",
    "log_model": "flavor",
    "make_calibrator": "calibrators",
    "promote": "gate",
    "recalibrate": "flavor",
    "reliability_report": "report",
    "rollback": "gate",
    "save_model": "flavor",
}

__all__ = [
    "AbstainPolicy",
    "CaliberClassifier",
    "CalibratedModel",
    "GatePolicy",
    "ReliabilityReport",
    "__version__",
    "calibrator_from_dict",
    "decide",
    "diagnose",
    "load_model",
    "log_model",
    "make_calibrator",
    "promote",
    "recalibrate",
    "reliability_report",
    "rollback",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
