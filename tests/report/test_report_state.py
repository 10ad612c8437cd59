"""A report's JSON: every float comes back exactly, and anything else is refused with a sentence."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import StateError
from mlflow_caliber.report import ReliabilityReport, SegmentReport, reliability_report

KEYS = {
    "format_version",
    "kind",
    "n",
    "weighted",
    "classes",
    "n_bins",
    "strategy",
    "metrics",
    "not_computed",
    "intervals",
    "confidence",
    "change",
    "curve",
    "corp",
    "histogram",
    "risk_coverage",
    "per_class",
    "segments",
    "policy",
    "exact",
    "raw",
}
GOLDEN = Path(__file__).parent / "golden"


def through_json(report):
    return ReliabilityReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))


def test_keys(binary_report):
    assert set(binary_report.to_dict()) == KEYS


@pytest.mark.parametrize("name", ["binary_report", "digits_report"])
def test_round_trip(name, request):
    report = request.getfixturevalue(name)
    again = through_json(report)
    assert again == report
    assert again.metrics == report.metrics
    assert again.raw == report.raw
    assert again.segments == report.segments
    assert again.per_class == report.per_class


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.floats(0, 1), st.floats(0, 1), st.text(max_size=3), st.floats(0.01, 9)),
        min_size=1,
        max_size=20,
    ),
    threshold=st.floats(0, 1),
)
def test_any_report_comes_back_exactly(rows, threshold):
    y, p, raw, site, weight = zip(*rows, strict=True)
    report = reliability_report(
        y, p, raw=raw, policy=AbstainPolicy(threshold), segments={"site": list(site)}, sample_weight=weight
    )
    assert through_json(report) == report


def test_reports_that_differ_are_not_equal(binary_report, digits_report):
    assert binary_report != digits_report
    assert binary_report != "binary"
    with pytest.raises(TypeError, match="unhashable"):
        hash(binary_report)


def at(path, value):
    def change(state):
        for step in path[:-1]:
            state = state[step]
        state[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (at(["format_version"], 3), "format_version must be 1 or 2, got 3"),
        (at(["surprise"], 1), "missing: none; unknown: surprise"),
        (lambda state: state.pop("curve"), "missing: curve; unknown: none"),
        (at(["kind"], "ternary"), "report.kind must be one of binary, multiclass, got 'ternary'"),
        (at(["n"], 0), "report.n must be at least 1, got 0"),
        (at(["n"], 2.0), "report.n must be a whole number >= 0, got 2.0"),
        (at(["n"], True), "report.n must be a whole number >= 0, got True"),
        (at(["weighted"], 1), "report.weighted must be true or false, got 1"),
        (at(["classes"], ["a", "a"]), "report.classes must be distinct"),
        (at(["classes"], "ab"), "report.classes must be a list, got a str"),
        (at(["classes"], ["a", "b", "c"]), "must be two for a binary report and more otherwise, got 3"),
        (at(["metrics", "ece"], float("nan")), "report.metrics.ece must be a finite number, got nan"),
        (at(["metrics", "ece"], "0.1"), "report.metrics.ece must be a finite number, got '0.1'"),
        (at(["metrics", "eec"], 0.1), "report.metrics must hold only metric keys, got 'eec'"),
        (at(["not_computed"], []), "report.not_computed must be a JSON object, got a list"),
        (at(["not_computed"], {"aurc": 1}), "report.not_computed.aurc must be text, got 1"),
        (at(["intervals", "ece"], [0.2]), r"report.intervals.ece must be a low and a high end, got \[0.2\]"),
        (at(["intervals", "ece"], [0.2, 0.1]), "report.intervals.ece must have its low end first"),
        (at(["intervals", "ecee"], [0.2, 0.1]), "report.intervals must hold only metric keys, got 'ecee'"),
        (at(["change", "brier"], ["0", 1]), "report.change.brier must be a finite number, got '0'"),
        (at(["confidence"], 95), "report.confidence must be strictly between 0 and 1, got 95"),
        (at(["corp"], {}), "CorpCurve must have the fields"),
        (at(["exact"], None), "report.exact must be true or false, got None"),
        (at(["segments", 0, "curve"], 3), "ReliabilityCurve must be read from a mapping"),
        (at(["curve"], {}), "ReliabilityCurve must have the fields"),
        (at(["risk_coverage", "risk"], []), "RiskCoverageCurve cannot be read"),
        (at(["histogram"], [2000]), "must hold 100 counts that add up to n = 2000, got 1 that add up to 2000"),
        (at(["histogram", 3], -1), r"report.histogram\[3\] must be a whole number >= 0, got -1"),
        (at(["per_class"], {"a": {"ece": 0.1}}), "report.per_class.a must have the keys ece, n, prevalence"),
        (at(["segments", 0, "n"], "7"), "segment.n must be a whole number"),
        (at(["segments"], [3]), r"report.segments\[0\] must be a JSON object, got a int"),
        (at(["policy", "threshold"], 7), "report.policy: An abstain policy cannot be read"),
        (at(["raw", "n"], 3), "report.raw must be of the same kind and rows"),
        (at(["raw", "metrics", "ece"], None), "report.metrics.ece must be a finite number, got None"),
    ],
)
def test_strict(binary_report, change, sentence):
    state = copy.deepcopy(binary_report.to_dict())
    change(state)
    with pytest.raises(StateError, match=sentence):
        ReliabilityReport.from_dict(state)


def test_no_object_at_all():
    with pytest.raises(StateError, match="report must be a JSON object, got a list"):
        ReliabilityReport.from_dict([])
    with pytest.raises(StateError, match="segment must be a JSON object, got a NoneType"):
        SegmentReport.from_dict(None)


def test_reports_of_version_1_are_still_read():
    state = json.loads((GOLDEN / "report_v1.json").read_text(encoding="utf-8"))
    report = ReliabilityReport.from_dict(state)
    assert report.metrics == state["metrics"]
    assert (report.intervals, report.change, report.corp, report.exact) == ({}, {}, None, True)
    assert [segment.curve for segment in report.segments] == [None, None]
    assert report.raw is not None
    assert report.raw.to_dict()["format_version"] == 2
    assert through_json(report) == report
    assert "ECE" in str(report)
    assert "<svg" in report._repr_html_()
