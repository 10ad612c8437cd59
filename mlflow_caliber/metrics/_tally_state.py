"""A tally as JSON and back, and the checks of sums that somebody else has added up."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber._validation import (
    LARGEST_WEIGHT,
    SMALLEST_WEIGHT,
    FloatArray,
    check_count,
    check_finite,
    check_flag,
    check_known_keys,
    check_same_length,
    check_scores,
)
from mlflow_caliber.exceptions import CaliberError, InvalidInputError, StateError
from mlflow_caliber.metrics._grid import EDGES, N_CELLS
from mlflow_caliber.metrics._tally import SUMS, Tally

FORMAT_VERSION = 1
LOSSES = ("squared_error", "log_loss")
_WEIGHTS = ("weight", "weight_sq", "positive_sq")
_KEYS = ("format_version", "exact_up_to", "exact", "key", *SUMS, *LOSSES)
# Whoever adds up in another order rounds otherwise.
_ROUNDING = 1e-9
_LARGEST_LOSS = 36.05
_MOST_ROWS = 2**53


def to_state(tally: Tally) -> dict[str, Any]:
    """Plain JSON values. What follows from the rest is null: weights that are all one, the mean of an exact score."""
    sums = dict(zip(SUMS, tally.sums, strict=False))
    whole = ("rows", "positive") if tally.unweighted else ("rows",)
    columns: dict[str, Any] = {
        name: (column.astype(np.int64) if name in whole else column).tolist() for name, column in sums.items()
    }
    columns |= dict.fromkeys(_WEIGHTS if tally.unweighted else ())
    losses = dict(zip(LOSSES, tally.losses.tolist(), strict=True))
    state = {"format_version": FORMAT_VERSION, "exact_up_to": tally.limit, "exact": tally.exact}
    return {**state, "key": tally.keys.tolist()} | dict.fromkeys(SUMS) | columns | losses


def from_state(state: Any) -> Tally:
    """What :func:`to_state` wrote."""
    if not isinstance(state, Mapping):
        raise StateError(f"Score statistics must be read from a mapping, got a {type(state).__name__}.")
    version = state.get("format_version")
    if version != FORMAT_VERSION:
        raise StateError(f"Score statistics must have format_version {FORMAT_VERSION}, got {version!r}.")
    missing = [key for key in _KEYS if key not in state]
    if missing:
        raise StateError(f"Score statistics must hold {missing[0]!r}, which is missing.")
    try:
        check_known_keys(state, _KEYS, "score statistics")
        return _read(state)
    except CaliberError as error:
        raise StateError(f"Score statistics cannot be read: {error}") from error


def _read(state: Mapping[str, Any]) -> Tally:
    limit, exact = check_count(state["exact_up_to"], "exact_up_to", minimum=0), check_flag(state["exact"], "exact")
    implied = {name for name in (*_WEIGHTS, "predicted") if state[name] is None}
    columns = {name: None if name in implied else _listed(state[name], name) for name in ("key", *SUMS)}
    losses = np.array([_listed([state[name]], name)[0] for name in LOSSES])
    if exact and "predicted" not in implied:
        raise InvalidInputError("predicted must be null for exact scores, which are their own mean.")
    if not any(columns.values()) and not losses.any():
        return Tally.empty(limit) if exact else Tally.empty(limit).on_grid()
    tally = checked_tally(limit, exact, columns.pop("key"), columns, losses)
    if np.any(np.diff(tally.keys) <= 0):
        raise InvalidInputError("key must increase strictly, got values out of order or repeated.")
    if exact and tally.keys.size > limit:
        raise InvalidInputError(f"key must hold at most {limit} exact scores, got {tally.keys.size}.")
    return tally


def _listed(values: Any, name: str) -> list[float]:
    """JSON's numbers and nothing that merely converts to one."""
    if not isinstance(values, list):
        raise InvalidInputError(f"{name} must be a list of numbers, got a {type(values).__name__}.")
    for value in values:
        # (The largest float is a bound because JSON's whole numbers have none.)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            raise InvalidInputError(f"{name} must hold only finite numbers, got {value!r:.40}.")
    return values


def checked_tally(limit: int, exact: bool, key: Any, columns: Mapping[str, Any], losses: FloatArray) -> Tally:
    """The tally of these sums, keys in the order given, once they can be sums over rows."""
    keys = check_scores(key, "key") if exact else _whole(key, "cell", 0, N_CELLS - 1).astype(np.int64)
    sums = _complete(exact, columns)
    check_same_length(key=keys, **sums)
    _check_possible(exact, keys, sums)
    total = float(sums["weight"].sum())
    for name, loss, most in zip(LOSSES, losses, (1.0, _LARGEST_LOSS), strict=True):
        _check_between(np.array([loss]), 0.0, np.array([most * total]), name)
    return Tally(limit, exact, keys, np.stack([sums[name] for name in SUMS if name in sums]), losses)


def _complete(exact: bool, columns: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Every column; the weights of rows that have none are one."""
    given = [name for name in _WEIGHTS if columns[name] is not None]
    if 0 < len(given) < len(_WEIGHTS):
        raise InvalidInputError(f"{', '.join(_WEIGHTS)} must come together, got only {', '.join(given)}.")
    sums = {"rows": _whole(columns["rows"], "rows", 1, _MOST_ROWS)}
    if given:
        sums |= {name: check_finite(columns[name], name) for name in ("positive", *_WEIGHTS)}
    else:
        sums["positive"] = _whole(columns["positive"], "positive", 0, _MOST_ROWS)
        sums |= {"weight": sums["rows"], "weight_sq": sums["rows"], "positive_sq": sums["positive"]}
    return sums if exact else sums | {"predicted": check_finite(columns["predicted"], "predicted")}


def _check_possible(exact: bool, keys: NDArray[Any], sums: Mapping[str, FloatArray]) -> None:
    rows, weight = sums["rows"], sums["weight"]
    _check_between(weight, rows * SMALLEST_WEIGHT, rows * LARGEST_WEIGHT, "weight")
    _check_between(sums["weight_sq"], weight**2 / rows, weight**2, "weight_sq")
    _check_between(sums["positive"], 0.0, weight, "positive")
    _check_between(sums["positive_sq"], sums["positive"] ** 2 / rows, sums["weight_sq"], "positive_sq")
    if not exact:
        _check_between(sums["predicted"], weight * EDGES[keys // 2], weight * EDGES[(keys + 1) // 2], "predicted")


def _check_between(values: FloatArray, low: float | FloatArray, high: FloatArray, name: str) -> None:
    slack = _ROUNDING * high
    strange = np.flatnonzero((values < low - slack) | (values > high + slack))
    if strange.size:
        i = strange[0]
        bounds = f"between {np.broadcast_to(low, high.shape)[i]:.6g} and {high[i]:.6g}"
        raise InvalidInputError(f"{name} must be a sum over rows, here {bounds}, got {values[i]:.6g}.")


def _whole(values: Any, name: str, low: int, high: int) -> FloatArray:
    array = check_finite(values, name)
    strange = array[(array != np.floor(array)) | (array < low) | (array > high)]
    if strange.size:
        raise InvalidInputError(f"{name} must hold whole numbers from {low} to {high}, got {strange[0]:.6g}.")
    return array
