"""Figures say what the report says, and leave no trace in matplotlib."""

from __future__ import annotations

import copy
import dataclasses
import re

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.plots import (
    drift_bars,
    farthest_first,
    figure_svg,
    reliability_diagram,
    report_figures,
    risk_coverage_plot,
    save_png,
    segment_diagrams,
)
from mlflow_caliber.report import reliability_report


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def line(figure: Figure, label: str):
    return next(line for line in figure.axes[0].lines if line.get_label().startswith(label))


@pytest.fixture(params=["binary_report", "digits_report"])
def report(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def figures(report, drift):
    latin = {"columns": [column for column in drift["columns"] if column["column"].isascii()]}
    return reliability_diagram(report, title="a"), risk_coverage_plot(report, title="b"), drift_bars(latin, title="c")


def test_corp_diagram_draws_the_curves_and_the_band(binary_report):
    figure = reliability_diagram(binary_report)
    curves, strip = figure.axes
    assert (curves.get_ylabel(), strip.get_xlabel()) == ("Observed frequency", "Predicted probability")
    assert strip.get_ylabel() == "Cases"
    after, before = line(figure, "after calibration"), line(figure, "before calibration")
    corp = binary_report.corp
    np.testing.assert_array_equal(after.get_xydata().T, [corp.probability, corp.recalibrated])
    np.testing.assert_array_equal(before.get_ydata(), binary_report.raw.corp.recalibrated)
    low, high = binary_report.intervals["ece"]
    ece = binary_report.metrics["ece"]
    assert f"after calibration (ECE {ece:.3f}, 95% interval {low:.3f}–{high:.3f})" in legend(figure)
    assert "95% of calibrated models" in legend(figure)
    band = curves.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in zip(corp.probability, corp.band_low, strict=True)} <= set(map(tuple, band))


def test_binned_diagram_draws_points_intervals_and_bars(binary_report):
    figure = reliability_diagram(binary_report, style="binned")
    after = line(figure, "after calibration")
    curve = binary_report.curve
    np.testing.assert_array_equal(after.get_xydata().T, [curve.mean_predicted, curve.mean_observed])
    bars = next(each for each in figure.axes[0].collections if each.get_label() == "95% if calibrated")
    p = curve.mean_predicted[0]
    half = 1.959964 * np.sqrt(p * (1 - p) / curve.count[0])
    np.testing.assert_allclose(bars.get_segments()[0], [[p, max(p - half, 0)], [p, p + half]], atol=1e-6)


def test_unknown_style_is_refused(binary_report):
    with pytest.raises(InvalidInputError, match="style must be one of corp, binned, got 'bins'"):
        reliability_diagram(binary_report, style="bins")


def test_reports_without_a_corp_curve_are_drawn_binned(binary_report):
    old = dataclasses.replace(binary_report, corp=None, intervals={}, raw=None)
    assert legend(reliability_diagram(old)) == [
        "perfectly calibrated",
        "95% if calibrated",
        f"model (ECE {old.metrics['ece']:.3f})",
    ]


def test_reliability_diagram_without_raw(binary_rows):
    figure = reliability_diagram(reliability_report(binary_rows["y"], binary_rows["proba"]))
    assert [label.split(" (")[0] for label in legend(figure)] == [
        "perfectly calibrated",
        "95% of calibrated models",
        "model",
    ]


def test_segments_are_small_multiples_on_the_same_axes(binary_report):
    figure = segment_diagrams(binary_report, max_panels=7)
    shown = [axes.get_title() for axes in figure.axes]
    assert len(shown) == 7
    sizes = {segment.value: segment.n for segment in binary_report.segments if segment.column == "region"}
    smallest_shown = min(sizes[value] for value in shown)
    assert sum(size > smallest_shown for size in sizes.values()) <= 7
    assert shown == sorted(shown)
    assert {axes.get_xlim() for axes in figure.axes} == {axes.get_ylim() for axes in figure.axes} == {(0.0, 1.0)}
    assert figure.axes[0].texts[0].get_text().startswith(f"n = {sizes[shown[0]]}")


