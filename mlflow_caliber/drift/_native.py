"""Drift column by column, judged by the statistic's own sampling distribution and a minimum effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from mlflow_caliber._validation import check_at_least, check_choice, check_count, check_unit_interval
from mlflow_caliber.drift._columns import Kind, Levels, Rows, UnreadableColumnError, named_columns, read_column
from mlflow_caliber.drift._finding import Finding, find
from mlflow_caliber.drift._methods import METHODS
from mlflow_caliber.drift._nulls import Draws, benjamini_hochberg_level
from mlflow_caliber.drift._profile import ColumnSums, Known, known_from_frame, known_from_profile, read_profile
from mlflow_caliber.drift._report import ColumnDrift, DriftReport
from mlflow_caliber.exceptions import InvalidInputError


def drift_report(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    columns: Iterable[str] | None = None,
    method: str | Iterable[str] = "psi",
    alpha: float = 0.05,
    min_effect: float = 0.02,
    min_rows: int = 50,
    random_state: int = 0,
) -> DriftReport:
    """Measure how far current data are from reference data, column by column.

    A column has drifted when its deciding statistic is larger than sampling noise explains *and* larger than
    ``min_effect``. Every other statistic of the column is in the report too.

    Parameters
    ----------
    reference, current : DataFrame of shapes (n, k) and (m, k')
        The two samples, rows independent of each other.
    columns : iterable of str, optional
        The columns to compare; default all of either frame.
    method : str or iterable of str, default "psi"
        What decides: ``psi`` or ``jensen_shannon`` (any column), ``ks`` or ``wasserstein`` (numbers and times),
        ``chi_square`` or ``cramers_v`` (booleans and categories). Of several, each column takes the first that it has;
        a column that has none takes PSI.
    alpha : float in (0, 1), default 0.05
        Level of the Benjamini-Hochberg procedure over the tested columns: without any drift, the share of reports that
        name even one column is about ``alpha`` or less.
    min_effect : float >= 0, default 0.02
        The smallest PSI that counts. In large samples differences too small to matter are certain, and only this stops
        them; PSI 0.02 is a shift of a normal distribution by about 0.14 standard deviations. Another method has the
        value that this same shift gives it: KS 0.056, Wasserstein 0.14, Jensen-Shannon 0.060, and with equally many
        rows on both sides Cramer's V 0.071.
    min_rows : int >= 1, default 50
        With fewer rows on either side nothing is tested.
    random_state : int, default 0
        Seed of the simulated null distributions (``wasserstein``, and ``ks`` of few distinct values).

    Returns
    -------
    DriftReport
        Every column of either frame is in ``columns`` or in ``skipped``, once.

    Raises
    ------
    InvalidInputError
        If an argument is not a DataFrame, has a column name twice, or is out of range, if ``columns`` names a column
        that neither frame has, or ``method`` a statistic that is not known.

    Notes
    -----
    PSI = sum over cells of (a - e) ln(a / e), with e and a the reference and current shares [1]_. Without drift it is
    about (1/n + 1/m) times a chi-square variable with one degree of freedom less than there are cells [2]_, so that the
    threshold depends on the sample sizes, and not on the customary 0.1 and 0.25. To second order in a - e, chi-square
    and the squared Jensen-Shannon distance are multiples of PSI, and have the same distribution up to that factor.

    KS = max |F - G| and Wasserstein = (integral of |F - G|) / (reference standard deviation), with F and G the two
    distribution functions of the values that are not missing; both are exact here. The null of KS is Kolmogorov's [3]_.
    That of Wasserstein, and of KS for at most 64 distinct values, is simulated: given the pooled rows, F - G without
    drift is a Brownian bridge over them, of which 2000 are drawn on some 80 cells, rows in the tails one by one. Beyond
    their 98th percentile the tail of a Gaussian norm is fitted.

    References
    ----------
    .. [1] N. Siddiqi, "Credit Risk Scorecards", Wiley, 2006.
    .. [2] B. Yurdakul and J. Naranjo, "Statistical properties of the population stability index",
       Journal of Risk Model Validation 14(4), 2020.
    .. [3] N. Smirnov, "Table for estimating the goodness of fit of empirical distributions",
       Annals of Mathematical Statistics 19(2), 1948.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> reference = pd.DataFrame({"age": rng.normal(40, 10, 1000), "region": rng.choice(["n", "s"], 1000)})
    >>> current = pd.DataFrame({"age": rng.normal(45, 10, 1000), "region": rng.choice(["n", "s"], 1000)})
    >>> report = drift_report(reference, current)
    >>> report.drifted, report.share
    (('age',), 0.5)
    >>> drift_report(reference, current, method=["wasserstein", "cramers_v"]).columns[0].method
    'wasserstein'
    """
    wanted = None if columns is None else list(columns)
    test = Test.checked(method, alpha, min_effect, min_rows, random_state)
    known = known_from_frame(reference, wanted)
    return report_of(len(reference), known, Current.of(current, wanted), wanted, test)


def drift_from_profile(
    profile: Mapping[str, Any],
    current: pd.DataFrame,
    *,
    columns: Iterable[str] | None = None,
    method: str | Iterable[str] = "psi",
    alpha: float = 0.05,
    min_effect: float = 0.02,
    min_rows: int = 50,
    random_state: int = 0,
) -> DriftReport:
    """Measure drift against a stored profile, without the reference data.

    Parameters
    ----------
    profile : mapping
        What :func:`feature_profile` gave, also after a round trip through JSON.
    current, columns, method, alpha, min_effect, min_rows, random_state
        As in :func:`drift_report`.

    Returns
    -------
    DriftReport
        As :func:`drift_report` gives on the data that were profiled: to the last digit, but for ``ks`` and
        ``wasserstein``. See Notes.

    Raises
    ------
    StateError
        If the profile cannot be read.
    InvalidInputError
        As in :func:`drift_report`.

    Notes
    -----
    Of numbers and times a profile keeps some sixty cells. KS is then the largest gap at their edges, and Wasserstein
    misses what cancels inside a cell: neither is more than the exact one, and KS less by at most the largest share of
    rows that either side has in a cell. Their null distributions are those of the cells. A profile of format version 1
    has PSI and Jensen-Shannon only.

    Examples
    --------
    >>> from mlflow_caliber.drift import feature_profile
    >>> profile = feature_profile(pd.DataFrame({"paid": [True] * 90 + [False] * 10}))
    >>> report = drift_from_profile(profile, pd.DataFrame({"paid": [True] * 60 + [False] * 40}))
    >>> report.columns[0].note
    "Largest change: level '0' went from 10.0 % to 40.0 % of rows."
    """
    wanted = None if columns is None else list(columns)
    test = Test.checked(method, alpha, min_effect, min_rows, random_state)
    stored = read_profile(profile)
    return report_of(stored.n, known_from_profile(stored, wanted), Current.of(current, wanted), wanted, test)


class Current(NamedTuple):
    """Today's data: how many rows, and what gives a column as its kind is compared."""

    n: int
    columns: Mapping[str, Callable[[Kind], Rows | Levels | ColumnSums]]

    @classmethod
    def of(cls, frame: pd.DataFrame, columns: Iterable[str] | None) -> Current:
        """The columns of a frame."""
        series = named_columns(frame, "current", columns)
        return cls(len(frame), {name: partial(read_column, column) for name, column in series.items()})


class Test(NamedTuple):
    """How to judge, checked."""

    methods: tuple[str, ...]
    alpha: float
    min_effect: float
    min_rows: int
    draws: Draws

    @classmethod
    def checked(cls, method: Any, alpha: Any, min_effect: Any, min_rows: Any, random_state: Any) -> Test:
        names = [method] if isinstance(method, str) or not isinstance(method, Iterable) else list(method)
        return cls(
            methods=tuple(check_choice(name, "method", METHODS) for name in names),
            alpha=check_unit_interval(alpha, "alpha", open_ends=True),
            min_effect=check_at_least(min_effect, "min_effect", 0),
            min_rows=check_count(min_rows, "min_rows"),
            draws=Draws(check_count(random_state, "random_state", minimum=0)),
        )


def report_of(
    n: int, reference: Iterable[Known], current: Current, columns: list[str] | None, test: Test
) -> DriftReport:
    """The report of current data against ``n`` rows of reference."""
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    tested: set[str] = set()
    for known in reference:
        try:
            findings.append(_find(known, current, (n, current.n), test))
            tested.add(known.name)
        except UnreadableColumnError as reason:
            skipped[known.name] = str(reason)
    skipped |= {name: "It is not in the reference." for name in current.columns if name not in tested | skipped.keys()}
    _check_found(columns, tested | skipped.keys())
    return DriftReport(
        columns=_judge(findings, test.alpha, test.min_effect),
        skipped=skipped,
        n_reference=n,
        n_current=current.n,
        alpha=test.alpha,
        min_effect=test.min_effect,
    )


def _find(known: Known, current: Current, rows: tuple[int, int], test: Test) -> Finding:
    if known.column is None:
        raise UnreadableColumnError(known.why)
    if known.name not in current.columns:
        raise UnreadableColumnError("It is not in the current data.")
    if min(rows) < test.min_rows:
        raise UnreadableColumnError(
            f"It takes at least {test.min_rows} rows on each side, got {rows[0]} in the reference and {rows[1]} now."
        )
    now = current.columns[known.name](known.column.kind)
    return find(known.column, known.rows, now, test.methods, test.min_rows, test.draws)


def _check_found(columns: list[str] | None, found: set[str]) -> None:
    for name in columns or ():
        if name not in found:
            raise InvalidInputError(f"columns must name columns of the data, got {name!r}, which neither frame has.")


def _judge(findings: list[Finding], alpha: float, min_effect: float) -> tuple[ColumnDrift, ...]:
    if not findings:
        return ()
    # Rejecting up to one p-value is the same as crossing one value, which is what a reader can compare and plot.
    level = benjamini_hochberg_level([one.p_value for one in findings], alpha)
    return tuple(one.judged(level, min_effect) for one in findings)
