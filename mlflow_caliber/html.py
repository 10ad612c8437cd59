"""A report as one page that a risk officer can read: no network, no script, dark and light, from a phone to print.

This module says what stands on the page, ``templates/report.html.j2`` how it looks. Class labels, segment values and
column names come from data and are treated as hostile: the template escapes everything but our own figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mlflow_caliber._version import __version__
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.metrics import METRICS, Interval
from mlflow_caliber.plots import Figure, drift_bars, farthest_first, figure_svg, report_figures
from mlflow_caliber.report import ReliabilityReport, SegmentReport

__all__ = ["render_page", "render_report"]

FEW = 30
MAX_ROWS = 60
MAX_TEXT = 120
NONE = "–"
_THAN = {"better": "better than", "worse": "worse than", "no clear change": "not clearly different from"}
_SEGMENT_KEYS = ("ece", "brier", "roc_auc", "coverage", "selective_risk")


def render_report(
    report: ReliabilityReport,
    *,
    title: str,
    context: Mapping[str, Any],
    drift: Mapping[str, Any] | None = None,
    figures: Mapping[str, Figure] | None = None,
) -> str:
    """Return the report as one self-contained HTML page.

    Parameters
    ----------
    report : ReliabilityReport
        What was measured.
    title : str
        Heading of the page.
    context : mapping of str to anything printable
        What the report is about, shown as a list: the model's URI and digest, the data's digest, the date.
    drift : mapping, optional
        ``DriftReport.to_dict()`` of :mod:`mlflow_caliber.drift`.
    figures : mapping of str to Figure, optional
        What :func:`~mlflow_caliber.plots.report_figures` has drawn, where that was done already: drawing takes longer
        than all the rest.

    Returns
    -------
    str
        HTML that loads nothing from anywhere; well under 300 KB, since long tables are cut at 60 rows and say so.

    Examples
    --------
    >>> from mlflow_caliber.report import reliability_report
    >>> report = reliability_report([0, 1, 1, 0], [0.2, 0.7, 0.9, 0.4])
    >>> page = render_report(report, title="<Churn>", context={"model": "models:/churn/1"})
    >>> page.startswith("<!doctype html>"), "<h1>&lt;Churn&gt;</h1>" in page
    (True, True)
    """
    return render_page(
        "report.html.j2",
        title=title,
        context=context,
        report=report,
        few=FEW,
        level=f"{report.confidence:.0%}",
        summary=list(_summary(report, drift)),
        metrics=list(_metric_rows(report)),
        figures={name: figure_svg(each, name) for name, each in (figures or report_figures(report)).items()},
        bins=list(_bin_rows(report)),
        classes=_first(_class_rows(report)),
        segment_labels=[METRICS[key].label for key in _SEGMENT_KEYS],
        segments=_first(_segment_rows(report)),
        not_computed=list(_not_computed(report)),
        drift=drift,
        drift_columns=[] if drift is None else _first(farthest_first(drift)),
        drift_figure=figure_svg(drift_bars(drift), "drift") if drift and drift["columns"] else "",
    )


def render_page(template: str, **values: Any) -> str:
    """
    Return a page in the look of all pages; everything in the values is escaped unless the template says otherwise.

    Parameters
    ----------
    template : str
        A file of ``templates/``.
    **values
        What stands on the page; the template has to name each of them that it wants.

    Returns
    -------
    str
        HTML that loads nothing from anywhere.

    Examples
    --------
    >>> render_page("style.css.j2")[:7]
    ':root {'
    """
    return _environment().get_template(template).render(version=__version__, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mlflow_caliber"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cut=_cut, number=_number, interval=_interval, percent=_percent)
    return environment


def _cut(value: object) -> str:
    text = str(value).encode("utf-8", "replace").decode("utf-8")  # a lone surrogate could not be written to a file
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _interval(interval: Interval | None) -> str:
    return NONE if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f}%"


def _points(share: float) -> str:
    return f"{100.0 * share:.1f} percentage points"


def _first(rows: Iterable[Any]) -> dict[str, Any]:
    """As many rows as a table shows, and how many it leaves out."""
    everything = list(rows)
    return {"rows": everything[:MAX_ROWS], "left_out": max(0, len(everything) - MAX_ROWS)}


def _summary(report: ReliabilityReport, drift: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """The page in short: pairs of what it is about and a sentence or two."""
    yield "What was measured", _what_was_measured(report)
    yield "Do the probabilities hold?", _calibration(report)
    yield "Are they also informative?", _proper_score(report)
    yield "What is withheld?", _policy(report)
    if report.segments:
        yield "Where is it worst?", _worst_segment(report)
    if drift is not None:
        yield "Have the data moved?", _drift(drift)


def _what_was_measured(report: ReliabilityReport) -> str:
    measured = f"{report.n:,} cases whose outcome is known were compared with what the model had stated."
    if report.kind == "binary":
        label, share = _cut(report.classes[1]), _percent(report.metrics["prevalence"])
        measured += f" Probabilities are those of class “{label}”, which happened in {share} of the cases."
    else:
        measured += (
            f" There are {len(report.classes)} classes; calibration is about the confidence in the predicted one."
        )
    if report.weighted:
        measured += " Cases are weighted everywhere except in counts."
    if not report.exact:
        measured += " The numbers come from merged statistics, not from single cases, within stated tolerances."
    return measured


def _calibration(report: ReliabilityReport) -> str:
    stated = f"On average a stated probability is {_points(report.metrics['ece'])} away from what happened"
    before = "" if report.raw is None else f"; before calibration it was {_points(report.raw.metrics['ece'])}"
    bins = f"{report.n_bins} bins of equal {'mass' if report.strategy == 'quantile' else 'width'}"
    upper = report.metrics.get("ece_upper")
    bound = "" if upper is None else f" With 95% confidence the error is at most {_points(upper)}."
    return f"{stated} (calibration error, ECE, over {bins}){before}.{bound}{_noise_floor(report)}"


def _noise_floor(report: ReliabilityReport) -> str:
    mean, most = report.metrics.get("ece_null_mean"), report.metrics.get("ece_null_p95")
    if mean is None or most is None:
        return ""
    chance = f" A perfectly calibrated model would show {_points(mean)} on so many cases, and up to {_points(most)}"
    if report.metrics["ece"] <= most:
        return f"{chance} in 19 of 20 samples: what is seen here can be chance alone."
    return f"{chance} in 19 of 20 samples: what is seen here is more than chance."


def _proper_score(report: ReliabilityReport) -> str:
    metrics, now = report.metrics, report.metrics["brier"]
    score = f"The Brier score, an error that rewards honest probabilities, is {now:.4f}"
    if report.raw is not None:
        than = _THAN[_verdict("brier", report.change["brier"])] if "brier" in report.change else "where it was"
        score += f", {than} {report.raw.metrics['brier']:.4f} before calibration"
    scale = f"Lower is better; always stating how often each class occurs would score {metrics['unc']:.4f}."
    return f"{score}. {scale} The most likely class was the right one in {_percent(metrics['accuracy'])} of the cases."


def _policy(report: ReliabilityReport) -> str:
    metrics, wrong = report.metrics, _percent(1.0 - report.metrics["accuracy"])
    if report.policy is None or metrics["coverage"] == 1.0:
        return f"Nothing: every case is answered, and {wrong} of the answers are wrong."
    policy = AbstainPolicy.from_dict(report.policy)
    rule = f"Predictions with a confidence below {policy.threshold:g} are withheld and go to a person"
    own = [what for what in ("segment", "class") if getattr(policy, f"{what}_thresholds")]
    rest = f" Each {' and each '.join(own)} may have a threshold of its own." if own else ""
    promise = "" if policy.certificate is None else f" Certificate: {policy.certificate.sentence()}."
    if "selective_risk" not in metrics:
        return f"{rule}: here that is every case, so there is no error rate of answered cases.{rest}{promise}"
    withheld, answered = _percent(metrics["abstain_rate"]), _percent(metrics["coverage"])
    measured = f"Of the {answered} answered, {_percent(metrics['selective_risk'])} were wrong"
    full = f"with every case answered, {wrong} would be wrong"
    return f"{rule}: {withheld} of the cases. {measured}; {full}.{rest}{promise}"


def _worst_segment(report: ReliabilityReport) -> str:
    large = sum(segment.n >= FEW for segment in report.segments)
    worst = report.worst_segment("ece", min_rows=FEW)
    if worst is None:
        return f"No segment has {FEW} cases or more, so none can be judged."
    chance = "The smaller a segment, the more of this is chance."
    return (
        f"Among the segments with at least {FEW} cases ({large} of {len(report.segments)}), calibration is worst where "
        f"{_name(worst)} ({worst.n:,} cases): {_points(worst.metrics['ece'])}. {chance}"
    )


def _drift(drift: Mapping[str, Any]) -> str:
    tested = len(drift["columns"])
    moved = sum(column["drifted"] for column in drift["columns"])
    skipped = f" {len(drift['skipped'])} could not be tested." if drift["skipped"] else ""
    if not tested:
        return f"No column could be compared with the reference data.{skipped}"
    return f"{moved} of {tested} tested columns differ from the reference data.{skipped}"


def _metric_rows(report: ReliabilityReport) -> Iterator[dict[str, Any]]:
    for key, metric in METRICS.items():
        if key in report.metrics:
            now, before = report.metrics[key], None if report.raw is None else report.raw.metrics.get(key)
            verdict = _verdict(key, report.change[key]) if key in report.change else ""
            interval = report.intervals.get(key)
            yield {"metric": metric, "before": before, "now": now, "interval": interval, "verdict": verdict}


def _verdict(key: str, change: Interval) -> str:
    """What the paired interval of after less before proves."""
    if change.low <= 0.0 <= change.high:
        return "no clear change"
    return "better" if (change.low > 0.0) == METRICS[key].greater_is_better else "worse"


def _bin_rows(report: ReliabilityReport) -> Iterator[tuple[float, ...]]:
    curve = report.curve
    columns = (curve.lower_edge, curve.upper_edge, curve.mean_predicted, curve.mean_observed)
    yield from zip(*columns, curve.interval_low, curve.interval_high, curve.count.tolist(), strict=True)


def _class_rows(report: ReliabilityReport) -> Iterator[dict[str, Any]]:
    for label, values in report.per_class.items():
        before = None if report.raw is None else report.raw.per_class[label]["ece"]
        yield {"label": label, "before": before, **values}


def _segment_rows(report: ReliabilityReport) -> list[dict[str, Any]]:
    """Worst calibration first, and segments of few cases after all others."""
    ordered = sorted(report.segments, key=lambda segment: (segment.n < FEW, -segment.metrics.get("ece", 0.0)))
    return [
        {"name": _name(segment), "n": segment.n, "values": [segment.metrics.get(key) for key in _SEGMENT_KEYS]}
        for segment in ordered
    ]


def _name(segment: SegmentReport) -> str:
    return f"{_cut(segment.column)} = {_cut(segment.value)}"


def _not_computed(report: ReliabilityReport) -> Iterator[tuple[str, str]]:
    for key, reason in report.not_computed.items():
        yield METRICS[key].label, reason
    for key, metric in METRICS.items():
        without = [segment for segment in report.segments if key in segment.not_computed]
        if without:
            where = "1 segment" if len(without) == 1 else f"{len(without)} segments"
            yield f"{metric.label} in {where}", f"for example {_name(without[0])}: {without[0].not_computed[key]}"
