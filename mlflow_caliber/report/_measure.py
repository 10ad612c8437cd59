"""Every metric that rows allow, its interval, and for each metric that they do not allow the reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber import metrics
from mlflow_caliber._validation import FloatArray
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import InvalidInputError, OneClassError
from mlflow_caliber.metrics import Interval
from mlflow_caliber.report._rows import Rows

Keys = tuple[str, ...]
Tasks = dict[Keys, Callable[[], Any]]

WHOLE_ONLY = frozenset({"ece_l2_debiased", "smooth_ece", "spiegelhalter_z", "calibration_p"})
"""Metrics of a whole evaluation that its segments leave out."""


@dataclass(frozen=True)
class Settings:
    """How a report is made."""

    classes: tuple[str, ...]
    n_bins: int
    strategy: Literal["quantile", "uniform"]
    policy: AbstainPolicy | None
    confidence: float
    random_state: int

    @property
    def binning(self) -> dict[str, Any]:
        return {"n_bins": self.n_bins, "strategy": self.strategy}

    @property
    def sampling(self) -> dict[str, Any]:
        return {"confidence": self.confidence, "random_state": self.random_state}

    def answered(self, rows: Rows) -> NDArray[np.bool_]:
        if self.policy is None:
            return np.ones(rows.y.size, dtype=bool)
        # (The names of as many predictions as there are rows take a while, and few policies ask for them.)
        named = bool(self.policy.class_thresholds)
        predicted = np.array(self.classes, dtype=object)[rows.guess] if named else None
        return ~self.policy.apply(rows.confidence, segment=rows.group, predicted=predicted)


def measure(rows: Rows, settings: Settings) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics of a whole evaluation."""
    return _run({**_slice_tasks(rows, settings), **_whole_tasks(rows, settings)})


