"""Adds up the rows of files, however many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlflow_caliber._ahead import ahead
from mlflow_caliber._validation import check_addable_weights, check_class_names, check_probabilities
from mlflow_caliber.batches._columns import INDICES, labels, numbers, probabilities, segment_values
from mlflow_caliber.batches._files import DataFiles, FileBatch
from mlflow_caliber.batches._statistics import ReportStatistics
from mlflow_caliber.exceptions import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

Arguments = Callable[["pa.RecordBatch"], dict[str, Any]]


class ReportColumns(NamedTuple):
    """The columns that a report is made of."""

    target: str
    proba: tuple[str, ...]
    raw: tuple[str, ...]
    segments: tuple[str, ...]
    weight: str | None

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        weight = () if self.weight is None else (self.weight,)
        return list(dict.fromkeys([self.target, *self.proba, *self.raw, *self.segments, *weight]))

    @property
    def text(self) -> set[str]:
        """Those that are taken as they are written."""
        return {self.target, *self.segments}

    def arguments(self, rows: pa.RecordBatch, classes: Sequence[str]) -> dict[str, Any]:
        """What a report takes, of some rows."""
        return {
            "y_true": labels(rows.column(self.target), classes, self.target),
            "y_proba": probabilities(rows, self.proba, "y_proba"),
            "raw": probabilities(rows, self.raw, "raw") if self.raw else None,
            "segments": {name: segment_values(rows.column(name), name) for name in self.segments},
            "sample_weight": None if self.weight is None else numbers(rows.column(self.weight), "sample_weight"),
        }


def load_columns(files: DataFiles, columns: ReportColumns, classes: Sequence[str]) -> dict[str, Any]:
    """All rows at once, of any number of classes, read as :func:`scan_statistics` reads them.

    Returns
    -------
    dict
        Arguments of ``reliability_report``.

    Raises
    ------
    InvalidInputError
        For a row that cannot be used, with its file and number.
    """
    parts = []
    for batch in files.batches(columns.names, text=columns.text):
        try:
            parts.append(_checked(columns.arguments(batch.rows, classes)))
        except InvalidInputError as error:
            raise _located(error, batch, lambda rows: _checked(columns.arguments(rows, classes))) from error
    parts = [part for part in parts if len(part["y_true"])] or parts[:1]
    together = {name: _joined([part[name] for part in parts]) for name in ("y_true", "y_proba", "raw", "sample_weight")}
    segments = {name: _joined([part["segments"][name] for part in parts]) for name in columns.segments}
    return {**together, "segments": segments or None}


def _checked(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same; what a report would refuse is refused here, where the rows are known."""
    n = len(arguments["y_true"])
    if n:
        for name in ("y_proba", "raw"):
            if arguments[name] is not None:
                check_probabilities(arguments[name], name)
        check_addable_weights(arguments["sample_weight"], n)
    return arguments


def _joined(parts: list[Any]) -> Any:
    return None if parts[0] is None else np.concatenate([np.asarray(part) for part in parts])


def scan_statistics(
    data: DataFiles | str | Path,
    *,
    target: str,
    proba: str | Sequence[str],
    raw: str | Sequence[str] | None = None,
    classes: Sequence[Any] | None = None,
    segments: Sequence[str] = (),
    weight: str | None = None,
    progress: Callable[[float], object] | None = None,
) -> ReportStatistics:
    """Add up the rows of files in bounded memory.

    Parameters
    ----------
    data : DataFiles, str or Path
        A file or a folder of files.
    target : str
        Column of the labels, of any type.
    proba : str or sequence of two str
        Column of the positive class's probability; or the columns of both classes, the positive one last.
    raw : str or sequence of two str, optional
        The same before calibration.
    classes : sequence of two, optional
        The labels, the positive one last; by default 0 and 1. They are compared as text; 1, 1.0 and True are "1".
    segments : sequence of str, optional
        Columns by whose values the rows are also counted.
    weight : str, optional
        Column of the weights.
    progress : callable, optional
        Is told, after each batch, what share of the files is behind it.

    Returns
    -------
    ReportStatistics
        Its :meth:`~ReportStatistics.report` is the report.

    Raises
    ------
    InvalidInputError
        If a file, a column or a row cannot be used, with the file and the number of the row.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from mlflow_caliber.batches import scan_statistics
    >>> file = f"{tempfile.mkdtemp()}/scored.parquet"
    >>> pd.DataFrame({"left": ["no", "no", "yes"], "p": [0.1, 0.4, 0.8]}).to_parquet(file)
    >>> scan_statistics(file, target="left", proba="p", classes=["no", "yes"]).report().metrics["accuracy"]
    1.0
    """
    files = data if isinstance(data, DataFiles) else DataFiles(data)
    names = INDICES if classes is None else check_class_names(classes, 2)
    columns = ReportColumns(target, _listed(proba), _listed(raw or ()), tuple(segments), weight)
    for name, given in (("proba", columns.proba), ("raw", columns.raw or columns.proba)):
        if len(given) not in (1, 2):
            raise InvalidInputError(f"{name} must name the column of one or of both of two classes, got {len(given)}.")
    statistics = ReportStatistics(raw=bool(columns.raw), segments=segments)
    batches = files.batches(columns.names, text=columns.text)
    return add_batches(statistics, batches, lambda rows: columns.arguments(rows, names), progress=progress)


def add_batches(
    statistics: ReportStatistics,
    batches: Iterable[FileBatch],
    arguments: Arguments,
    *,
    progress: Callable[[float], object] | None = None,
) -> ReportStatistics:
    """Update statistics with every batch, while the next one is read.

    Parameters
    ----------
    statistics : ReportStatistics
        To be updated.
    batches : iterable of FileBatch
        Of :meth:`DataFiles.batches`.
    arguments : callable
        What :meth:`ReportStatistics.update` takes, made of an Arrow record batch.
    progress : callable, optional
        Is told, after each batch, what share of the files is behind it.

    Returns
    -------
    ReportStatistics
        `statistics`.

    Raises
    ------
    InvalidInputError
        For a row that cannot be used, with its file and number.
    """
    for batch in ahead(batch for batch in batches if batch.rows.num_rows):
        try:
            statistics.update(**arguments(batch.rows))
        except InvalidInputError as error:
            raise _located(error, batch, lambda rows: _anew(statistics).update(**arguments(rows))) from error
        if progress is not None:
            progress(batch.progress)
    return statistics


def _listed(columns: str | Sequence[str]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)


def _anew(statistics: ReportStatistics) -> ReportStatistics:
    return ReportStatistics(raw=statistics.raw is not None, segments=list(statistics.segments))


def _located(error: InvalidInputError, batch: FileBatch, add: Callable[[pa.RecordBatch], object]) -> InvalidInputError:
    """The same about one row, by halving the batch; about the file where it takes more than one row to go wrong."""
    start, rows = 0, batch.rows
    while rows.num_rows > 1:
        half = rows.num_rows // 2
        for begin, part in ((start, rows.slice(0, half)), (start + half, rows.slice(half))):
            found = _error(add, part)
            if found is not None:
                start, rows, error = begin, part, found
                break
        else:
            return InvalidInputError(f"{batch.source}: {error}")
    return InvalidInputError(f"{batch.source}, row {batch.first_row + start}: {error}")


def _error(add: Callable[[pa.RecordBatch], object], rows: pa.RecordBatch) -> InvalidInputError | None:
    try:
        add(rows)
    except InvalidInputError as error:
        return error
    return None
