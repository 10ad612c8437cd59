"""The result of one drift measurement, frozen; readers print it, draw it or store it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlflow_caliber.drift._columns import KINDS, Kind
from mlflow_caliber.drift._state import list_of, number, read_version, text, value_of
from mlflow_caliber.exceptions import StateError

#: Version 2 has every statistic of a column, and the direction of its change.
FORMAT_VERSION = 2


@dataclass(frozen=True)
class ColumnDrift:
    """How far one column of the current data is from the reference.

    Attributes
    ----------
    column : str
        The column's name.
    kind : str
        ``"numeric"``, ``"boolean"``, ``"datetime"`` or ``"categorical"``.
    method : str
        The statistic that decides: a key of ``statistics``.
    statistic : float
        Its value, >= 0; 0 when both frames are alike in what it looks at.
    threshold : float
        What the statistic has to reach to count as drift; in units of the statistic.
    drifted : bool
        ``statistic >= threshold``.
    p_value : float
        How often data without drift show a statistic this high, in [0, 1]; not corrected for the number of columns.
    statistics : dict of str to float
        Every statistic that the column has, all >= 0. ``psi`` and ``jensen_shannon`` (a distance in [0, 1], base 2)
        always; ``ks`` (in [0, 1]) and ``wasserstein`` (in reference standard deviations) for numbers and times, where
        they exist; ``chi_square`` and ``cramers_v`` (in [0, 1]) for booleans and categories.
    shift : float or None
        Current mean - reference mean in reference standard deviations, for numbers and times that have both.
    n_reference, n_current : int
        Rows with a value, in the reference and now. Missing values are not counted here, but are a cell of PSI,
        Jensen-Shannon, chi-square and Cramer's V.
    note : str
        For a drifted column the direction of the change and the cell that changed most; for any column a caveat: that
        the asked-for method could not decide, or that rare levels hold most of the rows. Otherwise empty.
    """

    column: str
    kind: Kind
    method: str
    statistic: float
    threshold: float
    drifted: bool
    p_value: float
    statistics: dict[str, float]
    shift: float | None
    n_reference: int
    n_current: int
    note: str

    @property
    def jensen_shannon(self) -> float:
        """Jensen-Shannon distance, base 2, in [0, 1], which every column has."""
        return self.statistics["jensen_shannon"]


@dataclass(frozen=True)
class DriftReport:
    """Drift of every column, and why a column was not tested.

    Attributes
    ----------
    columns : tuple of ColumnDrift
        The tested columns, in the order of the reference.
    skipped : dict of str to str
        Each column that was not tested, with the sentence that says why.
    n_reference, n_current : int
        Rows of the two frames.
    alpha : float
        Level of the Benjamini-Hochberg procedure over the columns, in (0, 1).
    min_effect : float
        The PSI below which a difference is never called drift, however certain; other statistics have the value that
        goes with it (:func:`drift_report`).
    """

    columns: tuple[ColumnDrift, ...]
    skipped: dict[str, str]
    n_reference: int
    n_current: int
    alpha: float
    min_effect: float

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the drifted columns, in the order of the reference."""
        return tuple(column.column for column in self.columns if column.drifted)

    @property
    def share(self) -> float | None:
        """Drifted columns / tested columns, in [0, 1]; None when no column was tested."""
        return len(self.drifted) / len(self.columns) if self.columns else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state, without NaN."""
        return {
            "format_version": FORMAT_VERSION,
            "n_reference": self.n_reference,
            "n_current": self.n_current,
            "alpha": self.alpha,
            "min_effect": self.min_effect,
            "share": self.share,
            "columns": [asdict(column) for column in self.columns],
            "skipped": dict(self.skipped),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> DriftReport:
        """The report from its JSON, also of an older format version.

        Raises
        ------
        StateError
            If a field is missing, of another type or not finite, or the format version is newer.
        """
        where = "The drift report"
        read = _read_column_of_1 if read_version(state, FORMAT_VERSION, where) == 1 else _read_column
        return cls(
            columns=tuple(read(entry) for entry in list_of(state, "columns", dict, where)),
            skipped={str(name): str(why) for name, why in value_of(state, "skipped", dict, where).items()},
            n_reference=int(number(state, "n_reference", where, whole=True)),
            n_current=int(number(state, "n_current", where, whole=True)),
            alpha=number(state, "alpha", where),
            min_effect=number(state, "min_effect", where),
        )


def _read_column(state: dict[str, Any]) -> ColumnDrift:
    name = text(state, "column", "A column of the drift report")
    where = f"Column {name!r} of the drift report"
    kind = text(state, "kind", where)
    if kind not in KINDS:
        raise StateError(f"{where} must have a kind of {', '.join(KINDS)}, got {kind!r}.")
    found = value_of(state, "statistics", dict, where)
    shift = value_of(state, "shift", (int, float, type(None)), where)
    return ColumnDrift(
        column=name,
        kind=kind,
        method=text(state, "method", where),
        statistic=number(state, "statistic", where),
        threshold=number(state, "threshold", where),
        drifted=value_of(state, "drifted", bool, where),
        p_value=number(state, "p_value", where),
        statistics={str(key): number(found, key, f"The statistics of c{where[1:]}") for key in found},
        shift=None if shift is None else number(state, "shift", where, signed=True),
        n_reference=int(number(state, "n_reference", where, whole=True)),
        n_current=int(number(state, "n_current", where, whole=True)),
        note=text(state, "note", where),
    )


def _read_column_of_1(state: dict[str, Any]) -> ColumnDrift:
    """Version 1 knew PSI, which decided, and the Jensen-Shannon distance."""
    found = {new: state[old] for new, old in (("psi", "statistic"), ("jensen_shannon",) * 2) if old in state}
    return _read_column({**state, "statistics": found, "shift": None})
