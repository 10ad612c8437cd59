"""MLflow's model evaluator ``caliber``: how far the probabilities of a classifier can be relied on.

``mlflow.models.evaluate(..., evaluators="caliber")`` computes a :class:`~mlflow_caliber.report.ReliabilityReport` once,
and writes it as metrics, plots, one HTML page and the evidence that the gate reads.
"""

from mlflow_caliber.evaluator._config import EvaluatorConfig
from mlflow_caliber.evaluator._evaluator import CaliberEvaluator

__all__ = ["CaliberEvaluator", "EvaluatorConfig"]
