"""The frozen result of one evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mlflow_caliber._validation import check_choice
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import METRICS, CorpCurve, Interval, ReliabilityCurve, RiskCoverageCurve
from mlflow_caliber.report import _display, _state


@dataclass(frozen=True)
class SegmentReport:
    """The metrics of one slice of the rows: those where ``column`` has ``value``.

    Attributes
    ----------
    column, value : str
        Which slice. Values are compared as text; missing ones form the slice ``"(missing)"``.
    n : int
        Rows in the slice. Below about 30 the numbers are mostly noise.
    metrics : dict of str to float
        Finite values under the keys of :data:`mlflow_caliber.metrics.METRICS`.
    not_computed : dict of str to str
        For each metric that this slice does not allow, the reason as a sentence.
    curve : ReliabilityCurve or None
        Stated against observed frequency; None in reports of format version 1.

    Examples
    --------
    >>> SegmentReport("region", "north", 2, {"accuracy": 0.5}, {}).metrics["accuracy"]
    0.5
    """

    column: str
    value: str
    n: int
    metrics: dict[str, float]
    not_computed: dict[str, str]
    curve: ReliabilityCurve | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the slice as JSON-safe values."""
        return {
            "column": self.column,
            "value": self.value,
            "n": self.n,
            "metrics": dict(self.metrics),
            "not_computed": dict(self.not_computed),
            "curve": None if self.curve is None else self.curve.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote; raises StateError on anything else."""
        return cls(**_state.read_segment(state))


@dataclass(frozen=True, eq=False, repr=False)
class ReliabilityReport:
    """What one evaluation found; made by :func:`reliability_report` and only read after that.

    Attributes
    ----------
    kind : {"binary", "multiclass"}
        Binary reports are about the probability of the positive class. Multiclass ones are about the confidence
        in the predicted class (top-label) wherever one number per row is needed.
    n : int
        Rows that count: those with a positive weight.
    weighted : bool
        Whether the rows carried weights that differ.
    classes : tuple of str
        In the order of the probabilities; of two, the second is the positive one.
    n_bins, strategy
        How the calibration error and the curve are binned.
    metrics : dict of str to float
        Finite values under the keys of :data:`mlflow_caliber.metrics.METRICS`.
    not_computed : dict of str to str
        For each metric that these rows do not allow, the reason as a sentence.
    intervals : dict of str to Interval
        For the metrics that sampling makes uncertain, the two-sided confidence interval at level ``confidence``. Each
        contains its metric; ``docs/reference/metrics.md`` says how each is made.
    confidence : float
        Level of the intervals, of those of ``curve`` and of the band of ``corp``.
    change : dict of str to Interval
        With ``raw``: interval of metric after less metric before calibration, in pairs on the same rows. An interval
        that holds 0 is no clear change.
    curve : ReliabilityCurve
        Stated against observed frequency, a point per bin.
    corp : CorpCurve or None
        The same without bins, with the band in which a calibrated model's curve would lie; None in reports of format
        version 1.
    histogram : tuple of int
        Rows whose probability falls in each of :data:`HISTOGRAM_BINS` equal parts of [0, 1].
    risk_coverage : RiskCoverageCurve
        Error rate against the share of rows answered, at most 200 points; every row counts once.
    per_class : dict of str to dict
        Multiclass only: per class its one-versus-rest calibration error ``ece``, its ``prevalence`` and its rows ``n``.
    segments : tuple of SegmentReport
        In the order of the columns, then of the values.
    policy : dict or None
        The abstain policy, as its ``to_dict`` gives it; without one every row is answered.
    exact : bool
        False where the report was made from merged statistics, whose tolerances ``ScoreStatistics`` states.
    raw : ReliabilityReport or None
        The same rows with the probabilities before calibration.
    """

    kind: str
    n: int
    weighted: bool
    classes: tuple[str, ...]
    n_bins: int
    strategy: str
    metrics: dict[str, float]
    not_computed: dict[str, str]
    intervals: dict[str, Interval]
    confidence: float
    change: dict[str, Interval]
    curve: ReliabilityCurve
    corp: CorpCurve | None
    histogram: tuple[int, ...]
    risk_coverage: RiskCoverageCurve
    per_class: dict[str, dict[str, float]]
    segments: tuple[SegmentReport, ...]
    policy: dict[str, Any] | None
    exact: bool = True
    raw: ReliabilityReport | None = None

    def worst_segment(self, key: str = "ece", *, min_rows: int = 30) -> SegmentReport | None:
        """Return the segment in which a metric is worst.

        Parameters
        ----------
        key : str, default="ece"
            A metric with a direction (:data:`mlflow_caliber.metrics.METRICS` knows it).
        min_rows : int, default=30
            Smaller segments are passed over: of many small slices, one always looks terrible by chance.

        Returns
        -------
        SegmentReport or None
            None when no segment of that size has the metric; the first one of a tie.

        Raises
        ------
        InvalidInputError
            If the key is unknown or the metric has no better and worse.

        Examples
        --------
        >>> from mlflow_caliber.report import reliability_report
        >>> y, p = [0, 1, 1, 0], [0.1, 0.9, 0.2, 0.3]
        >>> report = reliability_report(y, p, segments={"region": ["north", "north", "south", "south"]})
        >>> report.worst_segment("brier", min_rows=1).value
        'south'
        """
        greater_is_better = METRICS[check_choice(key, "key", METRICS)].greater_is_better
        if greater_is_better is None:
            raise InvalidInputError(f"key must name a metric that can be better or worse, got {key!r}.")
        eligible = [segment for segment in self.segments if segment.n >= min_rows and key in segment.metrics]
        pick = min if greater_is_better else max
        return pick(eligible, key=lambda segment: segment.metrics[key], default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-safe values (no NaN); :meth:`from_dict` gives back every float exactly."""
        return {
            "format_version": _state.FORMAT_VERSION,
            "kind": self.kind,
            "n": self.n,
            "weighted": self.weighted,
            "classes": list(self.classes),
            "n_bins": self.n_bins,
            "strategy": self.strategy,
            "metrics": dict(self.metrics),
            "not_computed": dict(self.not_computed),
            "intervals": {key: list(interval) for key, interval in self.intervals.items()},
            "confidence": self.confidence,
            "change": {key: list(interval) for key, interval in self.change.items()},
            "curve": self.curve.to_dict(),
            "corp": None if self.corp is None else self.corp.to_dict(),
            "histogram": list(self.histogram),
            "risk_coverage": self.risk_coverage.to_dict(),
            "per_class": {label: dict(values) for label, values in self.per_class.items()},
            "segments": [segment.to_dict() for segment in self.segments],
            "policy": self.policy,
            "exact": self.exact,
            "raw": None if self.raw is None else self.raw.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        StateError
            If a key is missing or unknown, a value has the wrong type or range, or the format is another version.
        """
        fields = _state.read_report(state)
        raw, segments = fields.pop("raw"), fields.pop("segments")
        return cls(
            **fields,
            segments=tuple(SegmentReport.from_dict(segment) for segment in segments),
            raw=None if raw is None else cls.from_dict(raw),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReliabilityReport) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return _display.as_text(self)

    def __repr__(self) -> str:
        headline = ", ".join(f"{key}={value:.4g}" for key, value in _display.headline(self.metrics).items())
        return f"ReliabilityReport(kind={self.kind!r}, n={self.n}, {headline})"

    def _repr_html_(self) -> str:
        return _display.as_html(self)
