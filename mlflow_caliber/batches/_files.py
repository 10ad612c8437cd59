"""A file or a folder of rows, read a batch at a time: whatever its size, a few batches are in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mlflow_caliber.batches._formats import FORMATS, Format, unreadable
from mlflow_caliber.exceptions import InvalidInputError, OptionalDependencyError

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 1 << 20
_WHOLE = re.compile("-?[0-9]{1,18}")
_LAKES = ("_delta_log", ".hoodie")
_COMPRESSED = {".gz", ".bz2", ".zst", ".xz", ".zip"}
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class FileBatch:
    """Consecutive rows of one file.

    Attributes
    ----------
    source : str
        The file, as seen from the folder that was opened.
    first_row : int
        Number of the first row in its file; the file's first row is number 1.
    rows : pyarrow.RecordBatch
        The columns asked for.
    progress : float
        The share of all files that has been read, by bytes.
    """

    source: str
    first_row: int
    rows: pa.RecordBatch
    progress: float


class DataFiles:
    """Rows in one ``.parquet``, ``.csv``, ``.arrow`` or ``.feather`` file, or in a folder of files of one kind.

    A folder is searched with all that is below it, in the order of the names; names that begin with a dot or an
    underscore are passed over. Folders called ``key=value`` give their files one more column, `key`: of whole numbers
    where every value is one, else of text.

    Parameters
    ----------
    path : str or Path
        The file or the folder.

    Attributes
    ----------
    path : Path
        As given.
    files : tuple of Path
        In the order in which they are read.
    columns : tuple of str
        Names of the first file's columns, then those of the folders.

    Raises
    ------
    InvalidInputError
        If there is no such file, or the folder holds files of several kinds, or the tables of an engine that keeps
        account of its files elsewhere (Delta, Iceberg).

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from pathlib import Path
    >>> from mlflow_caliber.batches import DataFiles
    >>> folder = Path(tempfile.mkdtemp())
    >>> for day in (1, 2):
    ...     (folder / f"day={day}").mkdir()
    ...     pd.DataFrame({"y": [0, 1], "p": [0.2, 0.7]}).to_parquet(folder / f"day={day}" / "scored.parquet")
    >>> files = DataFiles(folder)
    >>> files.columns, files.exceeds(3)
    (('y', 'p', 'day'), True)
    >>> [(batch.source, batch.rows.num_rows) for batch in files.batches(["p", "day"])]
    [('day=1/scored.parquet', 2), ('day=2/scored.parquet', 2)]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.files, self._format = _found(self.path)
        self._folders = [
            _keys(file.relative_to(self.path).parent if self._is_folder else Path()) for file in self.files
        ]
        self._sizes = [file.stat().st_size for file in self.files]
        self._check_folders()
        with unreadable(self.files[0], self._format):
            of_file = self._format.columns(self.files[0])
        self.columns = (*of_file, *(key for key in self._folders[0] if key not in of_file))

    def exceeds(self, n: int) -> bool:
        """Whether there are more than `n` rows; of text files lines are counted, and no more of them than it takes."""
        for file in self.files:
            with unreadable(file, self._format):
                n -= self._format.count(file, n)
            if n < 0:
                return True
        return False

    def batches(
        self, columns: Sequence[str] | None = None, *, text: Collection[str] = (), rows: int = ROWS
    ) -> Iterator[FileBatch]:
        """The rows, in order.

        Parameters
        ----------
        columns : sequence of str, optional
            Those to read; by default all.
        text : collection of str, optional
            Columns that a ``.csv`` file's cells are taken from as they are written. The other named ones are numbers.
        rows : int, default=1048576
            In a batch, at most.

        Yields
        ------
        FileBatch
            At least one, which has no rows if there are none.

        Raises
        ------
        InvalidInputError
            If a column is in no file, or a file cannot be read.
        """
        total, behind = max(sum(self._sizes), 1), 0
        for file, size, keys in zip(self.files, self._sizes, self._folders, strict=True):
            first_row = 1
            wanted = None if columns is None else [name for name in columns if name not in keys]
            with unreadable(file, self._format):
                for part, share in self._format.batches(file, wanted, text, rows):
                    with_keys = self._with_keys(part, keys, columns)
                    yield FileBatch(self.name_of(file), first_row, with_keys, (behind + share * size) / total)
                    first_row += part.num_rows
            behind += size

    def keys_of(self, file: Path) -> dict[str, Any]:
        """What the folders above a file say of its rows."""
        return {key: self._typed(key, value) for key, value in self._folders[self.files.index(file)].items()}

    def name_of(self, file: Path) -> str:
        """A file as seen from the folder that was opened."""
        return (file.relative_to(self.path) if self._is_folder else Path(file.name)).as_posix()

    @property
    def _is_folder(self) -> bool:
        return self.path.is_dir()

    def _check_folders(self) -> None:
        for file, keys in zip(self.files, self._folders, strict=True):
            if keys.keys() != self._folders[0].keys():
                raise InvalidInputError(
                    f"{self.name_of(file)} must lie in folders of the same keys as {self.name_of(self.files[0])}."
                )

    def _with_keys(
        self, part: pa.RecordBatch, keys: dict[str, str | None], columns: Sequence[str] | None
    ) -> pa.RecordBatch:
        import pyarrow as pa

        for key, value in keys.items():
            if columns is None or key in columns:
                known = pa.array([self._typed(key, value)], pa.int64() if self._whole(key) else pa.string())
                codes = pa.repeat(pa.scalar(0, pa.int32()), part.num_rows)
                column, place = pa.DictionaryArray.from_arrays(codes, known), part.schema.get_field_index(key)
                # (A column of the file that has the name of a folder's key gives way to it.)
                part = part.append_column(key, column) if place < 0 else part.set_column(place, key, column)
        return part

    def _typed(self, key: str, value: str | None) -> Any:
        return int(value) if value is not None and self._whole(key) else value

    def _whole(self, key: str) -> bool:
        values = {keys[key] for keys in self._folders} - {None}
        return all(value is not None and _WHOLE.fullmatch(value) for value in values)


