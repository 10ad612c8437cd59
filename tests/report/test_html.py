"""The page: what it says, that it loads nothing, and that hostile labels stay text."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import numpy as np
import pytest

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.html import render_report
from mlflow_caliber.metrics import Interval
from mlflow_caliber.report import reliability_report


class Page(HTMLParser):
    """Tags, attributes and the visible text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.pieces: list[str] = []
        self.feed(source)
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.pieces.append(data)


@pytest.fixture(scope="module")
def source(binary_report, drift) -> str:
    context = {"Model": "models:/churn/3", "<b>Data</b>": "<img src=x onerror=alert(1)>"}
    return render_report(binary_report, title="Churn <script>", context=context, drift=drift)


@pytest.fixture(scope="module")
def page(source) -> Page:
    return Page(source)


@pytest.fixture
def text_of(monkeypatch):
    """The words of a page, without the work of drawing its figures."""
    monkeypatch.setattr("mlflow_caliber.html.figure_svg", lambda figure, name: "<svg></svg>")
    return lambda report, **kwargs: Page(render_report(report, title="t", context={}, **kwargs)).text


def test_nothing_is_loaded_or_run(page, source):
    assert not {"script", "img", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    loads = [value for name, value in page.attributes if name in {"src", "href", "xlink:href", "data", "action"}]
    assert all(value.startswith("#") for value in loads)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    addresses = {value for name, value in page.attributes if "http" in (value or "")}
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in source
    assert "Content-Security-Policy" in source


def test_hostile_text_stays_text(source, page):
    assert "<script" not in source
    assert "leaves <script>alert('x')</script>" in page.text
    assert "region = <script>alert('x')</script>" in page.text
    assert "<img src=x onerror=alert(1)>" in page.text


@pytest.mark.parametrize("label", ["\x00\ud800", "$\\frac{", "{{ 7 * 7 }}", "</style>", '" onload="x', "a" * 10_000])
def test_any_label_gives_a_writable_page(label):
    report = reliability_report([0, 1, 1], [0.2, 0.7, 0.6], classes=["no", label], segments={label: [label] * 3})
    column = {"column": label, "kind": "numeric", "method": "psi", "statistic": 0.1, "threshold": 0.2, "drifted": False}
    drift = {"columns": [{**column, "note": label}], "skipped": {label: label}}
    page = render_report(report, title=label, context={label: label}, drift=drift)
    assert len(page.encode("utf-8")) < 100_000
    assert page.count("</style>") == 5  # the page's own and those of its four figures


def test_sizes(source, digits_rows):
    assert len(source.encode()) < 200_000
    y, proba, raw = digits_rows
    segments = {f"column {i}": np.arange(900) % 10 for i in range(10)}
    big = render_report(
        reliability_report(y, proba, raw=raw, segments=segments, policy=AbstainPolicy(0.5)), title="t", context={}
    )
    assert len(big.encode()) < 300_000
    assert "40 more segments are in the JSON report." in Page(big).text


def test_sentences_of_a_binary_report(page, binary_report):
    metrics, raw = binary_report.metrics, binary_report.raw.metrics
    assert "2,000 cases whose outcome is known" in page.text
    assert f"which happened in {metrics['prevalence']:.1%} of the cases" in page.text
    assert f"is {100 * metrics['ece']:.1f} percentage points away from what happened" in page.text
    assert f"before calibration it was {100 * raw['ece']:.1f} percentage points" in page.text
    assert f"{metrics['brier']:.4f}, better than {raw['brier']:.4f} before calibration" in page.text
    assert "Predictions with a confidence below 0.7 are withheld and go to a person" in page.text
    assert f"{metrics['selective_risk']:.1%} were wrong; with every case answered" in page.text
    worst = binary_report.worst_segment("ece")
    assert f"calibration is worst where {worst.column} = {worst.value} ({worst.n:,} cases)" in page.text
    assert "3 of 5 tested columns differ from the reference data. 1 could not be tested." in page.text


def test_before_and_after_stand_side_by_side(page, binary_report):
    before, after, spread = (
        binary_report.raw.metrics["ece"],
        binary_report.metrics["ece"],
        binary_report.intervals["ece"],
    )
    assert f"ECE {before:.4f} {after:.4f} {spread.low:.4f} to {spread.high:.4f} better" in page.text
    auc, spread = binary_report.metrics["roc_auc"], binary_report.intervals["roc_auc"]
    assert f"ROC AUC {auc:.4f} {auc:.4f} {spread.low:.4f} to {spread.high:.4f} AURC" in page.text


def test_a_change_is_called_by_its_interval(binary_report, text_of):
    brier = f"Brier score {binary_report.raw.metrics['brier']:.4f} {binary_report.metrics['brier']:.4f}"
    for interval, verdict in (((-0.1, 0.1), "no clear change"), ((0.1, 0.2), "worse"), ((-0.2, -0.1), "better")):
        changed = dataclasses.replace(binary_report, change={"brier": Interval(*interval)})
        low, high = binary_report.intervals["brier"]
        assert f"{brier} {low:.4f} to {high:.4f} {verdict} Log loss" in text_of(changed)


def test_noise_floor_is_put_into_words(binary_rows, binary_report, text_of):
    assert "what is seen here can be chance alone" in text_of(binary_report)
    assert "what is seen here is more than chance" in text_of(binary_report.raw)
    floor = 100 * binary_report.metrics["ece_null_p95"]
    assert f"and up to {floor:.1f} percentage points in 19 of 20 samples" in text_of(binary_report)


def test_certificate_is_quoted(binary_rows, text_of):
    y, p = binary_rows["y"], binary_rows["proba"]
    confidence, correct = np.maximum(p, 1 - p), (p > 0.5) == y
    policy = AbstainPolicy.certify(confidence[:1000], correct[:1000], max_risk=0.2)
    text = text_of(reliability_report(y[1000:], p[1000:], policy=policy))
    assert f"Certificate: {policy.certificate.sentence()}" in text


def test_reports_from_statistics_say_so(binary_report, text_of):
    assert "The numbers come from merged statistics" in text_of(dataclasses.replace(binary_report, exact=False))


def test_multiclass_page_lists_the_classes(digits_report, text_of):
    text = text_of(digits_report)
    assert "There are 10 classes; calibration is about the confidence in the predicted one." in text
    first = digits_report.per_class[digits_report.classes[0]]
    assert f"<script>alert('x')</script> {first['n']} {first['prevalence']:.1%}" in text
    assert "Prevalence" not in text


def test_what_is_not_computed_is_explained(digits_report, text_of):
    assert "ROC AUC in 3 segments : for example pen = black: roc_auc needs a row of every class" in text_of(
        digits_report
    )
    text = text_of(reliability_report([0, 0], [0.2, 0.3], policy=AbstainPolicy(0.95)))
    assert "ROC AUC : roc_auc needs both classes, got only class 0 in 2 rows." in text
    assert "here that is every case, so there is no error rate of answered cases" in text


def test_page_without_the_optional_parts(text_of):
    text = text_of(reliability_report([0, 1, 1, 0], [0.2, 0.7, 0.9, 0.4]))
    assert "Nothing: every case is answered, and 0.0% of the answers are wrong." in text
    assert "Nothing is missing." in text
    for part in ("Segments", "Classes", "Drift", "Before", "weighted"):
        assert part not in text


def test_small_segments_are_marked(text_of):
    y, p = [0, 1] * 10, [0.2, 0.7] * 10
    text = text_of(reliability_report(y, p, segments={"site": ["a", "b"] * 10}))
    assert "No segment has 30 cases or more, so none can be judged." in text
    assert "site = a few cases 10" in text


def test_segment_order_is_worst_first_and_small_last(page, binary_report):
    large = sorted((s for s in binary_report.segments if s.n >= 30), key=lambda s: -s.metrics["ece"])
    table = page.text[page.text.index("Worst calibration first") :]
    places = [table.index(f"{s.column} = {s.value} ") for s in (*large, binary_report.segments[1])]
    assert places[: len(large)] == sorted(places[: len(large)])
    assert table.index("rare = tiny few cases 5") > places[len(large) - 1]


def test_weights_and_segment_thresholds_are_named(binary_rows, text_of):
    policy = AbstainPolicy(0.6, segment_thresholds={"a": 0.9})
    weight = 1.0 + np.arange(2000) % 2
    text = text_of(reliability_report(binary_rows["y"], binary_rows["proba"], sample_weight=weight, policy=policy))
    assert "Cases are weighted everywhere except in counts" in text
    assert "Each segment may have a threshold of its own." in text


def test_drift_without_a_tested_column(binary_report, text_of):
    text = text_of(binary_report, drift={"columns": [], "skipped": {"id": "one value"}})
    assert "No column could be compared with the reference data. 1 could not be tested." in text


def test_same_report_same_page(binary_report, source, drift):
    context = {"Model": "models:/churn/3", "<b>Data</b>": "<img src=x onerror=alert(1)>"}
    assert render_report(binary_report, title="Churn <script>", context=context, drift=drift) == source