def test_segments_of_another_column(binary_report):
    assert [axes.get_title() for axes in segment_diagrams(binary_report, column="rare").axes] == ["rest", "tiny"]
    with pytest.raises(InvalidInputError, match=r"column must be one by which the report is sliced \(region, rare\)"):
        segment_diagrams(binary_report, column="age")
    with pytest.raises(InvalidInputError, match="it has none"):
        segment_diagrams(reliability_report([0, 1], [0.2, 0.7]))


def test_report_figures_are_all_of_them(binary_report, binary_rows):
    assert list(report_figures(binary_report)) == ["reliability", "risk_coverage", "segments"]
    assert list(report_figures(reliability_report([0, 1], [0.2, 0.7]))) == ["reliability", "risk_coverage"]


def test_saved_twice_is_laid_out_once_and_the_same(binary_report, tmp_path):
    figure = reliability_diagram(binary_report)
    fresh = figure_svg(reliability_diagram(binary_report), "x")
    save_png(figure, tmp_path / "once.png")
    assert figure_svg(figure, "x") == fresh
    save_png(figure, tmp_path / "again.png")
    assert (tmp_path / "once.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert figure.get_layout_engine() is None


def test_multiclass_axes_are_about_confidence(digits_report):
    curves, strip = reliability_diagram(digits_report).axes
    assert (curves.get_ylabel(), strip.get_xlabel()) == ("Share correct", "Confidence in the predicted class")


def test_histogram_counts_every_case(binary_report):
    strip = reliability_diagram(binary_report).axes[1]
    assert [patch.get_data().values.sum() for patch in strip.patches] == [2000, 2000]


def test_diagram_zooms_to_the_rows():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.0, 0.05, 3000)
    figure = reliability_diagram(reliability_report((rng.random(3000) < p).astype(int), p))
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim() == pytest.approx((0.0, 0.1))


def test_risk_coverage_marks_the_policy(binary_report):
    figure = risk_coverage_plot(binary_report)
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Coverage (share of cases answered)", "Error rate among answered")
    (point,) = line(figure, "policy").get_xydata()
    assert tuple(point) == (binary_report.metrics["coverage"], binary_report.metrics["selective_risk"])
    assert {"oracle", "random order", "before calibration", "after calibration"} < set(legend(figure))


def test_oracle_answers_every_right_case_first():
    report = reliability_report([1, 1, 0, 1], [0.9, 0.8, 0.7, 0.6])
    oracle = line(risk_coverage_plot(report), "oracle")
    assert np.interp([0.5, 0.75, 1.0], *oracle.get_xydata().T) == pytest.approx([0.0, 0.0, 0.25], abs=1e-9)


def test_no_policy_no_point(binary_rows):
    assert not any("policy" in text for text in legend(risk_coverage_plot(reliability_report([0, 1], [0.2, 0.7]))))
    nobody = reliability_report([0, 1], [0.2, 0.7], policy=AbstainPolicy(0.9))
    assert not any("policy" in text for text in legend(risk_coverage_plot(nobody)))


def test_policy_point_has_its_interval(binary_report):
    axes = risk_coverage_plot(binary_report).axes[0]
    low, high = binary_report.intervals["selective_risk"]
    coverage = binary_report.metrics["coverage"]
    ends = [each.get_xydata().tolist() for each in axes.lines]
    assert [[coverage, low], [coverage, high]] in ends


def test_weighted_policy_point_lies_on_the_curve(binary_rows):
    weight = 1.0 + np.arange(2000) % 4
    report = reliability_report(binary_rows["y"], binary_rows["proba"], policy=AbstainPolicy(0.7), sample_weight=weight)
    figure = risk_coverage_plot(report)
    (point,) = line(figure, "policy").get_xydata()
    curve = line(figure, "model").get_xydata()
    assert np.interp(point[0], *curve.T) == pytest.approx(point[1], abs=2e-3)


def test_drift_bars_are_sorted_and_cut(drift):
    axes = drift_bars(drift).axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[-1] == "age"  # the top one: statistic .2
    assert "a_very_long_column_name…" in names
    many = {"columns": [{**drift["columns"][0], "statistic": float(i)} for i in range(50)]}
    assert len(drift_bars(many).axes[0].patches) == 20