def measure_slice(rows: Rows, settings: Settings) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics of one segment: those that are worth their time on hundreds of them."""
    return _run(_slice_tasks(rows, settings))


def intervals_of(rows: Rows, settings: Settings, values: dict[str, float]) -> dict[str, Interval]:
    """Confidence intervals of the metrics that were computed."""
    found: dict[str, Interval] = {}
    for keys, compute in _interval_tasks(rows, settings).items():
        if values.keys() >= set(keys):
            found |= compute()
    return found


def change_of(rows: Rows, settings: Settings) -> dict[str, Interval]:
    """Interval of metric after less metric before calibration, on the same rows; none of a single row."""
    if rows.y.size == 1:
        return {}
    keys: tuple[metrics.PairedMetric, ...] = ("ece", "brier", "log_loss") if rows.binary else ("brier", "log_loss")
    compare = partial(metrics.compare_models, rows.y, rows.ranking, rows.proba, sample_weight=rows.weight)
    how = {**settings.sampling, **settings.binning}
    return {key: compare(metric=key, **how).interval for key in keys}


def _run(tasks: Tasks) -> tuple[dict[str, float], dict[str, str]]:
    values: dict[str, float] = {}
    not_computed: dict[str, str] = {}
    for keys, compute in tasks.items():
        try:
            result = compute()
        except InvalidInputError as error:
            not_computed.update(dict.fromkeys(keys, str(error)))
        else:
            values.update(zip(keys, map(float, np.atleast_1d(result)), strict=True))
    return values, not_computed


def _slice_tasks(rows: Rows, settings: Settings) -> Tasks:
    return {**_calibration(rows, settings), **_scores(rows), **_selective(rows, settings)}


def _calibration(rows: Rows, settings: Settings) -> Tasks:
    outcome, probability = rows.event
    about = partial(partial, sample_weight=rows.weight)
    null = about(metrics.calibration_error_null, probability, random_state=settings.random_state, **settings.binning)
    return {
        ("ece",): about(metrics.expected_calibration_error, outcome, probability, **settings.binning),
        ("ece_upper",): about(metrics.expected_calibration_error_upper, outcome, probability, n_bins=settings.n_bins),
        ("ece_null_mean", "ece_null_p95"): null,
    }


def _whole_tasks(rows: Rows, settings: Settings) -> Tasks:
    about = partial(partial, sample_weight=rows.weight)
    debiased: dict[str, Any] = {"n_bins": settings.n_bins, "norm": "l2", "debias": True}
    tasks: Tasks = {
        ("ece_l2_debiased",): about(metrics.expected_calibration_error, *rows.event, **debiased),
        ("smooth_ece",): about(metrics.smooth_calibration_error, *rows.event),
        ("spiegelhalter_z",): partial(_spiegelhalter_z, rows),
        ("calibration_p",): lambda: metrics.calibration_score_test(*rows.event, sample_weight=rows.weight).p_value,
    }
    return (
        tasks if rows.binary else {**tasks, ("classwise_ece", "classwise_ece_max"): partial(_classwise, rows, settings)}
    )


def _spiegelhalter_z(rows: Rows) -> float:
    z = metrics.spiegelhalter_test(*rows.event, sample_weight=rows.weight).statistic
    if not math.isfinite(z):
        raise InvalidInputError("spiegelhalter_z is infinite: what was stated to be impossible happened.")
    return z


def _classwise(rows: Rows, settings: Settings) -> tuple[float, float]:
    errors = metrics.classwise_calibration_error(rows.y, rows.proba, sample_weight=rows.weight, **settings.binning)
    return float(errors.mean()), float(errors.max())


def _scores(rows: Rows) -> Tasks:
    of_two = (metrics.brier_score, metrics.log_loss, metrics.brier_decomposition)
    of_more = (metrics.multiclass_brier_score, metrics.multiclass_log_loss, metrics.multiclass_brier_decomposition)
    brier, log_loss, decomposition = of_two if rows.binary else of_more
    return {
        ("brier",): partial(brier, rows.y, rows.proba, sample_weight=rows.weight),
        ("log_loss",): partial(log_loss, rows.y, rows.proba, sample_weight=rows.weight),
        ("mcb", "dsc", "unc"): partial(decomposition, rows.y, rows.proba, sample_weight=rows.weight),
        ("roc_auc",): partial(_auc, rows),
    }


def _auc(rows: Rows) -> float:
    if rows.binary:
        return metrics.roc_auc(rows.y, rows.ranking, sample_weight=rows.weight)
    absent = rows.n_classes - np.unique(rows.y).size
    if absent:
        raise OneClassError(
            f"roc_auc needs a row of every class, got none of {absent} of the {rows.n_classes} classes."
        )
    return metrics.multiclass_roc_auc(rows.y, rows.ranking, sample_weight=rows.weight)


def _selective(rows: Rows, settings: Settings) -> Tasks:
    correct, answered = rows.correct, settings.answered(rows)
    mean = partial(_mean, weight=rows.weight)
    area = partial(partial, confidence=rows.confidence, correct=correct, sample_weight=rows.weight)
    tasks: Tasks = {
        ("aurc",): area(metrics.aurc),
        ("e_aurc",): area(metrics.e_aurc),
        ("augrc",): area(metrics.augrc),
        ("coverage",): partial(mean, answered),
        ("selective_risk",): partial(_selective_risk, answered, correct, rows.weight),
        ("abstain_rate",): partial(mean, ~answered),
        ("accuracy",): partial(mean, correct),
    }
    return {**tasks, ("prevalence",): partial(mean, rows.y)} if rows.binary else tasks


def _selective_risk(answered: NDArray[np.bool_], correct: FloatArray, weight: FloatArray | None) -> float:
    if not answered.any():
        raise InvalidInputError(f"selective_risk needs an answered row, got {answered.size} rows, all withheld.")
    return _mean(1.0 - correct[answered], None if weight is None else weight[answered])


def _mean(values: NDArray[Any], weight: FloatArray | None) -> float:
    return float(np.average(values, weights=weight))


def _interval_tasks(rows: Rows, settings: Settings) -> dict[Keys, Callable[[], dict[str, Interval]]]:
    outcome, probability = rows.event
    weighted: dict[str, Any] = {"sample_weight": rows.weight}
    sampling = {**weighted, **settings.sampling}
    of_ece = partial(metrics.expected_calibration_error_interval, outcome, probability, **settings.binning, **sampling)
    of_scores = metrics.score_intervals if rows.binary else metrics.multiclass_score_intervals
    of_auc = metrics.roc_auc_interval if rows.binary else metrics.multiclass_roc_auc_interval
    of_areas = partial(metrics.selective_intervals, rows.confidence, rows.correct, random_state=settings.random_state)
    auc = partial(of_auc, rows.y, rows.ranking, confidence=settings.confidence, **weighted)
    return {
        ("ece",): lambda: {"ece": of_ece()},
        ("brier", "log_loss", "mcb", "dsc", "unc"): partial(of_scores, rows.y, rows.proba, **sampling),
        ("roc_auc",): lambda: {"roc_auc": auc()},
        ("aurc", "e_aurc", "augrc"): partial(of_areas, confidence_level=settings.confidence, **weighted),
        **_share_tasks(rows, settings),
    }


def _share_tasks(rows: Rows, settings: Settings) -> dict[Keys, Callable[[], dict[str, Interval]]]:
    """Of the metrics that are the share of some rows among others: Clopper and Pearson's interval."""
    answered, correct = settings.answered(rows), rows.correct > 0.0
    everyone = np.ones(rows.y.size, dtype=bool)
    shares = {
        "coverage": (answered, everyone),
        "selective_risk": (~correct, answered),
        "abstain_rate": (~answered, everyone),
        "accuracy": (correct, everyone),
    }
    if rows.binary:
        shares["prevalence"] = (rows.y == 1, everyone)

    def interval(key: str) -> dict[str, Interval]:
        return {key: _share_interval(*shares[key], rows.weight, settings.confidence)}

    return {(key,): partial(interval, key) for key in shares}


def _share_interval(
    hit: NDArray[np.bool_], among: NDArray[np.bool_], weight: FloatArray | None, confidence: float
) -> Interval:
    if weight is None:
        return metrics.proportion_interval(float((hit & among).sum()), float(among.sum()), confidence=confidence)
    w = weight[among]
    # Kish: so many rows of equal weight would be as uncertain.
    n = min(max(float(w.sum() ** 2 / (w**2).sum()), 1.0), float(w.size))
    return metrics.proportion_interval(n * float(np.average(hit[among], weights=w)), n, confidence=confidence)
