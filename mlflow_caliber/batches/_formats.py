"""Formats of files: what columns a file has, how many rows, and its rows a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_caliber.exceptions import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

BUFFER = 1 << 20
CSV_BLOCK = 1 << 24
_TYPES_CHANGE = " (What a column of a .csv file holds is told from its beginning; a .parquet file says it itself.)"

Batches = Iterator[tuple["pa.RecordBatch", float]]


@dataclass(frozen=True)
class Format:
    """One kind of file.

    ``count`` may stop once it has found more than so many rows. ``batches`` gives rows with the share of the file that
    is behind them.
    """

    name: str
    columns: Callable[[Path], list[str]]
    count: Callable[[Path, int], int]
    batches: Callable[[Path, Sequence[str] | None, Collection[str], int], Batches]


@contextmanager
def unreadable(file: Path, kind: Format) -> Iterator[None]:
    """Say of a file that cannot be read which one it is."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = f"{error}{_TYPES_CHANGE if 'conversion error' in str(error) else ''}"
        raise InvalidInputError(f"DATA must be a readable {kind.name} file, got {file.name!r}: {why}") from error


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet(file: Path, **options: Any) -> Any:
    from pyarrow import parquet

    # With a buffer and without reading ahead, a row group of any size is read a page at a time.
    return parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER, **options)


def _parquet_columns(file: Path) -> list[str]:
    with _parquet(file) as parquet:
        return list(parquet.schema_arrow.names)


def _parquet_rows(file: Path, _: int) -> int:
    with _parquet(file) as parquet:
        return int(parquet.metadata.num_rows)


def _parquet_batches(file: Path, columns: Sequence[str] | None, _: Collection[str], rows: int) -> Batches:
    with _parquet(file) as parquet:
        schema, total, done = parquet.schema_arrow, max(parquet.metadata.num_rows, 1), 0
        _check_columns(file, columns, schema.names)
        if parquet.metadata.num_rows == 0:
            yield _no_rows(schema, columns), 1.0
        for part in parquet.iter_batches(rows, columns=columns):
            done += part.num_rows
            yield part, done / total


# --- Arrow's own ------------------------------------------------------------------------------------------------------


def _arrow(file: Path, fields: Sequence[int] | None = None) -> Any:
    import pyarrow as pa

    # Not mapped into memory: pages that were read would count as the process's own.
    options = pa.ipc.IpcReadOptions() if fields is None else pa.ipc.IpcReadOptions(included_fields=list(fields))
    return pa.ipc.open_file(pa.OSFile(str(file)), options=options)


def _arrow_columns(file: Path) -> list[str]:
    with _arrow(file) as reader:
        return list(reader.schema.names)


def _arrow_rows(file: Path, enough: int) -> int:
    rows = 0
    with _arrow(file, [0]) as reader:
        for i in range(reader.num_record_batches):
            rows += reader.get_batch(i).num_rows
            if rows > enough:
                break
    return rows


def _arrow_batches(file: Path, columns: Sequence[str] | None, _: Collection[str], rows: int) -> Batches:
    with _arrow(file) as reader:
        _check_columns(file, columns, reader.schema.names)
        fields = None if columns is None else [reader.schema.get_field_index(name) for name in columns]
    with _arrow(file, fields) as reader:
        if reader.num_record_batches == 0:
            yield _no_rows(reader.schema, columns), 1.0
        for i in range(reader.num_record_batches):
            whole = reader.get_batch(i)
            whole = whole if columns is None else whole.select(list(columns))
            for start in range(0, max(whole.num_rows, 1), rows):
                yield whole.slice(start, rows), (i + 1) / reader.num_record_batches


# --- CSV --------------------------------------------------------------------------------------------------------------


def _csv(file: Any, columns: Sequence[str] | None = None, types: Mapping[str, pa.DataType] | None = None) -> Any:
    from pyarrow import csv

    return csv.open_csv(
        file,
        read_options=csv.ReadOptions(block_size=CSV_BLOCK),
        convert_options=csv.ConvertOptions(
            include_columns=None if columns is None else list(columns), column_types=types, strings_can_be_null=True
        ),
        parse_options=csv.ParseOptions(newlines_in_values=True),
    )


def _csv_schema(file: Path) -> pa.Schema:
    with _csv(file) as reader:
        return reader.schema


def _csv_columns(file: Path) -> list[str]:
    return list(_csv_schema(file).names)


def _csv_types(schema: pa.Schema, columns: Sequence[str] | None, text: Collection[str]) -> dict[str, pa.DataType]:
    """Named columns are text or numbers. Of others the first block tells; dates stay text, as pandas reads them."""
    import pyarrow as pa

    if columns is not None:
        return {name: pa.string() if name in text else pa.float64() for name in columns}
    return {field.name: pa.string() for field in schema if pa.types.is_temporal(field.type)}


def _csv_rows(file: Path, enough: int) -> int:
    lines = -1  # the first has the names
    with file.open("rb") as opened:
        while lines <= enough and (block := opened.read(BUFFER)):
            lines += block.count(b"\n") or block.count(b"\r")
    return max(lines, 0)


def _csv_batches(file: Path, columns: Sequence[str] | None, text: Collection[str], rows: int) -> Batches:
    import pyarrow as pa

    first = _csv_schema(file)
    _check_columns(file, columns, first.names)
    with pa.OSFile(str(file)) as opened, _csv(opened, columns, _csv_types(first, columns, text)) as reader:
        total, schema = max(opened.size(), 1), reader.schema
        waiting: list[pa.RecordBatch] = []
        for part in reader:
            waiting.append(part)
            if sum(batch.num_rows for batch in waiting) >= rows:
                yield from ((batch, opened.tell() / total) for batch in _together(waiting, schema, rows))
                waiting = []
        yield from ((batch, 1.0) for batch in _together(waiting, schema, rows))


def _together(parts: list[pa.RecordBatch], schema: pa.Schema, rows: int) -> list[pa.RecordBatch]:
    import pyarrow as pa

    whole = pa.Table.from_batches(parts, schema).combine_chunks().to_batches(rows)
    return whole or [_no_rows(schema, None)]


# --- all --------------------------------------------------------------------------------------------------------------


def _check_columns(file: Path, wanted: Sequence[str] | None, known: Sequence[str]) -> None:
    missing = [name for name in wanted or () if name not in known]
    if missing:
        raise InvalidInputError(f"{file.name} must have the column {missing[0]!r}; there are {', '.join(known[:20])}.")
    twice = [name for name in known if name in (wanted or known) and known.count(name) > 1]
    if twice:
        raise InvalidInputError(
            f"{file.name} must have each column once, got {twice[0]!r} {known.count(twice[0])} times."
        )


def _no_rows(schema: pa.Schema, columns: Sequence[str] | None) -> pa.RecordBatch:
    import pyarrow as pa

    kept = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in kept], schema=kept)


_ARROW = Format("Arrow", _arrow_columns, _arrow_rows, _arrow_batches)
FORMATS = {
    ".parquet": Format(".parquet", _parquet_columns, _parquet_rows, _parquet_batches),
    ".csv": Format(".csv", _csv_columns, _csv_rows, _csv_batches),
    ".arrow": _ARROW,
    ".feather": _ARROW,
}
