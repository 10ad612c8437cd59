"""The table of metrics, its page in the docs, and the public names."""

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from mlflow_caliber import metrics
from mlflow_caliber.metrics import METRIC_PREFIX, METRICS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
DIRECTION = {True: "higher", False: "lower", None: "none"}


def test_keys_and_directions():
    directions = {key: metric.greater_is_better for key, metric in METRICS.items()}
    assert directions == {
        "ece": False,
        "ece_upper": False,
        "ece_null_mean": None,
        "ece_null_p95": None,
        "ece_l2_debiased": False,
        "smooth_ece": False,
        "spiegelhalter_z": None,
        "calibration_p": None,
        "classwise_ece": False,
        "classwise_ece_max": False,
        "brier": False,
        "log_loss": False,
        "mcb": False,
        "dsc": True,
        "unc": None,
        "roc_auc": True,
        "aurc": False,
        "e_aurc": False,
        "augrc": False,
        "coverage": True,
        "selective_risk": False,
        "abstain_rate": False,
        "accuracy": True,
        "prevalence": None,
        "drift_share": False,
    }
    assert all(metric.key == key for key, metric in METRICS.items())


def test_table_cannot_be_changed():
    with pytest.raises(TypeError, match="does not support item assignment"):
        METRICS["ece"] = METRICS["brier"]
    with pytest.raises(FrozenInstanceError, match="greater_is_better"):
        METRICS["ece"].greater_is_better = True


def test_every_metric_is_documented_with_its_direction():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\w+) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert rows == [(key, METRIC_PREFIX + key, DIRECTION[metric.greater_is_better]) for key, metric in METRICS.items()]


def test_every_public_name_is_documented():
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in metrics.__all__ if f"`{name}" not in page] == []
