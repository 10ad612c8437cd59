"""The binary calibrators of a score alone, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from mlflow_caliber._validation import check_choice
from mlflow_caliber.calibrators._auto import AutoCalibrator
from mlflow_caliber.calibrators._base import Calibrator, JsonForm, read_header
from mlflow_caliber.calibrators._identity import IdentityCalibrator
from mlflow_caliber.calibrators._isotonic import CenteredIsotonicCalibrator, IsotonicCalibrator
from mlflow_caliber.calibrators._parametric import BetaCalibrator, SigmoidCalibrator, TemperatureCalibrator
from mlflow_caliber.calibrators._venn_abers import VennAbersCalibrator
from mlflow_caliber.exceptions import InvalidInputError, StateError

__all__ = ["CALIBRATORS", "read_as"]

_T = TypeVar("_T", bound=JsonForm)

_CLASSES: tuple[type[Calibrator], ...] = (
    AutoCalibrator,
    IdentityCalibrator,
    IsotonicCalibrator,
    CenteredIsotonicCalibrator,
    SigmoidCalibrator,
    BetaCalibrator,
    TemperatureCalibrator,
    VennAbersCalibrator,
)
CALIBRATORS: Mapping[str, type[Calibrator]] = MappingProxyType({each.name: each for each in _CLASSES})


def read_as(data: Any, classes: Mapping[str, type[_T]]) -> _T:
    """The fitted calibrator that :meth:`JsonForm.to_dict` wrote, if it is one of ``classes``."""
    name, params, state = read_header(data)
    try:
        check_choice(name, "Saved calibrator: 'name'", classes)
    except InvalidInputError as error:
        raise StateError(str(error)) from error
    return classes[name].from_parts(params, state)
