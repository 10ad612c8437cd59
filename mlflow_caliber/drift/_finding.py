"""One column of both samples: its statistics, the one that decides, and what a reader is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mlflow_caliber.drift import _counts
from mlflow_caliber.drift._columns import ORDERED, Levels, Rows, UnreadableColumnError
from mlflow_caliber.drift._gap import Gap, RowGap
from mlflow_caliber.drift._ladder import SumsGap, ValuesGap
from mlflow_caliber.drift._methods import METHODS, Sides, deciding, shift_of, statistics_of
from mlflow_caliber.drift._nulls import Draws, Null
from mlflow_caliber.drift._profile import ColumnProfile, ColumnSums
from mlflow_caliber.drift._report import ColumnDrift


@dataclass(frozen=True)
class Finding:
    """A column before the verdict, which needs the p-values of all columns; it keeps none of the values.

    ``drift`` is the result that lacks threshold, verdict and note; ``effect`` translates a minimum PSI; ``change`` is
    what is said of a drifted column, ``caveat`` what is said in any case.
    """

    drift: Callable[..., ColumnDrift]
    statistic: float
    null: Null
    effect: Callable[[float], float]
    change: str
    caveat: str

    @property
    def p_value(self) -> float:
        """How often there is such a statistic without drift."""
        return self.null.p_value(self.statistic)

    def judged(self, level: float, min_effect: float) -> ColumnDrift:
        """The verdict, for the p-value up to which columns have drifted and the least PSI."""
        threshold = max(self.effect(min_effect), self.null.critical(level))
        drifted = self.statistic >= threshold
        note = " ".join(part for part in (self.change if drifted else "", self.caveat) if part)
        return self.drift(threshold=threshold, drifted=drifted, p_value=self.p_value, note=note)


def find(
    column: ColumnProfile,
    before: Rows | None,
    now: Rows | Levels | ColumnSums,
    methods: tuple[str, ...],
    min_rows: int,
    draws: Draws,
) -> Finding:
    """Compare a column's current data with its profile, and with the reference rows where these are at hand."""
    names, sides = _sides(column, before, now)
    method, objection = deciding(sides, methods, min_rows)
    statistics, shift = statistics_of(sides), shift_of(sides)
    return Finding(
        drift=partial(
            ColumnDrift,
            column=column.column,
            kind=column.kind,
            method=method,
            statistic=statistics[method],
            statistics=statistics,
            shift=shift,
            n_reference=sides.present[0],
            n_current=sides.present[1],
        ),
        statistic=statistics[method],
        null=METHODS[method].null(sides, draws),
        effect=METHODS[method].effect(sides),
        change=_direction(shift, sides) + _largest_change(names, sides),
        caveat=_caveat(column, method, objection),
    )


def _sides(column: ColumnProfile, before: Rows | None, now: Rows | Levels | ColumnSums) -> tuple[list[str], Sides]:
    """The cells that hold any row, by name, and the column on both sides."""
    reference = column.cell_counts
    current = now.cells if isinstance(now, ColumnSums) else column.count(now)
    keep = _counts.filled(reference, current)
    if keep.sum() < 2:
        constant = "Both sides hold one and the same value throughout."
        uncut = "It has too few different rows in the reference to be cut into cells."
        raise UnreadableColumnError(constant if column.edges is None else uncut)
    names = [name for name, kept in zip(column.cell_names, keep, strict=True) if kept]
    present = (int(reference[:-1].sum()), int(current[:-1].sum()))
    missing = (int(reference[-1]), int(current[-1]))
    gap = _gap(column, before, now) if column.kind in ORDERED and min(present) else None
    return names, Sides(column.kind, reference[keep], current[keep], gap, present, missing)


def _gap(column: ColumnProfile, before: Rows | None, now: Rows | Levels | ColumnSums) -> Gap | None:
    if isinstance(now, ColumnSums):
        return None if column.ladder is None or now.ladder is None else SumsGap(column.ladder, now.ladder)
    assert isinstance(now, Rows)
    if before is None:
        return None if column.ladder is None else ValuesGap(column.ladder, now.values)
    if before.narrow or now.narrow:
        return RowGap(*(rows.values.astype(np.float32).astype(np.float64) for rows in (before, now)))
    return RowGap(before.values, now.values)


def _direction(shift: float | None, sides: Sides) -> str:
    """Where the mean went, if by more than chance."""
    if shift is None or abs(shift) < 2.0 * sides.scale**0.5:
        return ""
    return f"{'Up' if shift > 0 else 'Down'} by {abs(shift):.2f} reference standard deviations on average. "


def _largest_change(names: list[str], sides: Sides) -> str:
    i = int(np.argmax(_counts.psi_terms(sides.reference, sides.current)))
    before, now = (100 * counts[i] / counts.sum() for counts in (sides.reference, sides.current))
    return f"Largest change: {names[i]} went from {before:.1f} % to {now:.1f} % of rows."


def _caveat(column: ColumnProfile, method: str, objection: str) -> str:
    parts = [f"{method} decides: {objection}."] if objection else []
    named, total = sum(column.counts[:-1]), sum(column.counts)
    if column.kind == "categorical" and 2 * named < total:
        share = f"{100 * named / total:.0f} % of the reference rows"
        parts.append(f"Compared by its {len(column.counts) - 1} most frequent levels, {share}, and the rest as one.")
    return " ".join(parts)
