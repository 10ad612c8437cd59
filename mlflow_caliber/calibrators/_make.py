"""The door to unfitted calibrators."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mlflow_caliber._validation import check_choice, check_known_keys
from mlflow_caliber.calibrators._base import Calibrator
from mlflow_caliber.calibrators._registry import CALIBRATORS
from mlflow_caliber.calibrators._segmented import SegmentedCalibrator

__all__ = ["BINARY_KINDS", "make_calibrator"]

BINARY_KINDS: Mapping[str, type[Calibrator]] = MappingProxyType(
    {**CALIBRATORS, SegmentedCalibrator.name: SegmentedCalibrator}
)
"""The maps of one score, and the one that needs to know the segment too."""


def make_calibrator(name: str, **params: Any) -> Calibrator:
    """An unfitted calibrator by name.

    Parameters
    ----------
    name : str
        auto, identity, isotonic, centered_isotonic, sigmoid, beta, temperature or venn_abers, the keys of
        :data:`CALIBRATORS`; or segmented, whose ``fit`` and ``predict`` take the segments too.
    **params
        Parameters of that class's constructor.

    Returns
    -------
    Calibrator
        Not fitted yet.

    Raises
    ------
    InvalidInputError
        An unknown name; the sentence names the nearest known one.
    ConfigError
        A parameter that the class does not have.

    Examples
    --------
    >>> make_calibrator("isotonic").fit([0.2, 0.4, 0.7], [0, 1, 1]).predict([0.3])
    array([0.5])
    """
    cls = BINARY_KINDS[check_choice(name, "calibrator", BINARY_KINDS)]
    check_known_keys(params, cls._get_param_names(), f"The {name} calibrator")
    return cls(**params)
