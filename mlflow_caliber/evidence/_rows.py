"""The rows behind the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray, segment_names
from mlflow_caliber.evidence._digests import sha256
from mlflow_caliber.exceptions import EvidenceError

_SEGMENT = "segment:"  # no other column has a colon in its name, so no segment can be taken for one


@dataclass(frozen=True, kw_only=True)
class Rows:
    """
    What a model said of each row of the evaluation set, and what was true: enough to make the report once more.

    Parameters
    ----------
    y : ndarray of shape (n,)
        The class index of the true label (0 and 1 for two classes).
    p : ndarray of shape (n,) or (n, K)
        The calibrated probability of the positive class, or of each class.
    weight : ndarray of shape (n,), optional
        The sample weights.
    raw : ndarray of the shape of ``p``, optional
        The probabilities before calibration.
    group : ndarray of shape (n,), optional
        The segment that the abstain policy's thresholds go by.
    segments : mapping of str to ndarray of shape (n,)
        The columns that the report is sliced by; a file holds their values as text.

    Examples
    --------
    >>> rows = Rows(y=np.array([0, 1]), p=np.array([0.2, 0.7]), segments={"region": np.array(["north", "south"])})
    >>> rows.to_frame().columns.tolist()
    ['y', 'p', 'segment:region']
    >>> rows.take(rows.segments["region"] == "south").p.tolist()
    [0.7]
    """

    y: NDArray[np.intp]
    p: FloatArray
    weight: FloatArray | None = None
    raw: FloatArray | None = None
    group: NDArray[Any] | None = None
    segments: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def take(self, which: NDArray[Any]) -> Rows:
        """Some of the rows, by a mask or by positions."""
        weight, raw, group = (None if part is None else part[which] for part in (self.weight, self.raw, self.group))
        segments = {name: values[which] for name, values in self.segments.items()}
        return Rows(y=self.y[which], p=self.p[which], weight=weight, raw=raw, group=group, segments=segments)

    def to_frame(self) -> pd.DataFrame:
        """Columns ``y``; ``p``, or ``p_0`` to ``p_{K-1}``; and ``weight``, ``raw``, ``group``, ``segment:<name>``."""
        columns: dict[str, Any] = {"y": np.asarray(self.y, dtype=np.int64), **_columns("p", self.p)}
        if self.weight is not None:
            columns["weight"] = self.weight
        if self.raw is not None:
            columns |= _columns("raw", self.raw)
        if self.group is not None:
            columns["group"] = _text(self.group)
        return pd.DataFrame(columns | {_SEGMENT + name: _text(values) for name, values in self.segments.items()})

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Rows:
        """Read :meth:`to_frame` back; anything else is an :class:`EvidenceError`."""
        names = {"y", "weight", "group", *_names_of("p", frame), *_names_of("raw", frame)}
        others = [name for name in frame.columns if name not in names and not name.startswith(_SEGMENT)]
        y, p, raw = frame.get("y"), _values("p", frame), _values("raw", frame)
        if others or p is None or y is None or not pd.api.types.is_integer_dtype(y):
            raise _refused(frame)
        if raw is not None and raw.shape != p.shape:
            raise EvidenceError(f"Rows must have raw of the shape of p, got {raw.shape} for {p.shape}.")
        return cls(
            y=y.to_numpy(np.intp),
            p=p,
            weight=_values("weight", frame),
            raw=raw,
            group=_names(frame["group"]) if "group" in frame.columns else None,
            segments={
                name.removeprefix(_SEGMENT): _names(frame[name]) for name in frame.columns if name.startswith(_SEGMENT)
            },
        )

    def write(self, path: str | Path) -> str:
        """Write ``path`` (parquet) and return the file's digest, for ``Evidence.rows_sha256``."""
        self.to_frame().to_parquet(path, index=False)
        return sha256(Path(path).read_bytes())


def _columns(name: str, values: FloatArray) -> dict[str, FloatArray]:
    """One column, or one for each class."""
    return {name: values} if values.ndim == 1 else {f"{name}_{k}": values[:, k] for k in range(values.shape[1])}


def _names_of(name: str, frame: pd.DataFrame) -> list[str]:
    return [column for column in frame.columns if re.fullmatch(rf"{name}(_\d+)?", column)]


def _values(name: str, frame: pd.DataFrame) -> FloatArray | None:
    """What :func:`_columns` made; None where there is none of it."""
    names = _names_of(name, frame)
    if not names:
        return None
    one_each = len(names) >= 2 and names == [f"{name}_{k}" for k in range(len(names))]
    if not (names == [name] or one_each) or not all(map(pd.api.types.is_float_dtype, frame[names].dtypes)):
        raise _refused(frame)
    values: FloatArray = frame[names].to_numpy(np.float64)
    return values if one_each else values[:, 0]


def _refused(frame: pd.DataFrame) -> EvidenceError:
    got = ", ".join(f"{name} ({dtype})" for name, dtype in frame.dtypes.items())
    return EvidenceError(
        "Rows must have the columns y and p, or y and p_0, p_1, ... (y whole numbers, p floats), and none other than "
        f"weight, raw, group and {_SEGMENT}<name>, got {got}."
    )


def _text(values: NDArray[Any]) -> NDArray[np.object_]:
    return segment_names(np.asarray(values, dtype=object))


def _names(column: pd.Series[Any]) -> NDArray[np.object_]:
    return _text(column.to_numpy(dtype=object))
