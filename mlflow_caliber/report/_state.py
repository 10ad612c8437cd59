"""Reads a report's JSON strictly: every key, type and range is checked, and the sentence says where it is wrong.

Version 1 had no intervals and no CORP curve; such reports, in the evidence of earlier evaluations, are still read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import CaliberError, StateError
from mlflow_caliber.metrics import METRICS, CorpCurve, Interval, ReliabilityCurve, RiskCoverageCurve

FORMAT_VERSION = 2
_ADDED_IN_2: Mapping[str, Any] = {"intervals": {}, "confidence": 0.95, "change": {}, "corp": None, "exact": True}
HISTOGRAM_BINS = 100
"""Equal-width bins of [0, 1] in which :attr:`ReliabilityReport.histogram` counts the rows."""

Reader = Callable[[Any, str], Any]


def read_report(state: Any) -> dict[str, Any]:
    """The fields of a report; its segments and its raw report stay as they came, for their own readers."""
    fields = _object(_of_this_version(state), _REPORT, "report")
    del fields["format_version"]
    _check_together(fields)
    return fields


def _of_this_version(state: Any) -> Any:
    if not isinstance(state, Mapping) or state.get("format_version") == FORMAT_VERSION:
        return state
    if state.get("format_version") != 1:
        raise StateError(f"report.format_version must be 1 or {FORMAT_VERSION}, got {state.get('format_version')!r}.")
    return {**_ADDED_IN_2, **state}


def read_segment(state: Any) -> dict[str, Any]:
    """The fields of one segment."""
    return _object({"curve": None, **state} if isinstance(state, Mapping) else state, _SEGMENT, "segment")


def _check_together(fields: Mapping[str, Any]) -> None:
    """Refuse fields that are right alone and wrong together."""
    n_classes, histogram, raw = len(fields["classes"]), fields["histogram"], fields["raw"]
    if (fields["kind"] == "binary") != (n_classes == 2):
        raise StateError(f"report.classes must be two for a binary report and more otherwise, got {n_classes}.")
    if len(histogram) != HISTOGRAM_BINS or sum(histogram) != fields["n"]:
        raise StateError(
            f"report.histogram must hold {HISTOGRAM_BINS} counts that add up to n = {fields['n']}, "
            f"got {len(histogram)} that add up to {sum(histogram)}."
        )
    if raw is not None and (raw.get("n"), raw.get("kind"), raw.get("raw")) != (fields["n"], fields["kind"], None):
        raise StateError("report.raw must be of the same kind and rows and hold no further raw report.")


def _object(state: Any, readers: Mapping[str, Reader], where: str) -> dict[str, Any]:
    if not isinstance(state, Mapping):
        raise StateError(f"{where} must be a JSON object, got a {type(state).__name__}.")
    missing, unknown = readers.keys() - state.keys(), state.keys() - readers.keys()
    if missing or unknown:
        raise StateError(
            f"{where} must have the keys {', '.join(sorted(readers))}; "
            f"missing: {_names(missing)}; unknown: {_names(unknown)}."
        )
    return {key: read(state[key], f"{where}.{key}") for key, read in readers.items()}


def _names(keys: set[Any]) -> str:
    return ", ".join(sorted(map(str, keys))) or "none"


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise StateError(f"{where} must be text, got {value!r}.")
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise StateError(f"{where} must be true or false, got {value!r}.")
    return value


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise StateError(f"{where} must be a whole number >= 0, got {value!r}.")
    return value


def _positive(value: Any, where: str) -> int:
    if _count(value, where) == 0:
        raise StateError(f"{where} must be at least 1, got 0.")
    return int(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise StateError(f"{where} must be a finite number, got {value!r}.")
    return float(value)


def _share(value: Any, where: str) -> float:
    if not 0.0 < _number(value, where) < 1.0:
        raise StateError(f"{where} must be strictly between 0 and 1, got {value!r}.")
    return float(value)


def _interval(value: Any, where: str) -> Interval:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise StateError(f"{where} must be a low and a high end, got {value!r}.")
    interval = Interval(_number(value[0], where), _number(value[1], where))
    if interval.low > interval.high:
        raise StateError(f"{where} must have its low end first, got {value!r}.")
    return interval


def _one_of(*choices: str) -> Reader:
    def read(value: Any, where: str) -> str:
        if value not in choices:
            raise StateError(f"{where} must be one of {', '.join(choices)}, got {value!r}.")
        return str(value)

    return read


def _list_of(read: Reader) -> Reader:
    def read_list(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise StateError(f"{where} must be a list, got a {type(value).__name__}.")
        return tuple(read(item, f"{where}[{i}]") for i, item in enumerate(value))

    return read_list


def _map_of(read: Reader, *, metric_keys: bool = False) -> Reader:
    def read_map(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise StateError(f"{where} must be a JSON object, got a {type(value).__name__}.")
        unknown = [key for key in value if metric_keys and key not in METRICS]
        if unknown:
            raise StateError(f"{where} must hold only metric keys, got {unknown[0]!r}.")
        return {_text(key, where): read(item, f"{where}.{key}") for key, item in value.items()}

    return read_map


def _optional(read: Reader) -> Reader:
    return lambda value, where: None if value is None else read(value, where)


def _classes(value: Any, where: str) -> tuple[str, ...]:
    names: tuple[str, ...] = _list_of(_text)(value, where)
    if len(set(names)) != len(names):
        raise StateError(f"{where} must be distinct, got {list(names)}.")
    return names


def _class_metrics(value: Any, where: str) -> dict[str, float]:
    return _object(value, {"ece": _number, "prevalence": _number, "n": _count}, where)


def _policy(value: Any, where: str) -> dict[str, Any]:
    try:
        return AbstainPolicy.from_dict(value).to_dict()
    except CaliberError as error:
        raise StateError(f"{where}: {error}") from error


def _as_is(value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise StateError(f"{where} must be a JSON object, got a {type(value).__name__}.")
    return value


_SEGMENT: dict[str, Reader] = {
    "column": _text,
    "value": _text,
    "n": _positive,
    "metrics": _map_of(_number, metric_keys=True),
    "not_computed": _map_of(_text, metric_keys=True),
    "curve": _optional(lambda value, _: ReliabilityCurve.from_dict(value)),
}
_REPORT: dict[str, Reader] = {
    "format_version": _count,
    "kind": _one_of("binary", "multiclass"),
    "n": _positive,
    "weighted": _flag,
    "classes": _classes,
    "n_bins": _positive,
    "strategy": _one_of("quantile", "uniform"),
    "metrics": _map_of(_number, metric_keys=True),
    "not_computed": _map_of(_text, metric_keys=True),
    "intervals": _map_of(_interval, metric_keys=True),
    "confidence": _share,
    "change": _map_of(_interval, metric_keys=True),
    "curve": lambda value, _: ReliabilityCurve.from_dict(value),
    "corp": _optional(lambda value, _: CorpCurve.from_dict(value)),
    "histogram": _list_of(_count),
    "risk_coverage": lambda value, _: RiskCoverageCurve.from_dict(value),
    "per_class": _map_of(_class_metrics),
    "segments": _list_of(_as_is),
    "policy": _optional(_policy),
    "exact": _flag,
    "raw": _optional(_as_is),
}
