"""Digests of a model's files and of an evaluation set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlflow_caliber.exceptions import EvidenceError

# MLflow writes this file beside a model whenever it is downloaded through the registry.
_ADDED_BY_MLFLOW = "registered_model_meta"


def sha256(content: bytes) -> str:
    """``sha256:`` and the digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def model_digest(path: str | Path) -> str:
    r"""
    The digest of an MLflow model folder: its files' bytes and where they lie.

    The same for ``models:/name/1``, the ``runs:/`` source it was registered from and ``models:/m-<id>``, and for every
    copy of them, because all serve the same files.

    Parameters
    ----------
    path : str or Path
        A local model folder, with its ``MLmodel``.

    Returns
    -------
    str
        ``sha256:`` and 64 hexadecimal digits.

    Raises
    ------
    EvidenceError
        If the folder holds no ``MLmodel``, or a link to another folder (whose files would not be covered).

    Notes
    -----
    SHA-256 over what ``sha256sum --zero`` prints for the files, sorted by path: ``<hex>  <path>\0`` each. Left out are
    ``registered_model_meta``, which MLflow adds on download, and ``__pycache__``, which Python adds on import.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "MLmodel").write_text("flavors: {}")
    >>> before = model_digest(folder)
    >>> _ = (folder / "registered_model_meta").write_text("model_name: churn")
    >>> model_digest(folder) == before
    True
    """
    root = Path(path)
    if not (root / "MLmodel").is_file():
        raise EvidenceError(f"A model folder must hold an MLmodel file, got {str(root)!r} without one.")
    total = hashlib.sha256()
    for name in sorted(_model_files(root)):
        with (root / name).open("rb") as file:
            total.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\0".encode())
    return f"sha256:{total.hexdigest()}"


def _model_files(root: Path) -> Iterator[str]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        _refuse_links(Path(folder, name) for name in subfolders)
        relative = (Path(folder, name).relative_to(root).as_posix() for name in names)
        yield from (name for name in relative if name != _ADDED_BY_MLFLOW)


def _refuse_links(folders: Iterable[Path]) -> None:
    for folder in folders:
        if folder.is_symlink():
            raise EvidenceError(f"A model folder must hold its own files, got a link to a folder: {folder.name!r}.")


def data_digest(features: pd.DataFrame | None, y_true: ArrayLike, weights: ArrayLike | None = None) -> str:
    """
    The digest of an evaluation set: equal if and only if the rows are the same, in the same order.

    Parameters
    ----------
    features : DataFrame of shape (n, d) or None
        The features; their index is not part of the digest, names and order of the columns are.
    y_true : array-like of shape (n,)
        The labels, of any type.
    weights : array-like of shape (n,), optional
        The sample weights.

    Returns
    -------
    str
        ``sha256:`` and 64 hexadecimal digits. The same in every process, and under pandas 2 and 3.

    Notes
    -----
    Values count, storage does not: integers and booleans without gaps are taken as int64, other numbers as float64 (so
    float32 equals the float64 of the same value), instants as UTC microseconds, everything else as text; every kind of
    missing value is the same.

    Examples
    --------
    >>> frame = pd.DataFrame({"region": ["north", "south"], "age": [41, 39]})
    >>> data_digest(frame, [0, 1]) == data_digest(frame.astype({"region": "category"}), [0, 1])
    True
    >>> data_digest(frame, [0, 1]) == data_digest(frame, [1, 0])
    False
    """
    total = hashlib.sha256()
    columns = [] if features is None else [(str(name), features.iloc[:, i]) for i, name in enumerate(features.columns)]
    for name, column in columns:
        _add(total, f"feature {name}".encode(), *_canonical(column))
    _add(total, b"target", *_canonical(pd.Series(np.asarray(y_true))))
    if weights is not None:
        _add(total, b"weight", *_canonical(pd.Series(np.asarray(weights, dtype=np.float64))))
    return f"sha256:{total.hexdigest()}"


def _canonical(column: pd.Series[Any]) -> tuple[bytes, ...]:
    """A column as bytes that depend on its values and not on how pandas holds them."""
    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _text_bytes(column)
    if types.is_bool_dtype(column) or types.is_integer_dtype(column):
        kind = "<f8" if column.isna().any() else "<i8"
        return kind.encode(), _numbers(column, kind)
    if types.is_float_dtype(column):
        return b"<f8", _numbers(column, "<f8")
    if types.is_datetime64_any_dtype(column):
        return b"instant", pd.to_datetime(column, utc=True).dt.as_unit("us").to_numpy("<M8[us]").tobytes()
    return _text_bytes(column)


def _numbers(column: pd.Series[Any], kind: str) -> bytes:
    if kind == "<i8":
        return column.to_numpy(dtype=kind).tobytes()
    values = column.to_numpy(dtype=kind, na_value=np.nan) + 0.0  # -0.0 becomes 0.0
    values[np.isnan(values)] = np.nan  # one bit pattern for all of them
    return values.tobytes()


def _text_bytes(column: pd.Series[Any]) -> tuple[bytes, ...]:
    """Each row as the position of its text among the distinct ones; -1 for a missing value."""
    # By Python's equality: pandas takes strings of dtype object for equal that differ behind a NUL.
    position: dict[str, int] = {}
    values = zip(column, column.isna(), strict=True)
    codes = (-1 if missing else position.setdefault(str(value), len(position)) for value, missing in values)
    return b"text", np.fromiter(codes, "<i8", len(column)).tobytes(), *(text.encode() for text in position)


def _add(total: Any, *parts: bytes) -> None:
    """Each part behind its length, so that no two different lists of parts read alike."""
    total.update(len(parts).to_bytes(8, "little"))
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)


def short_digest(digest: str) -> str:
    """
    The first 12 digits of a digest, for sentences.

    Examples
    --------
    >>> short_digest("sha256:" + "0123456789abcdef" * 4)
    '0123456789ab'
    """
    return digest.removeprefix("sha256:")[:12]
