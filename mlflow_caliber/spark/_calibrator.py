"""A calibrator fitted to rows that no machine holds: from their merged statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlflow_caliber.batches import ReportStatistics
from mlflow_caliber.calibrators import Calibrator, make_calibrator
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.spark._report import EXACT_UP_TO, report_statistics

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["fit_calibrator"]


def fit_calibrator(
    source: DataFrame | ReportStatistics | ScoreStatistics,
    name: str = "auto",
    *,
    y_true: str = "label",
    scores: str = "raw_probability",
    sample_weight: str | None = None,
    classes: Sequence[Any] | None = None,
    exact_up_to: int = EXACT_UP_TO,
    **params: Any,
) -> Calibrator:
    """Fit a calibrator to all rows of a Spark frame, or to statistics of their raw scores.

    Parameters
    ----------
    source : pyspark.sql.DataFrame, ReportStatistics or ScoreStatistics
        The rows, or what they add up to. Of report statistics those of ``raw`` are taken, where there are any: whoever
        fits to calibrated probabilities compounds calibrators.
    name : str, default="auto"
        Which calibrator, as for :func:`~mlflow_caliber.calibrators.make_calibrator`.
    y_true, scores, sample_weight : str
        Columns of a frame: the label, the score before calibration, and the weight, if any.
    classes, exact_up_to
        As for :func:`reliability_report`, for a frame.
    **params
        The calibrator's own.

    Returns
    -------
    Calibrator
        Fitted. With at most `exact_up_to` distinct scores it is that of the rows; ``statistics-at-scale.md`` says by
        how much it may differ beyond that.

    Raises
    ------
    InvalidInputError
        If a row cannot be read.

    Examples
    --------
    >>> from mlflow_caliber.metrics import ScoreStatistics
    >>> statistics = ScoreStatistics.from_rows([0, 1, 0, 1, 1], [0.1, 0.3, 0.4, 0.6, 0.8])
    >>> fit_calibrator(statistics, "isotonic").predict([0.1, 0.35, 0.9])
    array([0. , 0.5, 1. ])
    """
    if not isinstance(source, ReportStatistics | ScoreStatistics):
        source = report_statistics(
            source, y_true, scores, sample_weight=sample_weight, classes=classes, exact_up_to=exact_up_to
        )
    if isinstance(source, ReportStatistics):
        source = source.statistics if source.raw is None else source.raw
    return make_calibrator(name, **params).fit(*source.weighted_rows())
