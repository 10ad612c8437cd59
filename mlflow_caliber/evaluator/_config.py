"""What ``evaluator_config`` may say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from mlflow_caliber._validation import check_choice, check_count, check_flag, check_known_keys, check_unit_interval
from mlflow_caliber.drift import METHODS
from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.scorers import ProbaColumn

__all__ = ["EvaluatorConfig"]

_READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {".parquet": pd.read_parquet, ".csv": pd.read_csv}


@dataclass(frozen=True)
class EvaluatorConfig:
    """Settings of the caliber evaluator, all optional.

    Parameters
    ----------
    pos_label : label
        The positive class; by default the caliber model's, else the second of two sorted labels.
    classes : sequence of K labels
        For static predictions and models that do not know their labels: the order of the probabilities.
    proba_column : str, int or sequence of str
        Where the probabilities are, in a generic model's output or in static data: one column for the positive class,
        or one a class. By default ``predictions`` of ``mlflow.evaluate`` in static data.
    raw_column : str, int or sequence of str
        Static data only: the probabilities before calibration, for the comparison.
    sample_weight : str
        Column of weights; the model does not see it.
    segments : sequence of str
        Columns whose values slice the report.
    max_segments : int, default 50
        More values than this in one column is an error: a report of thousands of slices helps nobody.
    reference : DataFrame, str or Path
        Earlier rows (or a .parquet or .csv file of them) that drift is measured against. By default a caliber model's
        own profile of its calibration data.
    drift_method : str or sequence of str, default "psi"
        The statistic that decides whether a column has drifted; of several, each column takes the first that it has.
    evidently : bool
        Whether to write Evidently's drift page too; by default when ``reference`` is given and Evidently is installed.
    abstain_threshold : float in [0, 1]
        What if the policy had this threshold? Such an evaluation is evidence for no model.
    n_bins : int, default 10
        Bins of the calibration error and the reliability diagram.
    strategy : {"quantile", "uniform"}
        Bins of equal mass or of equal width.
    policy_sha256 : str
        The digest of the gate policy that the evaluation is made for: a gate with another policy refuses it.
    spark_frame : pyspark.sql.DataFrame
        The Spark frame that is evaluated, all of it; MLflow itself hands on its first 10,000 rows. Such an evaluation
        is evidence for no model.

    Raises
    ------
    ConfigError
        For an unknown key (the nearest known one is named) or values that do not fit together.
    InvalidInputError
        For a value out of range.

    Examples
    --------
    >>> EvaluatorConfig.from_dict({"segments": ["region"]}).segments
    ('region',)
    >>> EvaluatorConfig.from_dict({"segment": "region"})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    mlflow_caliber.exceptions.ConfigError: evaluator_config: unknown key 'segment'. Did you mean 'segments'? ...
    """

    pos_label: Any = None
    classes: Sequence[Any] | None = None
    proba_column: ProbaColumn | None = None
    raw_column: ProbaColumn | None = None
    sample_weight: str | None = None
    segments: Sequence[str] = ()
    max_segments: int = 50
    reference: pd.DataFrame | str | Path | None = None
    drift_method: str | Sequence[str] = "psi"
    evidently: bool | None = None
    abstain_threshold: float | None = None
    n_bins: int = 10
    strategy: Literal["quantile", "uniform"] = "quantile"
    policy_sha256: str | None = None
    spark_frame: Any = None

    @classmethod
    def from_dict(cls, config: Mapping[str, Any] | None) -> Self:
        """Check a plain dictionary; None is the default settings."""
        given = dict(config or {})
        check_known_keys(given, cls.keys(), "evaluator_config")
        segments = given.pop("segments", None)
        segments = () if segments is None else [segments] if isinstance(segments, str) else segments
        _check_list(segments, "segments")
        return cls(**given, segments=tuple(segments))

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The known keys."""
        return tuple(field.name for field in fields(cls))

    def __post_init__(self) -> None:
        check_choice(self.strategy, "strategy", ("quantile", "uniform"))
        check_count(self.n_bins, "n_bins")
        check_count(self.max_segments, "max_segments")
        for name in self.drift_methods:
            check_choice(name, "drift_method", METHODS)
        if self.abstain_threshold is not None:
            check_unit_interval(self.abstain_threshold, "abstain_threshold")
        if self.classes is not None:
            _check_list(self.classes, "classes")
        if self.evidently is not None:
            check_flag(self.evidently, "evidently")
        if self.policy_sha256 is not None and not _is_digest(self.policy_sha256):
            wanted = "a policy's digest, 'sha256:' and 64 hexadecimal digits"
            raise ConfigError(f"policy_sha256 must be {wanted}, got {self.policy_sha256!r}.")
        if self.evidently and self.reference is None:
            raise ConfigError("evidently: Evidently compares rows with rows; give the earlier ones as reference.")

    @property
    def drift_methods(self) -> tuple[str, ...]:
        """``drift_method`` as a tuple."""
        given: Any = [self.drift_method] if isinstance(self.drift_method, str) else self.drift_method
        if not isinstance(given, Sequence | np.ndarray | pd.Index):
            raise ConfigError(f"drift_method must be a name or a list of names, got {given!r}.")
        if not len(given):
            raise ConfigError("drift_method must name at least one statistic, got none.")
        return tuple(given)

    def reference_frame(self) -> pd.DataFrame | None:
        """The reference rows, read from their file if need be."""
        given: Any = self.reference
        if given is None or isinstance(given, pd.DataFrame):
            return given
        path = Path(given) if isinstance(given, str | Path) else None
        if path is None or path.suffix not in _READERS or not path.is_file():
            got = f"a {type(given).__name__}" if path is None else f"{str(path)!r}"
            raise ConfigError(f"reference must be a DataFrame or an existing .parquet or .csv file, got {got}.")
        return _READERS[path.suffix](path)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", value) is not None


def _check_list(value: Any, name: str) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray | pd.Index):
        raise ConfigError(f"{name} must be a list, got {value!r}.")
