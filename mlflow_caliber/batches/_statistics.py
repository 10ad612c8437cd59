"""What a report of two classes is made from, as one value that can be added."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import check_flag, check_one_dimension, check_text
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.batches._values import coded
from mlflow_caliber.exceptions import CaliberError, InvalidInputError
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.report import ReliabilityReport, report_from_statistics

FORMAT_VERSION = 2
MOST_SEGMENTS = 1000
"""Distinct values of a segment column."""

Parts = dict[str, dict[str, ScoreStatistics]]
Groups = list[tuple[str, NDArray[Any] | slice]]


class ReportStatistics:
    """Mergeable sums from which the report of two classes is made.

    They are those of all rows and of each value of the segment columns, and the same with the raw scores, each a
    :class:`~mlflow_caliber.metrics.ScoreStatistics`. Chunks of rows are added with :meth:`update`, statistics of
    other rows with :meth:`merge` or ``+``: the sum depends on the rows and not on how they were cut or in which order
    they came.

    Parameters
    ----------
    raw : bool, default=False
        Whether every chunk comes with the probabilities before calibration.
    segments : sequence of str, default=()
        Names of the columns by whose values the rows are also counted. At most 1000 distinct values a column.
    exact_up_to : int, default=10000
        Distinct scores up to which each is kept, as for ``ScoreStatistics``.

    Attributes
    ----------
    exact_up_to : int
        As given; of merged statistics the least.
    statistics : ScoreStatistics
        Of all rows.
    raw : ScoreStatistics or None
        Of all rows, with the probabilities before calibration.
    segments : dict of str to dict of str to ScoreStatistics
        Column, value, statistics. A value that only rows of weight 0 have is left out.
    raw_segments : dict of str to dict of str to ScoreStatistics
        The same with the probabilities before calibration; empty without them.

    Examples
    --------
    >>> from mlflow_caliber.batches import ReportStatistics
    >>> monday = ReportStatistics(segments=["region"])
    >>> monday.update([0, 1, 1], [0.2, 0.7, 0.9], segments={"region": ["north", "north", "south"]})
    ReportStatistics(n=3, segments: region)
    >>> tuesday = ReportStatistics(segments=["region"])
    >>> tuesday.update([0, 1], [0.4, 0.6], segments={"region": ["south", "south"]})
    ReportStatistics(n=2, segments: region)
    >>> report = (monday + tuesday).report()
    >>> report.n, [(part.value, part.n) for part in report.segments]
    (5, [('north', 2), ('south', 3)])
    """

    def __init__(self, *, raw: bool = False, segments: Sequence[str] = (), exact_up_to: int = 10_000) -> None:
        self.statistics = ScoreStatistics(exact_up_to=exact_up_to)
        self.raw = copy.copy(self.statistics) if check_flag(raw, "raw") else None
        self.segments: Parts = {column: {} for column in _column_names(segments)}
        self.raw_segments: Parts = {} if self.raw is None else {column: {} for column in self.segments}
        self.exact_up_to = exact_up_to

    @property
    def n(self) -> int:
        """Rows of positive weight seen so far."""
        return self.statistics.n

    def update(
        self,
        y_true: ArrayLike,
        y_proba: ArrayLike,
        *,
        raw: ArrayLike | None = None,
        segments: Mapping[str, Any] | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Add a chunk of rows.

        Parameters
        ----------
        y_true, y_proba, sample_weight
            As for ``ScoreStatistics.update``.
        raw : array-like of shape (n,), optional
            Probabilities of class 1 before calibration; given if and only if the statistics were made with ``raw``.
        segments : mapping of str to array-like of shape (n,), optional
            The values of every segment column, and of no other. Values are compared as text. A pandas ``Categorical``
            is much the fastest, an array of numbers faster than one of objects.

        Returns
        -------
        ReportStatistics
            Itself.

        Raises
        ------
        InvalidInputError
            For what cannot be used; nothing of the chunk is then added.
        """
        self._check_given(raw, {} if segments is None else segments)
        weight = None if sample_weight is None else check_one_dimension(sample_weight, "sample_weight")
        y, p = check_one_dimension(y_true, "y_true"), check_one_dimension(y_proba, "y_proba")
        whole = copy.copy(self.statistics).update(y, p, sample_weight=weight)
        before = None if self.raw is None or raw is None else _with_raw(self.raw, y, raw, weight)
        names = {column: coded((segments or {})[column], f"segments[{column!r}]", y.size) for column in self.segments}
        groups = {column: list(each.groups()) for column, each in names.items()}
        parts = self._by_value(self.segments, groups, y, p, weight)
        raw_parts = {} if raw is None else self._by_value(self.raw_segments, groups, y, np.asarray(raw), weight)
        self.statistics, self.raw, self.segments, self.raw_segments = whole, before, parts, raw_parts
        return self

    def merge(self, other: ReportStatistics) -> Self:
        """The statistics of the rows of both; neither is changed.

        Raises
        ------
        InvalidInputError
            When `other` is something else, has other segment columns, or only one of the two has raw scores.
        """
        if not isinstance(other, ReportStatistics):
            raise InvalidInputError(f"other must be ReportStatistics, got a {type(other).__name__}.")
        if self.segments.keys() != other.segments.keys() or (self.raw is None) != (other.raw is None):
            raise InvalidInputError(f"other must hold what this holds, {self._holds()}; got {other._holds()}.")
        both = copy.copy(self)
        both.exact_up_to = min(self.exact_up_to, other.exact_up_to)
        both.statistics = self.statistics + other.statistics
        both.raw = None if self.raw is None or other.raw is None else self.raw + other.raw
        both.segments = both._merged(self.segments, other.segments)
        both.raw_segments = both._merged(self.raw_segments, other.raw_segments)
        return both

    def __add__(self, other: object) -> Self:
        return self.merge(other) if isinstance(other, ReportStatistics) else NotImplemented

    def __radd__(self, other: object) -> Self:
        # sum() begins with 0.
        # What is held is replaced and never changed, so that a copy may share it.
        return copy.copy(self) if isinstance(other, int) and other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReportStatistics) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ReportStatistics(n={self.n}{', raw' if self.raw is not None else ''}{self._columns(', segments: ')})"

    def to_dict(self) -> dict[str, Any]:
        """The statistics as plain JSON values; floats keep every bit.

        Examples
        --------
        >>> statistics = ReportStatistics(segments=["region"])
        >>> list(statistics.to_dict())
        ['format_version', 'statistics', 'raw', 'segments', 'raw_segments']
        """
        return {
            "format_version": FORMAT_VERSION,
            "statistics": self.statistics.to_dict(),
            "raw": None if self.raw is None else self.raw.to_dict(),
            "segments": _to_dict(self.segments),
            "raw_segments": _to_dict(self.raw_segments),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            If a key is missing or unknown, the format is another version, or the parts cannot be of the same rows.
        """
        reader = StateReader(state, "Report statistics:")
        if (version := reader.integer("format_version")) != FORMAT_VERSION:
            raise reader.fault(f"'format_version' must be {FORMAT_VERSION}, got {version}.")
        found = cls(exact_up_to=reader.nested("statistics").integer("exact_up_to"))
        found.statistics = ScoreStatistics.from_dict(reader.value("statistics"))
        raw = reader.value("raw")
        found.raw = None if raw is None else ScoreStatistics.from_dict(raw)
        found.segments = _from_reader(reader.nested("segments"))
        found.raw_segments = _from_reader(reader.nested("raw_segments"))
        reader.close()
        try:
            found._check_rows()
        except CaliberError as error:
            raise reader.fault(str(error)) from error
        return found

    def report(
        self,
        *,
        classes: Sequence[Any] | None = None,
        policy: AbstainPolicy | None = None,
        n_bins: int = 10,
        strategy: Literal["quantile", "uniform"] = "quantile",
        confidence: float = 0.95,
        random_state: int = 0,
    ) -> ReliabilityReport:
        """Make the report; see :func:`~mlflow_caliber.report.report_from_statistics` for its arguments and tolerances.

        Returns
        -------
        ReliabilityReport
            That of the rows, but for ``change``, which needs pairs; ``exact`` says whether every score was kept.

        Raises
        ------
        InvalidInputError
            If no row of positive weight has been seen, or for an option that cannot be used.

        Examples
        --------
        >>> ReportStatistics().update([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).report(n_bins=2).metrics["roc_auc"]
        0.75
        """
        return report_from_statistics(
            self.statistics,
            raw=self.raw,
            classes=classes,
            policy=policy,
            segments=self.segments,
            raw_segments=None if self.raw is None else self.raw_segments,
            n_bins=n_bins,
            strategy=strategy,
            confidence=confidence,
            random_state=random_state,
        )

    # --- how it is done -----------------------------------------------------------------------------------------------

    @property
    def _nothing(self) -> ScoreStatistics:
        return ScoreStatistics(exact_up_to=self.exact_up_to)

    def _check_given(self, raw: ArrayLike | None, segments: Mapping[str, Any]) -> None:
        if (raw is None) != (self.raw is None):
            wanted = "must be given" if raw is None else "must not be given"
            raise InvalidInputError(f"raw {wanted}: the statistics were made with raw={self.raw is not None}.")
        if segments.keys() != self.segments.keys():
            got = ", ".join(map(str, segments)) or "none"
            raise InvalidInputError(f"segments must be{self._columns(' ') or ' none'}, got {got}.")

    def _by_value(
        self, before: Parts, groups: Mapping[str, Groups], y: NDArray[Any], p: NDArray[Any], weight: NDArray[Any] | None
    ) -> Parts:
        found, nothing = {column: dict(parts) for column, parts in before.items()}, self._nothing
        for column, parts in found.items():
            for value, rows in groups[column]:
                known = copy.copy(parts.get(value, nothing))
                part = known.update(y[rows], p[rows], sample_weight=None if weight is None else weight[rows])
                if part.n:
                    parts[value] = part
            _check_few(column, parts)
        return found

    def _merged(self, these: Parts, others: Parts) -> Parts:
        nothing = self._nothing  # with the lesser limit of both
        merged: Parts = {}
        for column, parts in these.items():
            values = dict.fromkeys([*parts, *others[column]])
            merged[column] = {value: parts.get(value, nothing) + others[column].get(value, nothing) for value in values}
            _check_few(column, merged[column])
        return merged

    def _check_rows(self) -> None:
        if self.raw is not None and self.raw.n != self.n:
            raise InvalidInputError(f"raw must be of the same {self.n} rows, got {self.raw.n}.")
        for column, parts in self.segments.items():
            n = sum(part.n for part in parts.values())
            if n != self.n or not all(part.n for part in parts.values()):
                raise InvalidInputError(f"segments[{column!r}] must hold the same {self.n} rows, got {n}.")
            _check_few(column, parts)
        if _sizes(self.raw_segments) != ({} if self.raw is None else _sizes(self.segments)):
            raise InvalidInputError("raw_segments must be of the same rows as segments where there is raw, else empty.")

    def _columns(self, before: str) -> str:
        return before + ", ".join(self.segments) if self.segments else ""

    def _holds(self) -> str:
        raw = "raw scores" if self.raw is not None else "no raw scores"
        return f"{raw} and {self._columns('segments ') or 'no segments'}"


def _column_names(segments: Sequence[str]) -> list[str]:
    if isinstance(segments, str):
        raise InvalidInputError(f"segments must be a list of column names, got the text {segments!r}.")
    names = [check_text(name, "segments") for name in segments]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"segments must be distinct, got {', '.join(names)}.")
    return names


def _with_raw(
    statistics: ScoreStatistics, y: NDArray[Any], raw: ArrayLike, weight: NDArray[Any] | None
) -> ScoreStatistics:
    scores = check_one_dimension(raw, "raw")
    if scores.size != y.size:
        raise InvalidInputError(f"raw must have one value a row, got {scores.size} values for {y.size} rows.")
    try:
        return copy.copy(statistics).update(y, scores, sample_weight=weight)
    except InvalidInputError as error:
        # Labels and weights have been read before: it is about the scores.
        raise InvalidInputError(str(error).replace("y_proba", "raw")) from error


def _sizes(columns: Parts) -> dict[str, dict[str, int]]:
    return {column: {value: part.n for value, part in parts.items()} for column, parts in columns.items()}


def _to_dict(columns: Parts) -> dict[str, Any]:
    return {column: {value: parts[value].to_dict() for value in sorted(parts)} for column, parts in columns.items()}


def _from_reader(columns: StateReader) -> Parts:
    parts = {column: columns.nested(column) for column in columns.names()}
    return {
        column: {value: ScoreStatistics.from_dict(part.value(value)) for value in part.names()}
        for column, part in parts.items()
    }


def _check_few(column: str, parts: Mapping[str, ScoreStatistics]) -> None:
    if len(parts) > MOST_SEGMENTS:
        raise InvalidInputError(
            f"segments[{column!r}] must have at most {MOST_SEGMENTS} distinct values, got {len(parts)} so far: cut it "
            "into ranges or groups first."
        )
