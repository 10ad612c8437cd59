"""Drift from counts: PSI in every column, judged by its own sampling distribution and a minimum effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mlflow_caliber._validation import FloatArray, check_at_least, check_count, check_unit_interval
from mlflow_caliber.drift import _psi
from mlflow_caliber.drift._columns import UnreadableColumnError, named_columns
from mlflow_caliber.drift._profile import ColumnProfile, Profile, feature_profile, read_profile
from mlflow_caliber.drift._report import ColumnDrift, DriftReport
from mlflow_caliber.exceptions import InvalidInputError


def drift_report(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    columns: Iterable[str] | None = None,
    alpha: float = 0.05,
    min_effect: float = 0.02,
    min_rows: int = 50,
) -> DriftReport:
    """Measure how far current data are from reference data, column by column.

    A column has drifted when its population stability index (PSI) is larger than sampling noise explains *and*
    larger than ``min_effect``. It is ``drift_from_profile(feature_profile(reference), current)``, to the last digit.

    Parameters
    ----------
    reference, current : DataFrame of shapes (n, k) and (m, k')
        The two samples, rows independent of each other.
    columns : iterable of str, optional
        The columns to compare; default all of either frame.
    alpha : float in (0, 1), default 0.05
        Level of the Benjamini-Hochberg procedure over the tested columns: without any drift, the share of reports that
        name even one column is about ``alpha`` or less.
    min_effect : float >= 0, default 0.02
        The smallest PSI that counts. In large samples differences too small to matter are certain, and only this stops
        them; PSI 0.02 is a shift of a normal distribution by about 0.14 standard deviations.
    min_rows : int >= 1, default 50
        With fewer rows on either side nothing is tested.

    Returns
    -------
    DriftReport
        Every column of either frame is in ``columns`` or in ``skipped``, once.

    Raises
    ------
    InvalidInputError
        If an argument is not a DataFrame, has a column name twice, or is out of range, or if ``columns`` names a column
        that neither frame has.

    Notes
    -----
    PSI = sum over cells of (a - e) ln(a / e), with e and a the reference and current shares [1]_. Without drift it is
    about (1/n + 1/m) times a chi-square variable with one degree of freedom less than there are cells [2]_, so that the
    threshold depends on the sample sizes, and not on the customary 0.1 and 0.25.

    References
    ----------
    .. [1] N. Siddiqi, "Credit Risk Scorecards", Wiley, 2006.
    .. [2] B. Yurdakul and J. Naranjo, "Statistical properties of the population stability index",
       Journal of Risk Model Validation 14(4), 2020.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> reference = pd.DataFrame({"age": rng.normal(40, 10, 1000), "region": rng.choice(["n", "s"], 1000)})
    >>> current = pd.DataFrame({"age": rng.normal(45, 10, 1000), "region": rng.choice(["n", "s"], 1000)})
    >>> report = drift_report(reference, current)
    >>> report.drifted, report.share
    (('age',), 0.5)
    """
    wanted = None if columns is None else list(columns)
    return drift_from_profile(
        feature_profile(reference, columns=wanted),
        current,
        columns=wanted,
        alpha=alpha,
        min_effect=min_effect,
        min_rows=min_rows,
    )


def drift_from_profile(
    profile: Mapping[str, Any],
    current: pd.DataFrame,
    *,
    columns: Iterable[str] | None = None,
    alpha: float = 0.05,
    min_effect: float = 0.02,
    min_rows: int = 50,
) -> DriftReport:
    """Measure drift against a stored profile, without the reference data.

    Parameters
    ----------
    profile : mapping
        What :func:`feature_profile` gave, also after a round trip through JSON.
    current, columns, alpha, min_effect, min_rows
        As in :func:`drift_report`.

    Returns
    -------
    DriftReport
        The same as :func:`drift_report` gives on the data that were profiled.

    Raises
    ------
    StateError
        If the profile cannot be read.
    InvalidInputError
        As in :func:`drift_report`.

    Examples
    --------
    >>> profile = feature_profile(pd.DataFrame({"paid": [True] * 90 + [False] * 10}))
    >>> report = drift_from_profile(profile, pd.DataFrame({"paid": [True] * 60 + [False] * 40}))
    >>> report.columns[0].note
    "Largest change: level '0' went from 10.0 % to 40.0 % of rows."
    """
    level = check_unit_interval(alpha, "alpha", open_ends=True)
    effect = check_at_least(min_effect, "min_effect", 0)
    enough = check_count(min_rows, "min_rows")
    known = read_profile(profile)
    wanted = None if columns is None else list(columns)
    series = named_columns(current, "current", wanted)
    compared, skipped = _compare(_restrict(known, wanted, series), series, len(current), enough)
    return DriftReport(
        columns=_judge(compared, level, effect),
        skipped=skipped,
        n_reference=known.n,
        n_current=len(current),
        alpha=level,
        min_effect=effect,
    )


@dataclass(frozen=True)
class _Comparison:
    """One column's counts on both sides, over the cells that hold any row, and the PSI between them."""

    profile: ColumnProfile
    names: list[str]
    reference: _psi.Counts
    current: _psi.Counts
    n_current: int  # rows with a value

    @property
    def terms(self) -> FloatArray:
        return _psi.psi_terms(self.reference, self.current)

    @property
    def psi(self) -> float:
        return float(self.terms.sum())

    @property
    def scale(self) -> float:
        return _psi.null_scale(int(self.reference.sum()), int(self.current.sum()))

    @property
    def p_value(self) -> float:
        return _psi.p_value(self.psi, len(self.names), self.scale)


def _restrict(profile: Profile, columns: list[str] | None, series: Mapping[str, Any]) -> Profile:
    if columns is None:
        return profile
    known = {column.column for column in profile.columns} | set(profile.skipped) | set(series)
    for name in columns:
        if name not in known:
            raise InvalidInputError(f"columns must name columns of the data, got {name!r}, which neither frame has.")
    kept = tuple(column for column in profile.columns if column.column in columns)
    return Profile(profile.n, kept, {name: why for name, why in profile.skipped.items() if name in columns})


def _compare(
    profile: Profile, series: Mapping[str, pd.Series[Any]], n_current: int, min_rows: int
) -> tuple[list[_Comparison], dict[str, str]]:
    compared: list[_Comparison] = []
    skipped = dict(profile.skipped)
    for column in profile.columns:
        try:
            compared.append(_compare_column(column, series, (profile.n, n_current), min_rows))
        except UnreadableColumnError as reason:
            skipped[column.column] = str(reason)
    seen = {column.column for column in profile.columns} | set(skipped)
    return compared, skipped | {name: "It is not in the reference." for name in series if name not in seen}


def _compare_column(
    column: ColumnProfile, series: Mapping[str, pd.Series[Any]], rows: tuple[int, int], min_rows: int
) -> _Comparison:
    if column.column not in series:
        raise UnreadableColumnError("It is not in the current data.")
    if min(rows) < min_rows:
        raise UnreadableColumnError(
            f"It takes at least {min_rows} rows on each side, got {rows[0]} in the reference and {rows[1]} now."
        )
    reference, current = column.cell_counts, column.count(series[column.column])
    keep = _psi.filled(reference, current)
    if keep.sum() < 2:
        raise UnreadableColumnError("Both sides hold one and the same value throughout.")
    names = [name for name, kept in zip(column.cell_names, keep, strict=True) if kept]
    return _Comparison(column, names, reference[keep], current[keep], int(current[:-1].sum()))


def _judge(compared: list[_Comparison], alpha: float, min_effect: float) -> tuple[ColumnDrift, ...]:
    if not compared:
        return ()
    level = _psi.benjamini_hochberg_level([one.p_value for one in compared], alpha)
    return tuple(_judge_column(one, level, min_effect) for one in compared)


def _judge_column(one: _Comparison, level: float, min_effect: float) -> ColumnDrift:
    # Rejecting up to one p-value is the same as crossing one PSI, which is what a reader can compare and plot.
    threshold = max(min_effect, _psi.critical_value(level, len(one.names), one.scale))
    drifted = one.psi >= threshold
    return ColumnDrift(
        column=one.profile.column,
        kind=one.profile.kind,
        method="psi",
        statistic=one.psi,
        threshold=threshold,
        drifted=drifted,
        p_value=one.p_value,
        jensen_shannon=_psi.js_distance(one.reference, one.current),
        n_reference=sum(one.profile.counts),
        n_current=one.n_current,
        note=_largest_change(one) if drifted else "",
    )


def _largest_change(one: _Comparison) -> str:
    i = int(np.argmax(one.terms))
    before, now = (100 * counts[i] / counts.sum() for counts in (one.reference, one.current))
    return f"Largest change: {one.names[i]} went from {before:.1f} % to {now:.1f} % of rows."
