"""The binary calibrators by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from mlflow_caliber._validation import check_choice, check_known_keys
from mlflow_caliber.calibrators._auto import AutoCalibrator
from mlflow_caliber.calibrators._base import Calibrator, JsonForm, read_header
from mlflow_caliber.calibrators._identity import IdentityCalibrator
from mlflow_caliber.calibrators._isotonic import CenteredIsotonicCalibrator, IsotonicCalibrator
from mlflow_caliber.calibrators._parametric import BetaCalibrator, SigmoidCalibrator, TemperatureCalibrator
from mlflow_caliber.exceptions import InvalidInputError, StateError

__all__ = ["CALIBRATORS", "make_calibrator", "read_as"]

_T = TypeVar("_T", bound=JsonForm)

_CLASSES: tuple[type[Calibrator], ...] = (
    AutoCalibrator,
    IdentityCalibrator,
    IsotonicCalibrator,
    CenteredIsotonicCalibrator,
    SigmoidCalibrator,
    BetaCalibrator,
    TemperatureCalibrator,
)
CALIBRATORS: Mapping[str, type[Calibrator]] = MappingProxyType({each.name: each for each in _CLASSES})


def make_calibrator(name: str, **params: Any) -> Calibrator:
    """An unfitted calibrator by name.

    Parameters
    ----------
    name : str
        A key of :data:`CALIBRATORS`: auto, identity, isotonic, centered_isotonic, sigmoid, beta or temperature.
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
    cls = CALIBRATORS[check_choice(name, "calibrator", CALIBRATORS)]
    check_known_keys(params, cls._get_param_names(), f"The {name} calibrator")
    return cls(**params)


def read_as(data: Any, classes: Mapping[str, type[_T]]) -> _T:
    """The fitted calibrator that :meth:`JsonForm.to_dict` wrote, if it is one of ``classes``."""
    name, params, state = read_header(data)
    try:
        check_choice(name, "Saved calibrator: 'name'", classes)
    except InvalidInputError as error:
        raise StateError(str(error)) from error
    return classes[name].from_parts(params, state)
