"""The evidence of versions as the pages show it: numbers with intervals, figures, and two versions beside each other.

What is shown here decides nothing: the governor recomputes all of it before anybody gets a target.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Any, Literal

from mlflow import MlflowClient

from mlflow_caliber.evidence import (
    TAG_MODEL_DIGEST,
    Evidence,
    Rows,
    load_rows,
)
from mlflow_caliber.exceptions import CaliberError, EvidenceError, InvalidInputError
from mlflow_caliber.gate import EvidenceFinder
from mlflow_caliber.gate.registry import TAG_EVIDENCE_RUN_ID, TAG_EVIDENCE_SHA256
from mlflow_caliber.guard._catalog import Listed
from mlflow_caliber.guard._governor import Governor
from mlflow_caliber.metrics import METRICS, PairedDifference, compare_models
from mlflow_caliber.plots import figure_svg, reliability_diagram, risk_coverage_plot
from mlflow_caliber.report import ReliabilityReport

__all__ = ["FIGURES", "IN_LISTS", "Measured", "described", "numbers"]

IN_LISTS = ("ece", "brier")
PairedMetric = Literal["brier", "log_loss", "ece", "accuracy", "roc_auc"]
SHOWN = ("ece", "ece_upper", "brier", "log_loss", "roc_auc", "accuracy", "coverage", "selective_risk")
PAIRED: tuple[PairedMetric, ...] = ("brier", "log_loss", "ece", "accuracy", "roc_auc")
FIGURES = {"reliability": reliability_diagram, "risk_coverage": risk_coverage_plot}
_MOST_POINTS = 200
_KEPT = 64

# An image has no access to the variables of the page that shows it, so it brings its own: those of caliber.css.
_STYLE = """<style>
svg { font-family: system-ui, "Segoe UI", Roboto, sans-serif;
  --paper: #ffffff; --ink: #262626; --grid: #dcdcdc; --reference: #767676; --after: #0072b2; --before: #d55e00; }
@media (prefers-color-scheme: dark) { svg {
  --paper: #16191c; --ink: #e8e8e6; --grid: #3a4046; --reference: #9aa0a6; --after: #56b4e9; --before: #f0883e; } }
</style>"""


class Measured:
    """
    Finds and reads evidence for the pages.

    Parameters
    ----------
    client : MlflowClient
        Reads runs and their artifacts.
    governor : Governor
        Knows which files a version has.
    """

    def __init__(self, client: MlflowClient, governor: Governor) -> None:
        self._client = client
        # What is shown may lack a signature that the policy demands: the rule that demands it says so.
        self._finder = EvidenceFinder(client, None, demanded=False)
        self._governor = governor
        # matplotlib's settings are the process's: two threads must not draw at once.
        self._drawing = Lock()
        self._drawn: dict[tuple[str, str], str] = {}

    def evidence(self, name: str, listed: Listed, run_id: str | None = None) -> tuple[str, Evidence]:
        """
        Evidence on a version, with its run: that of a run, or else what the gate last decided on, or the newest.

        Raises
        ------
        EvidenceError
            If there is none, or if the run's is about another model.
        """
        digest = self._digest(name, listed)
        named = run_id or listed.tags.get(TAG_EVIDENCE_RUN_ID)
        if named is not None:
            return named, self._finder.bound(named, digest, _who(listed))
        found = self._finder.newest(digest, _who(listed))
        if found is None:
            raise EvidenceError(_none_yet(name, listed.version))
        return found

    def brief(self, listed: Listed) -> Evidence | None:
        """The evidence that the gate last decided on; None if it never did. The model's files are not read."""
        digest, run_id = listed.tags.get(TAG_MODEL_DIGEST), listed.tags.get(TAG_EVIDENCE_RUN_ID)
        if digest is None or run_id is None:
            return None
        evidence = self._finder.bound(run_id, digest, _who(listed))
        if evidence.sha256 != listed.tags.get(TAG_EVIDENCE_SHA256):
            raise EvidenceError(f"The evidence of run {run_id:.64} must be the one that was decided on, got another.")
        return evidence

    def figure(self, evidence: Evidence, kind: str) -> str:
        """A figure of evidence, as an SVG that follows the reader's colour scheme."""
        if kind not in FIGURES:
            raise InvalidInputError(f"figure must be one of {', '.join(FIGURES)}, got {kind!r:.40}.")
        key = (evidence.sha256, kind)
        with self._drawing:
            if key not in self._drawn:
                while len(self._drawn) >= _KEPT:
                    self._drawn.pop(next(iter(self._drawn)))
                self._drawn[key] = _drawing(evidence.reliability, kind)
            return self._drawn[key]

    def experiment(self, run_id: str) -> str | None:
        """The experiment of a run, for a link; None if the run is gone."""
        try:
            return str(self._client.get_run(run_id).info.experiment_id)
        except Exception:  # a link is no reason to show no page
            return None

    def compare(self, name: str, a: Listed, b: Listed) -> dict[str, Any]:
        """Two versions beside each other, and in pairs where both were evaluated on the same rows."""
        (run_a, ours), (run_b, theirs) = self._on_same_data(name, a, b)
        paired, reason = self._paired(run_a, ours, run_b, theirs)
        return {
            "a": {"version": a.version, "run_id": run_a, **described(ours)},
            "b": {"version": b.version, "run_id": run_b, **described(theirs)},
            "same_data": ours.data.digest == theirs.data.digest,
            "paired": [_paired_row(each) for each in paired],
            "not_paired": reason,
        }

    def _digest(self, name: str, listed: Listed) -> str:
        # The guard's own tag, which nobody else may set; only a version that was never gated has to be read.
        return listed.tags.get(TAG_MODEL_DIGEST) or self._governor.identify(name, listed.version).model_digest

    def _on_same_data(self, name: str, a: Listed, b: Listed) -> tuple[tuple[str, Evidence], tuple[str, Evidence]]:
        """Evidence on both, on the same data set if there is any."""
        first, second = self.evidence(name, a), self.evidence(name, b)
        if first[1].data.digest == second[1].data.digest:
            return first, second
        for known, listed in ((first, b), (second, a)):
            digest, data = self._digest(name, listed), known[1].data.digest
            other = self._finder.newest(digest, _who(listed), data_digest=data, strict=True)
            if other is not None:
                return (known, other) if known is first else (other, known)
        return first, second

    def _paired(self, run_a: str, a: Evidence, run_b: str, b: Evidence) -> tuple[list[PairedDifference], str]:
        if a.data.digest != b.data.digest:
            return [], (
                "The two were evaluated on different data, so their numbers cannot be compared in pairs: part of any "
                "difference is that of the data. Evaluate both on the same data set."
            )
        try:
            ours, theirs = load_rows(a, run_a, self._client), load_rows(b, run_b, self._client)
            return list(_differences(ours, theirs, a.reliability)), ""
        except CaliberError as error:
            return [], str(error)


def _drawing(report: ReliabilityReport, kind: str) -> str:
    head, close, rest = figure_svg(FIGURES[kind](report), kind).partition(">")
    return f"{head}{close}{_STYLE}{rest}"


def numbers(report: ReliabilityReport, keys: tuple[str, ...] = SHOWN) -> list[dict[str, Any]]:
    """The metrics of a report, each with its interval where it has one."""
    found = []
    for key in keys:
        if key in report.metrics:
            interval = report.intervals.get(key)
            low, high = (None, None) if interval is None else (interval.low, interval.high)
            label, about = METRICS[key].label, METRICS[key].description
            found.append({"label": label, "value": report.metrics[key], "low": low, "high": high, "about": about})
    return found


def described(evidence: Evidence) -> dict[str, Any]:
    """What a page says of evidence: on what, when, and what came out."""
    report = evidence.reliability
    return {
        "created_at": evidence.created_at,
        "data": {"name": evidence.data.name, "digest": evidence.data.digest, "n": evidence.data.n},
        "confidence": report.confidence,
        "numbers": numbers(report),
        "curve": _curve(report),
    }


def _curve(report: ReliabilityReport) -> list[tuple[float, float]]:
    """Stated against observed, for drawing two models over one another."""
    if report.corp is None:
        stated, observed = report.curve.mean_predicted, report.curve.mean_observed
    else:
        curve = report.corp.downsample(_MOST_POINTS)
        stated, observed = curve.probability, curve.recalibrated
    return list(zip(stated.tolist(), observed.tolist(), strict=True))


def _differences(a: Rows, b: Rows, like: ReliabilityReport) -> Iterator[PairedDifference]:
    """Of `b` from `a`, for each metric that these rows allow."""
    if a.p.shape != b.p.shape or (a.y != b.y).any():
        raise EvidenceError("Both must have been evaluated on the same rows in the same order, got others.")
    for metric in PAIRED:
        try:
            yield compare_models(
                a.y,
                a.p,
                b.p,
                metric=metric,
                confidence=like.confidence,
                sample_weight=a.weight,
                n_bins=like.n_bins,
            )
        except InvalidInputError:
            continue  # of one class, for example, there is no ranking


def _paired_row(found: PairedDifference) -> dict[str, Any]:
    verdict = {"better": "better", "worse": "worse"}.get(found.verdict, "no clear difference")
    return {
        "label": METRICS[found.metric].label,
        "a": found.a,
        "b": found.b,
        "difference": found.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "verdict": verdict,
    }


def _who(listed: Listed) -> str:
    return f"version {listed.version}"


def _none_yet(name: str, version: str) -> str:
    return (
        f"Version {version} of {name!r:.80} has no evidence yet. Evaluate it: mlflow.models.evaluate("
        f"'models:/<name>/{version}', data, targets=..., model_type='classifier', evaluators='caliber')."
    )
