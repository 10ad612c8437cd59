"""The rows behind the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_caliber._validation import FloatArray
from mlflow_caliber.evidence._digests import sha256
from mlflow_caliber.exceptions import EvidenceError


@dataclass(frozen=True, kw_only=True)
class Rows:
    """
    What a model said of each row of the evaluation set, and what was true: enough to compare two models in pairs.

    Parameters
    ----------
    y : ndarray of shape (n,)
        The class index of the true label (0 and 1 for two classes).
    p : ndarray of shape (n,) or (n, K)
        The calibrated probability of the positive class, or of each class.
    weight : ndarray of shape (n,), optional
        The sample weights.

    Examples
    --------
    >>> rows = Rows(y=np.array([0, 1]), p=np.array([0.2, 0.7]))
    >>> rows.to_frame().columns.tolist()
    ['y', 'p']
    """

    y: NDArray[np.intp]
    p: FloatArray
    weight: FloatArray | None = None

    def to_frame(self) -> pd.DataFrame:
        """Columns ``y``; ``p``, or ``p_0`` to ``p_{K-1}``; and ``weight`` when there is one."""
        columns: dict[str, Any] = {"y": np.asarray(self.y, dtype=np.int64)}
        if self.p.ndim == 1:
            columns["p"] = self.p
        else:
            columns |= {f"p_{k}": self.p[:, k] for k in range(self.p.shape[1])}
        if self.weight is not None:
            columns["weight"] = self.weight
        return pd.DataFrame(columns)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Rows:
        """Read :meth:`to_frame` back; anything else is an :class:`EvidenceError`."""
        names = [name for name in frame.columns if name not in ("y", "weight")]
        one_each = len(names) >= 2 and names == [f"p_{k}" for k in range(len(names))]
        if "y" not in frame.columns or not (names == ["p"] or one_each):
            raise EvidenceError(f"Rows must have the columns y and p, or y and p_0, p_1, ..., got {list(frame)}.")
        p = frame[names].to_numpy(np.float64)
        weight = frame["weight"].to_numpy(np.float64) if "weight" in frame.columns else None
        return cls(y=frame["y"].to_numpy(np.intp), p=p[:, 0] if names == ["p"] else p, weight=weight)

    def write(self, path: str | Path) -> str:
        """Write ``path`` (parquet) and return the file's digest, for ``Evidence.rows_sha256``."""
        self.to_frame().to_parquet(path, index=False)
        return sha256(Path(path).read_bytes())
