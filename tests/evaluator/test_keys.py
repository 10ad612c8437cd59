"""Metric keys: MLflow's rules hold for whatever the data call their segments and classes."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber.evaluator._keys import MAX_METRICS, metrics_of
from mlflow_caliber.metrics import METRICS
from mlflow_caliber.report import reliability_report

HOSTILE = [
    "<script>",
    "a/b",
    "a_b",
    "a=b",
    "a b",
    "..",
    ".",
    "",
    " ",
    "x" * 300,
    "x" * 301,
    "a\nb",
    "a:b",
    "北京",
    "\ud800",
]

TEXT = st.text(max_size=20)


@pytest.fixture(scope="module")
def is_legal():
    validation = pytest.importorskip("mlflow.utils.validation")
    return validation._validate_metric_name


def report_with(column, values):
    n = len(values)
    return reliability_report(np.arange(n) % 2, np.linspace(0.1, 0.9, n), segments={column: values})


@pytest.mark.parametrize("column", ["region", "a:b", "../x", ""])
def test_hostile_segments_have_legal_and_distinct_keys(column, is_legal):
    report = report_with(column, [value for value in HOSTILE for _ in range(2)])
    metrics = metrics_of(report)
    counts = [key for key in metrics if key.endswith("/n")]
    assert len(counts) == len(HOSTILE)
    for key in metrics:
        is_legal(key)
        assert len(key) <= 250


@settings(max_examples=30)
@given(values=st.lists(TEXT, min_size=1, max_size=8, unique=True), column=TEXT)
def test_any_text_has_a_legal_and_distinct_key(values, column, is_legal):
    metrics = metrics_of(report_with(column, values))
    assert sum(key.endswith("/n") for key in metrics) == len(values)
    for key in metrics:
        is_legal(key)


def test_a_key_does_not_depend_on_the_other_values():
    alone = set(metrics_of(report_with("region", ["a/b", "a/b"])))
    together = set(metrics_of(report_with("region", ["a/b", "a/b", "a_b", "a_b"])))
    assert alone <= together


def test_legal_names_stay_as_they_are():
    assert "caliber/segment/region:New York/ece" in metrics_of(report_with("region", ["New York"] * 4))
    assert "caliber/segment/region:São Paulo/ece" in metrics_of(report_with("region", ["São Paulo"] * 4))


def test_a_colon_in_the_column_is_not_the_one_before_the_value():
    first = set(metrics_of(report_with("a:b", ["c", "c"])))
    second = set(metrics_of(report_with("a", ["b:c", "b:c"])))
    assert {key for key in first & second if "segment" in key} == set()


def test_headline_raw_drift_and_worst_segment():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 200), rng.random(200)
    region = np.repeat(["north", "south"], 100)
    report = reliability_report(y, p, raw=p**2, segments={"region": region})
    metrics = metrics_of(report, SimpleNamespace(share=0.25))
    assert {f"caliber_{key}" for key in METRICS if not key.startswith("classwise")} <= set(metrics)
    assert metrics["caliber/interval/brier/low"] < metrics["caliber_brier"] < metrics["caliber/interval/brier/high"]
    assert metrics["caliber_drift_share"] == 0.25
    assert metrics["caliber/raw/brier"] == report.raw.metrics["brier"]
    worst = max(report.segments, key=lambda segment: segment.metrics["ece"])
    assert (
        metrics["caliber/segment/worst/ece"]
        == worst.metrics["ece"]
        == metrics[f"caliber/segment/region:{worst.value}/ece"]
    )
    assert metrics["caliber/segment/region:north/n"] == 100.0


def test_drift_without_a_tested_column_has_no_share():
    assert "caliber_drift_share" not in metrics_of(report_with("a", ["b"]), SimpleNamespace(share=None))


def test_one_class_segments_leave_out_what_they_do_not_allow():
    report = reliability_report([0, 0, 1], [0.2, 0.3, 0.9], segments={"region": ["n", "n", "s"]})
    metrics = metrics_of(report)
    assert "caliber/segment/region:n/roc_auc" not in metrics
    assert "caliber/segment/region:n/brier" in metrics
    assert all(math.isfinite(value) for value in metrics.values())


def test_more_metrics_than_mlflow_takes_are_cut_with_a_line(caplog):
    report = report_with("id", [f"value {i}" for i in range(200)])
    metrics = metrics_of(report)
    assert len(metrics) == MAX_METRICS
    assert {f"caliber_{key}" for key in report.metrics} <= set(metrics)
    assert "metrics of classes and segments are not logged one by one" in caplog.text
