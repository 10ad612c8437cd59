"""Labelled rows of some time over the whole grid, and the sample that a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.live._measured import Grouped, Sample
from mlflow_caliber.live._summary import DAYS, OLDER, StreamSummary
from mlflow_caliber.live._tallies import KINDS, N_CELLS, SOURCES, STRATA, Changes, Ints, Journal, Tally
from mlflow_caliber.metrics import ScoreStatistics

__all__ = ["LabelledSums", "WindowSums", "check_labels"]

_HALF = int(ScoreStatistics.cell_of([0.5])[0])
_SAME = 1e-12
# Cells are put together to about so many groups of equal mass: the numbers then differ by far less than sampling makes
# them differ, and take a fraction of the time. Scores with three decimals stay as they are.
_MOST_GROUPS = 2_000


class LabelledSums:
    """Rows, positives and probabilities by kind, stratum and cell, of the rows whose labels came from there.

    Parameters
    ----------
    labels : {"all", "observed", "review", "audit"}
        From where.
    """

    def __init__(self, labels: str) -> None:
        self._labels = labels
        self._sources = range(len(SOURCES)) if labels == "all" else (SOURCES.index(labels),)
        self._sums = np.zeros((len(KINDS), len(STRATA), 3, N_CELLS))
        self._losses = np.zeros((len(KINDS), len(STRATA), 2))

    def clear(self) -> None:
        """Forget all rows."""
        self._sums[:], self._losses[:] = 0.0, 0.0

    def add(self, tally: Tally) -> None:
        """Add the labelled rows of a tally."""
        for (stratum, source, kind), cells, sums in tally.cells.blocks():
            if source in self._sources:
                self._sums[kind, stratum][:, cells] += sums  # a block names a cell once
        losses = tally.cells.losses[:, list(self._sources)].sum(axis=1)
        self._losses += np.moveaxis(losses, 1, 0)

    def take(self, rows: Changes) -> None:
        """Add labelled rows, or take them back."""
        rows = rows.take(np.isin(rows.source, self._sources))
        for k, cell in enumerate(rows.cell):
            for column, values in enumerate(rows.weights(k)):
                np.add.at(self._sums[k, :, column], (rows.stratum, cell), values)
            np.add.at(self._losses[k], rows.stratum, (rows.loss[k] * rows.sign).T)
            # What is left of a sum of probabilities when all rows were taken back is rounding.
            self._sums[k, rows.stratum, 2, cell] *= self._sums[k, rows.stratum, 0, cell] > 0.0

    def sample(
        self,
        said: Ints,
        scorable: Ints,
        thresholds: Sequence[float] = (),
        *,
        top_label: bool,
        most_groups: int | None = _MOST_GROUPS,
    ) -> Sample:
        """The rows as they are now, next to all predictions, and those that are scorable, by stratum.

        With all labels, a row weighs so that answered and withheld rows count by their shares of the predictions,
        however many of each are labelled. No group of cells lies on both sides of one of the thresholds.
        """
        n = self._sums[0, :, 0].sum(axis=1).round().astype(int).tolist()
        weights, notes = _stratified(scorable.tolist(), n) if self._labels == "all" else ((1.0, 1.0), ())
        cuts = _cuts(thresholds)
        return Sample(
            rows={kind: self._grouped(k, cuts, most_groups) for k, kind in enumerate(KINDS)},
            weights=weights,
            n=(n[0], n[1]),
            n_predictions=int(said.sum()),
            n_abstained=int(said[1]),
            top_label=top_label,
            notes=notes,
        )

    def _grouped(self, kind: int, cuts: Ints, most: int | None) -> Grouped:
        sums = self._sums[kind]
        rows = sums[:, 0].sum(axis=0)
        cell = np.flatnonzero(rows > 0.0)
        if most is None or cell.size <= most:
            return Grouped(cell, cell, sums[:, :, cell], self._losses[kind].copy())
        ends = np.cumsum(rows[cell])
        group = np.floor((ends - rows[cell] / 2.0) * (most / ends[-1]))
        group += np.searchsorted(cuts, cell, side="right") * (most + 1.0)
        starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
        first, last = cell[starts], cell[np.append(starts[1:], cell.size) - 1]
        return Grouped(first, last, np.add.reduceat(sums, first, axis=2), self._losses[kind].copy())


class WindowSums:
    """The sums of the days from ``first_day`` on (None: of all) whose labels came from there; kept from call to call.

    Only what has changed since the last call is added. Whoever calls holds the lock of the summary.
    """

    def __init__(self, first_day: int | None, labels: str) -> None:
        self._first_day = first_day
        self._sums = LabelledSums(labels)
        self._journal: Journal | None = None
        self._place = 0
        self._from: int | None = None

    def sample(
        self, summary: StreamSummary, thresholds: Sequence[float] = (), *, most_groups: int | None = _MOST_GROUPS
    ) -> Sample:
        """The labelled rows as the summary has them now."""
        days = {day: tally for day, tally in summary.days.items() if self._first_day is None or day >= self._first_day}
        if self._first_day is None:
            days[OLDER] = summary.older
        self._update(summary, days)
        said = sum((day.n for day in days.values()), start=np.zeros(2, dtype=np.int64))
        scorable = sum((day.scorable for day in days.values()), start=np.zeros(2, dtype=np.int64))
        how = {"most_groups": most_groups}
        return self._sums.sample(said, scorable, thresholds, top_label=summary.top_label, **how)

    def _update(self, summary: StreamSummary, days: Mapping[int, Tally]) -> None:
        """Take what is new, or add everything up again when that is not known."""
        journal = summary.journal
        first = None if self._first_day is None else max(self._first_day, summary.newest_day - DAYS + 1)
        known = journal.since(self._place) if self._journal is journal and self._from == first else None
        self._journal, self._place, self._from = journal, journal.end, first
        if known is None:
            self._sums.clear()
            for day in days.values():
                self._sums.add(day)
            return
        for rows in known:
            self._sums.take(rows if first is None else rows.take(rows.day >= first))


def check_labels(labels: str) -> str:
    """One of the sources, or all."""
    if labels not in ("all", *SOURCES):
        raise InvalidInputError(f"labels must be one of all, {', '.join(SOURCES)}, got {labels!r:.40}.")
    return labels


def _stratified(scorable: Sequence[int], n: Sequence[int]) -> tuple[tuple[float, float], tuple[str, ...]]:
    """What a labelled row of each stratum weighs, so that their mean is one, and what cannot be weighed."""
    notes = tuple(
        f"None of the {scorable[k]} {name} predictions has an outcome: the numbers speak for the others alone."
        for k, name in enumerate(STRATA)
        if scorable[k] and not n[k]
    )
    there = [k for k in range(len(STRATA)) if n[k]]
    total, labelled = sum(scorable[k] for k in there), sum(n)
    weights = [scorable[k] / total * labelled / n[k] if k in there else 1.0 for k in range(len(STRATA))]
    if all(abs(weight - 1.0) < _SAME for weight in weights):
        weights = [1.0, 1.0]
    return (weights[0], weights[1]), notes


def _cuts(thresholds: Sequence[float]) -> Ints:
    """The cells at which the answer, or whether it is given, changes."""
    confidence = ScoreStatistics.cell_of(list(thresholds)) if thresholds else np.empty(0, dtype=np.int64)
    doubt = ScoreStatistics.cell_of([1.0 - each for each in thresholds]) if thresholds else confidence
    return np.sort(np.concatenate([[_HALF + 1], confidence, doubt + 1]))
