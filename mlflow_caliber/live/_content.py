"""The numbers of a report, put together from a sample."""

from __future__ import annotations

from typing import Any

from mlflow_caliber.live._measured import (
    Sample,
    auc_of,
    bins_of,
    corp_of,
    full_side,
    quick_side,
    risk_coverage_of,
)
from mlflow_caliber.metrics import proportion_interval

__all__ = ["content_of"]


def content_of(sample: Sample, threshold: float | None, *, full: bool) -> dict[str, Any]:
    """What the numbers of a report are."""
    counted = {
        "kind": "top_label" if sample.top_label else "binary",
        "n": sample.n_labelled,
        "n_predictions": sample.n_predictions,
        "n_abstained": sample.n_abstained,
        "note": " ".join(sample.notes),
    }
    if not sample.n_labelled:
        return {**counted, **_nothing(sample)}
    how = {"top_label": sample.top_label}
    side = full_side if full else quick_side
    served, missing, spread = side(sample.served, **how)
    is_same = sample.shipped is sample.served
    shipped, shipped_spread = (dict(served), dict(spread)) if is_same else side(sample.shipped, **how)[::2]
    _add_decisions(sample, served, spread, missing)
    _add_auc(sample, (served, shipped), (spread, shipped_spread), missing)
    bins = bins_of(sample.served)
    curve = corp_of(sample.served) if full else []
    shipped_curve = curve if is_same or not full else corp_of(sample.shipped)
    return {
        **counted,
        "metrics": {"served": served, "shipped": shipped},
        "intervals": {"served": spread, "shipped": shipped_spread},
        "not_computed": missing,
        "reliability": {"served": bins, "shipped": bins if is_same else bins_of(sample.shipped)},
        "corp": {"served": curve, "shipped": shipped_curve} if full else None,
        "risk_coverage": risk_coverage_of(sample.served, threshold=threshold, **how),
    }


def _nothing(sample: Sample) -> dict[str, Any]:
    why = "No outcome of a prediction of this window is known yet."
    served: dict[str, float] = {}
    missing = dict.fromkeys(("ece", "log_loss", "brier"), why)
    _add_decisions(sample, served, {}, missing)
    return {
        "metrics": {"served": served, "shipped": None},
        "intervals": {"served": {}, "shipped": {}},
        "not_computed": missing,
        "reliability": {"served": [], "shipped": []},
        "corp": None,
        "risk_coverage": {"points": [], "policy": None},
    }


def _add_decisions(
    sample: Sample, served: dict[str, float], spread: dict[str, list[float]], missing: dict[str, str]
) -> None:
    """What was withheld, as it really was decided, and how often the answers that were given are wrong."""
    for key in ("coverage", "abstain_rate", "selective_risk"):
        served.pop(key, None)
        spread.pop(key, None)
    n, held = sample.n_predictions, sample.n_abstained
    for key, hit in (("coverage", n - held), ("abstain_rate", held)):
        if n:
            low, high = proportion_interval(hit, n)
            served[key], spread[key] = hit / n, [low, high]
        else:
            missing[key] = f"{key} needs a prediction, got none."
    if not sample.n[0]:
        missing["selective_risk"] = "selective_risk needs an answered prediction with an outcome, got none."
        return
    low, high = proportion_interval(sample.answered_wrong, sample.n[0])
    served["selective_risk"], spread["selective_risk"] = sample.answered_wrong / sample.n[0], [low, high]


def _add_auc(
    sample: Sample,
    sides: tuple[dict[str, float], ...],
    spreads: tuple[dict[str, list[float]], ...],
    missing: dict[str, str],
) -> None:
    if sample.top_label:
        missing["roc_auc"] = "roc_auc needs two classes with the probability of one, which this stream does not record."
        return
    value, spread, why = auc_of(sample.raw)
    if value is None or spread is None:
        missing["roc_auc"] = why
        return
    for values, intervals in zip(sides, spreads, strict=True):
        values["roc_auc"], intervals["roc_auc"] = value, spread