def _found(path: Path) -> tuple[tuple[Path, ...], Format]:
    """The files, and the kind that they are of."""
    known = ", ".join(FORMATS)
    for parent in path.absolute().parents:
        _check_no_lake(parent)
    files = tuple(sorted(file for file in _below(path) if _is_data(file))) if path.is_dir() else (path,)
    if not files or any(file.suffix.lower() not in FORMATS for file in files):
        got = f"{path.name!r}" if path.suffix or not path.is_dir() else f"the folder {path.name!r} without one"
        raise InvalidInputError(f"DATA must be a {known} file, or a folder of such files, got {got}.")
    kinds = sorted({file.suffix.lower() for file in files})
    if len({FORMATS[kind] for kind in kinds}) > 1:
        raise InvalidInputError(f"DATA must be a folder of files of one kind, got {' and '.join(kinds)}.")
    return files, _installed(FORMATS[kinds[0]])


def _installed(kind: Format) -> Format:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise OptionalDependencyError(
            f"Reading files needs PyArrow: pip install 'mlflow-caliber[live]' ({error})."
        ) from error
    return kind


def _below(folder: Path) -> Iterator[Path]:
    """The files below a folder that are not hidden, also behind links to folders, each folder once."""
    seen = {os.path.realpath(folder)}
    for name, folders, files in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        _check_no_lake(Path(name))
        folders[:] = [each for each in sorted(folders) if not each.startswith((".", "_")) and _is_new(seen, name, each)]
        yield from (Path(name, each) for each in files if not each.startswith((".", "_")))


def _refuse_folder(error: OSError) -> None:
    raise InvalidInputError(f"DATA must be a folder that can be read, got {error.filename!r}: {error.strerror}.")


def _is_data(file: Path) -> bool:
    """Whether it is one of the files; what looks like one and cannot be read is not left out without a word."""
    kinds = [suffix.lower() for suffix in file.suffixes[-2:]]
    if len(kinds) == 2 and kinds[0] in FORMATS and kinds[1] in _COMPRESSED:
        raise InvalidInputError(f"DATA must hold no compressed files, got {file.name!r}: unpack it first.")
    if file.suffix.lower() not in FORMATS:
        return False
    if not file.exists():
        raise InvalidInputError(f"DATA must hold files that are there, got {file.name!r}, a link to nothing.")
    return file.is_file()


def _is_new(seen: set[str], *parts: str) -> bool:
    real = os.path.realpath(os.path.join(*parts))
    if real in seen:
        return False
    seen.add(real)
    return True


def _check_no_lake(folder: Path) -> None:
    # Such a folder also holds files whose rows have been deleted or written anew.
    is_iceberg = any((folder / "metadata").glob("*.metadata.json"))
    if is_iceberg or any((folder / mark).is_dir() for mark in _LAKES):
        raise InvalidInputError(
            f"DATA must be plain files, got {folder.name!r}, a Delta, Iceberg or Hudi table, of whose files not all "
            "count: read it with Spark."
        )


def _keys(folder: Path) -> dict[str, str | None]:
    """``key=value`` in the names of folders, as Hive and Spark write them."""
    pairs = [part.split("=", 1) for part in folder.parts if "=" in part]
    return {unquote(key): None if value == _NULL_PARTITION else unquote(value) for key, value in pairs}
