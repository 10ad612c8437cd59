"""A stream's log as a file, Parquet or JSON lines, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow_caliber.exceptions import InvalidInputError, OptionalDependencyError
from mlflow_caliber.store._checks import shown
from mlflow_caliber.store._import import Importer, json_lines, read_object
from mlflow_caliber.store._rows import OUTCOME_FIELDS, PREDICTION_FIELDS
from mlflow_caliber.store._store import Store
from mlflow_caliber.store._stream import Stream
from mlflow_caliber.store._values import ImportReport, LogEntry, Outcome, Prediction

__all__ = ["check_events_file", "export_events", "import_events"]

FORMAT = "caliber-events"
FORMAT_VERSION = 1
_CHUNK = 10_000


def export_events(stream: Stream, path: str | Path) -> int:
    """Write a stream's log to ``path``: Parquet if it ends in ``.parquet``, JSON lines if in ``.jsonl``.

    Returns
    -------
    int
        How many entries were written.

    Examples
    --------
    >>> import tempfile
    >>> from mlflow_caliber.store import Outcome, open_store
    >>> stream = open_store("sqlite://").stream("churn", "1")
    >>> _ = stream.record_outcomes([Outcome(prediction_id="a", outcome=1, observed_at=60.0)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = f"{folder}/churn.jsonl"
    ...     written = export_events(stream, file)
    ...     report = import_events(open_store("sqlite://"), file)
    >>> written, report.receipt.recorded
    (1, 1)
    """
    file = Path(path)
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": stream.model,
        "version": stream.version,
        "classes": stream.classes,
        "positive": stream.positive,
    }
    rows = (_as_row(entry) for entry in _entries(stream))
    write = _write_parquet if _is_parquet(file) else _write_lines
    try:
        return write(file, header, rows)
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be written: {error.strerror or error}.") from error


def import_events(store: Store, path: str | Path, model: str | None = None, version: str | None = None) -> ImportReport:
    """Record what :func:`export_events` wrote, in its order; what is known already stays as it is.

    Parameters
    ----------
    store : Store
        Where to.
    path : str or Path
        The file, ``.parquet`` or ``.jsonl``.
    model, version : str, optional
        The stream to record it in; by default the one that it came from.

    Returns
    -------
    ImportReport
        What was recorded, and which lines could not be read. ``recorded_at`` is the time of the import.
    """
    header, rows = _read(Path(path))
    names = (model or header.get("model"), version or header.get("version"))
    stream = store.stream(*names, header.get("classes"), header.get("positive"))  # type: ignore[arg-type]
    importer = Importer(stream)
    for number, row in rows:
        importer.take(number, row, _event)
    return importer.report()


def check_events_file(path: str | Path) -> None:
    """Refuse a file that :func:`export_events` did not write, before a store is opened for it."""
    _read(Path(path))


def _read(file: Path) -> tuple[Mapping[str, Any], Iterator[tuple[int, Any]]]:
    """The header, and the numbered rows."""
    header, rows = _read_parquet(file) if _is_parquet(file) else _read_lines(file)
    if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
        came = shown((header.get("format"), header.get("format_version")))
        raise InvalidInputError(f"{file} must be {FORMAT} of version {FORMAT_VERSION}, got {came}.")
    return header, rows


def _entries(stream: Stream) -> Iterator[LogEntry]:
    after = 0
    while entries := stream.log(after, _CHUNK):
        yield from entries
        after = entries[-1].seq


def _as_row(entry: LogEntry) -> dict[str, Any]:
    kind = "prediction" if isinstance(entry.event, Prediction) else "outcome"
    return {"seq": entry.seq, "recorded_at": entry.recorded_at, "kind": kind, **vars(entry.event)}


def _event(row: Mapping[str, Any]) -> list[Prediction | Outcome]:
    kind = row.get("kind")
    if kind not in {"prediction", "outcome"}:
        raise InvalidInputError(f"kind must be one of prediction, outcome, got {shown(kind)}.")
    names = PREDICTION_FIELDS if kind == "prediction" else OUTCOME_FIELDS
    missing = [name for name in names if name not in row]
    if missing:
        raise InvalidInputError(f"The {kind} must have {', '.join(names)}, and lacks {', '.join(missing)}.")
    values = {name: row[name] for name in names}
    return [Prediction(**values) if kind == "prediction" else Outcome(**values)]


def _is_parquet(file: Path) -> bool:
    if file.suffix not in {".parquet", ".jsonl"}:
        raise InvalidInputError(f"The file must end in .parquet or .jsonl, got {file.name!r}.")
    return file.suffix == ".parquet"


def _write_lines(file: Path, header: Mapping[str, Any], rows: Iterator[dict[str, Any]]) -> int:
    n = 0
    with file.open("w", encoding="utf-8") as lines:
        lines.write(json.dumps(header) + "\n")
        for row in rows:
            lines.write(json.dumps(row) + "\n")
            n += 1
    return n


def _read_lines(file: Path) -> tuple[Mapping[str, Any], Iterator[tuple[int, Any]]]:
    lines = json_lines(file)
    _, first = next(lines, (0, b""))
    return read_object(first), lines


def _write_parquet(file: Path, header: Mapping[str, Any], rows: Iterator[dict[str, Any]]) -> int:
    pa, pq = _arrow()
    schema = _parquet_schema(pa).with_metadata({FORMAT: json.dumps(header)})
    n = 0
    with pq.ParquetWriter(file, schema) as writer:
        while chunk := [_flat(row) for _, row in zip(range(_CHUNK), rows, strict=False)]:
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
            n += len(chunk)
    return n


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    features = row.get("features")
    return {**row, "features": None if features is None else json.dumps(features)}


def _read_parquet(file: Path) -> tuple[Mapping[str, Any], Iterator[tuple[int, Any]]]:
    pa, pq = _arrow()
    try:
        parquet = pq.ParquetFile(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise InvalidInputError(f"{file} cannot be read as Parquet: {error}.") from error
    header = read_object((parquet.schema_arrow.metadata or {}).get(FORMAT.encode(), b"{}"))

    def rows() -> Iterator[tuple[int, Any]]:
        number = 0
        with parquet:
            for batch in parquet.iter_batches(_CHUNK):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {**row, "features": _read_features(row.get("features"))}

    return header, rows()


def _read_features(text: Any) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text  # the store will say that this is none


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise OptionalDependencyError("Parquet needs pyarrow: pip install 'mlflow-caliber[live]'.") from error
    return pa, pq


def _parquet_schema(pa: Any) -> Any:
    text = ("kind", "prediction_id", "prediction", "reason", "segment", "calibrator_revision", "features")
    real = ("recorded_at", "predicted_at", "raw_probability", "base_probability", "probability", "confidence")
    columns = {"seq": pa.int64(), "abstained": pa.bool_(), "probabilities": pa.list_(pa.float64())}
    columns |= dict.fromkeys((*text, "outcome", "source"), pa.string())
    columns |= dict.fromkeys((*real, "observed_at"), pa.float64())
    order = ("seq", "recorded_at", "kind", *PREDICTION_FIELDS, *OUTCOME_FIELDS[1:])
    return pa.schema([(name, columns[name]) for name in order])
