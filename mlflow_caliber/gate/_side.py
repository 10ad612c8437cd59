"""One of the two versions that a gate looks at: its evidence, and the report made again from its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mlflow_caliber._validation import segment_names
from mlflow_caliber.drift import DriftReport
from mlflow_caliber.evidence import Evidence, Rows, recompute
from mlflow_caliber.exceptions import CaliberError, EvidenceError
from mlflow_caliber.gate.policy import Bound, Comparison
from mlflow_caliber.report import ReliabilityReport, SegmentReport

RowsLoader = Callable[[], Rows]


@dataclass(frozen=True)
class Side:
    """A version's evidence; nothing is loaded or computed before a rule asks for it."""

    evidence: Evidence
    loader: RowsLoader | None

    @cached_property
    def rows(self) -> Rows | None:
        """The rows behind the evidence; None when they cannot be had."""
        return None if self.loader is None else self.loader()

    @cached_property
    def report(self) -> ReliabilityReport:
        """Made again from the rows; as it was written where there are none."""
        return self.evidence.reliability if self.rows is None else recompute(self.evidence, self.rows)

    @cached_property
    def drift_share(self) -> float | None:
        """Counted again from what was found of each column."""
        if self.evidence.drift is None:
            return None
        try:
            return DriftReport.from_dict(self.evidence.drift).share
        except CaliberError as error:
            raise EvidenceError(f"evidence.drift must be a drift report: {error}") from error

    def metric(self, key: str) -> tuple[float | None, str]:
        """A metric's value, or None and why there is none."""
        if key == "drift_share":
            return self.drift_share, "the evaluation compared no column with a reference"
        return self.report.metrics.get(key), self.report.not_computed.get(key, "the evaluation does not hold it")

    def segments(self, rule: Bound | Comparison) -> tuple[tuple[SegmentReport, ...], str]:
        """The segments that a rule is about, or none and why."""
        found = self.report.segments
        if rule.segment != "worst":
            column, _, value = (rule.segment or "").partition("=")
            found = tuple(one for one in found if (one.column, one.value) == (column, value))
            if not found:
                return (), f"the evaluation has no segment {column} = {value}"
        large = tuple(one for one in found if one.n >= rule.smallest_segment)
        if large:
            return large, ""
        if rule.segment != "worst":
            return (), f"the segment must have at least {rule.smallest_segment} rows, got {found[0].n}"
        return (), f"the evaluation has no segment of at least {rule.smallest_segment} rows"


def rows_of(rows: Rows, segments: tuple[SegmentReport, ...]) -> Iterator[Rows]:
    """The rows of each segment."""
    names = {column: segment_names(np.asarray(values, dtype=object)) for column, values in rows.segments.items()}
    for one in segments:
        # (A missing value is a segment of its own, by the name that the report gives it.)
        there = np.array(["(missing)" if name is None else name for name in names[one.column]], dtype=object)
        yield rows.take(there == one.value)