def test_columns_judged_by_different_statistics_share_a_scale(drift):
    column = drift["columns"][0]
    ks = {**column, "column": "age", "method": "ks", "statistic": 0.3, "threshold": 0.1, "drifted": True}
    chi = {**column, "column": "region", "method": "chi_square", "statistic": 60.0, "threshold": 30.0, "drifted": True}
    axes = drift_bars({"columns": [chi, ks]}).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["region", "age"]  # from below: age is farther
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([2.0, 3.0])
    assert list(axes.lines[0].get_xdata()) == [1.0, 1.0]
    assert axes.get_xlabel() == "Distance in multiples of the threshold (KS, chi-square)"
    assert [each["column"] for each in farthest_first({"columns": [chi, ks]})] == ["age", "region"]


def test_notes_of_panels_keep_off_the_curves(binary_report):
    figure = segment_diagrams(binary_report)
    figure.canvas.draw()
    for axes in figure.axes:
        assert axes.texts[0].get_window_extent().y0 >= axes.get_window_extent().y1


def test_drift_bars_of_nothing():
    assert drift_bars({"columns": []}).axes[0].get_xlabel() == "Distance from the reference (no column tested)"


@pytest.mark.parametrize("n", [1, 3])
def test_tiny_reports_draw(n):
    report = reliability_report([1, 0, 1][:n], [1.0, 0.0, 0.3][:n], raw=[0.2, 0.6, 0.3][:n])
    for figure in (reliability_diagram(report), risk_coverage_plot(report)):
        figure.canvas.draw()


def test_matplotlib_is_left_as_it_was(binary_report, drift):
    from matplotlib import pyplot as plt

    settings, numbers = copy.deepcopy(dict(mpl.rcParams)), plt.get_fignums()
    for figure in (reliability_diagram(binary_report), risk_coverage_plot(binary_report), drift_bars(drift)):
        figure_svg(figure, "x")
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == numbers == []


def test_the_users_settings_do_not_leak_in(binary_report):
    with mpl.rc_context({"text.color": "white", "axes.grid": False, "font.size": 30, "text.usetex": True}):
        figure = reliability_diagram(binary_report)
    text = figure.legends[0].get_texts()[0]
    assert (to_hex(text.get_color()), text.get_fontsize(), text.get_usetex()) == ("#262626", 8.5, False)


def test_legend_title_and_labels_keep_off_the_data(figures):
    for figure in figures:
        figure.canvas.draw()
        top = figure.axes[0].get_window_extent().y1
        box = figure.legends[0].get_window_extent()
        assert box.y0 >= top - 1
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1 + 1
        for axes in figure.axes:
            tight = axes.get_tightbbox()
            assert tight.x0 >= -1
            assert tight.y0 >= -1


def test_lines_differ_without_colour(binary_report):
    for figure in (reliability_diagram(binary_report), risk_coverage_plot(binary_report)):
        after, before = line(figure, "after"), line(figure, "before")
        assert after.get_linestyle() != before.get_linestyle()


def test_svg_is_small_and_plain(figures):
    for figure in figures:
        svg = figure_svg(figure, "one")
        assert svg.startswith("<svg")
        assert len(svg) < 60_000
        assert "<text" in svg
        assert set(re.findall(r"https?://[^\"' ]*", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert all(name.startswith("one-") for name in re.findall(r'\bid="([^"]*)"', svg))
        assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg)) <= set(re.findall(r'\bid="([^"]*)"', svg))


def test_same_report_same_svg(digits_report):
    once, again = (figure_svg(risk_coverage_plot(digits_report), "x") for _ in range(2))
    assert once == again


def test_svg_follows_the_page(binary_report):
    svg = figure_svg(reliability_diagram(binary_report), "x")
    assert "var(--after, #0072b2)" in svg
    assert "var(--ink, #262626)" in svg
    assert "font-family" not in svg


def test_hostile_names_are_escaped(drift):
    svg = figure_svg(drift_bars(drift), "drift")
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg
    assert "年齢" in svg
    assert "cost in $ and $x^" in svg
