"""Evidently's HTML report: the one module that imports Evidently, and only when it is called."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_caliber._validation import check_at_least
from mlflow_caliber.drift._columns import Kind, UnreadableColumnError, as_labels, as_numbers, named_columns
from mlflow_caliber.drift._profile import feature_profile, read_profile
from mlflow_caliber.exceptions import InvalidInputError, OptionalDependencyError

_SECONDS_A_YEAR = 365.2425 * 86400


class _Drawn(NamedTuple):
    """One column as Evidently gets it."""

    kind: Kind
    reference: NDArray[Any]
    current: NDArray[Any]


def evidently_report(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    columns: Iterable[str] | None = None,
    threshold: float = 0.1,
) -> dict[str, str]:
    """Write Evidently's data drift report to one HTML file (4 to 5 MB, whatever the number of rows).

    For looking at: :func:`drift_report` decides, and its verdict does not depend on whether Evidently is installed.

    Parameters
    ----------
    reference, current : DataFrame
        The two samples.
    path : path
        The file to write; its folder must exist.
    columns : iterable of str, optional
        The columns to draw; default all that both frames have.
    threshold : float >= 0, default 0.1
        The PSI from which Evidently marks a column. Its bins are not ours, so its PSI differs from the native one.

    Returns
    -------
    dict of str to str
        Each column that was left out, with the sentence that says why.

    Raises
    ------
    OptionalDependencyError
        If Evidently is not installed, cannot be imported (0.7.23 cannot beside pandas 3.1), or fails.
    InvalidInputError
        If no column is left to draw.

    Notes
    -----
    Nothing is left to Evidently's guesses: every column is declared, and the method is PSI in every one, because by
    default the method depends on the number of rows. Times are drawn as decimal years, nullable integers as floats,
    booleans as 0 and 1. Nothing is sent anywhere: the import and the run happen under ``DO_NOT_TRACK``.

    Examples
    --------
    >>> left_out = evidently_report(reference, current, "drift.html")  # doctest: +SKIP
    """
    limit = check_at_least(threshold, "threshold", 0)
    wanted = None if columns is None else list(columns)
    profile = read_profile(feature_profile(reference, columns=wanted))
    before, now = named_columns(reference, "reference", wanted), named_columns(current, "current", wanted)
    left_out = profile.skipped | {name: "It is not in the reference." for name in now if name not in before}
    drawn: dict[str, _Drawn] = {}
    for column in profile.columns:
        name, kind = column.column, column.kind
        try:
            drawn[name] = _Drawn(kind, _drawable(before, name, kind), _drawable(now, name, kind))
        except UnreadableColumnError as reason:
            left_out[name] = str(reason)
    if not drawn:
        raise InvalidInputError(
            f"An Evidently report needs at least one column that both frames have, got none: {left_out}."
        )
    Path(path).write_text(_render(drawn, limit), encoding="utf-8")
    return left_out


def _drawable(columns: dict[str, pd.Series[Any]], name: str, kind: Kind) -> NDArray[Any]:
    """Values in a dtype that Evidently neither drops nor stumbles over: floats, or text with None for missing."""
    if name not in columns:
        raise UnreadableColumnError("It is not in the current data.")
    series = columns[name]
    if bool(series.isna().all()):
        raise UnreadableColumnError("Every value of the current data is missing.")
    if kind == "categorical":
        return _text(series)
    values = as_numbers(series, kind)
    if kind == "boolean":
        return _text(pd.Series(values))
    return 1970.0 + values / _SECONDS_A_YEAR if kind == "datetime" else np.where(np.isinf(values), np.nan, values)


def _text(series: pd.Series[Any]) -> NDArray[np.object_]:
    codes, names = as_labels(series)
    return np.array([*names, None], dtype=object)[codes]  # -1, missing, is the last


def _render(drawn: dict[str, _Drawn], threshold: float) -> str:
    with _untracked(), warnings.catch_warnings():
        # It warns of its own deprecations; a host that turns warnings into errors must not fail on them.
        warnings.simplefilter("ignore")
        evidently = _import()
        try:
            return _html(evidently, drawn, threshold)
        except Exception as error:
            raise OptionalDependencyError(
                f"The Evidently report needs columns that Evidently {evidently.__version__} can draw, "
                f"got {_said(error)} on {', '.join(drawn)}."
            ) from error


def _import() -> Any:
    try:
        importlib.import_module("evidently.presets")
        return importlib.import_module("evidently")
    except Exception as error:  # not only ImportError: it reaches into private parts of its dependencies
        raise OptionalDependencyError(
            f"The Evidently report needs a working Evidently, got {_said(error)}. "
            f"Install one with: pip install 'mlflow-caliber[evidently]' (needs pandas < 3.1, here is {pd.__version__})."
        ) from error


def _html(evidently: Any, drawn: dict[str, _Drawn], threshold: float) -> str:
    text = [name for name, column in drawn.items() if column.kind in {"boolean", "categorical"}]
    numbers = [name for name in drawn if name not in text]
    definition = evidently.DataDefinition(numerical_columns=numbers, categorical_columns=text)

    def dataset(values: dict[str, NDArray[Any]]) -> Any:
        return evidently.Dataset.from_pandas(pd.DataFrame(values), data_definition=definition)

    reference = dataset({name: column.reference for name, column in drawn.items()})
    current = dataset({name: column.current for name, column in drawn.items()})
    preset = evidently.presets.DataDriftPreset(
        num_method="psi", cat_method="psi", num_threshold=threshold, cat_threshold=threshold
    )
    return str(evidently.Report([preset]).run(current, reference).get_html_str(as_iframe=False))


@contextmanager
def _untracked() -> Iterator[None]:
    """Evidently reads DO_NOT_TRACK whenever it is about to send an event; importing and running it send none later."""
    before = os.environ.get("DO_NOT_TRACK")
    os.environ["DO_NOT_TRACK"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["DO_NOT_TRACK"]
        else:
            os.environ["DO_NOT_TRACK"] = before


def _said(error: Exception) -> str:
    first_line = str(error).strip().split("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {first_line}"
