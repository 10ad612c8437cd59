"""The files of ``caliber/``: JSON with a format version, written one way and read strictly.

To change the format: raise ``FORMAT_VERSION``, keep reading the older ones, and add a golden folder of the old version
to the tests.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mlflow_caliber._validation import check_probability_matrix
from mlflow_caliber.exceptions import CaliberError, StateError
from mlflow_caliber.model import Calibrates

__all__ = ["FLAVOR_NAME", "FORMAT_VERSION", "check_reference", "json_bytes", "read_state", "revision_of", "write_state"]

FLAVOR_NAME = "caliber"
FORMAT_VERSION = 1

_STATE_DIR = "caliber"
_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


def json_bytes(value: Any) -> bytes:
    """JSON as it is written: sorted, indented, without NaN."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()


def revision_of(calibrator: Calibrates) -> str:
    """Twelve hex digits of the calibrator's state: equal states are one revision."""
    return hashlib.sha256(json_bytes(calibrator.to_dict())).hexdigest()[:12]


def write_state(model_folder: Path, state: Mapping[str, Any]) -> None:
    """Write ``caliber/<name>.json`` for each entry."""
    folder = model_folder / _STATE_DIR
    folder.mkdir(parents=True)
    for name, value in state.items():
        (folder / f"{name}.json").write_bytes(json_bytes(value))


def read_state(model_folder: Path, name: str, build: Callable[[Any], _T], *, strict: bool) -> _T | None:
    """Build a value from ``caliber/<name>.json``.

    Raises
    ------
    StateError
        When the file cannot be read; unless ``strict``, it is logged and None returned, for a server must answer.
    """
    file = model_folder / _STATE_DIR / f"{name}.json"
    try:
        return build(_parse(file))
    except CaliberError as error:
        # A hostile file may make a long sentence of its content.
        sentence = f"{_STATE_DIR}/{file.name} cannot be used: {str(error)[:500]}"
        if strict:
            raise StateError(sentence) from error
        _logger.error("%s", sentence)
        return None


def check_reference(value: Any, n_classes: int) -> dict[str, Any]:
    """The content of ``reference.json``: class frequencies and a profile, either of which may be null."""
    if not isinstance(value, dict) or value.get("format_version") != FORMAT_VERSION:
        raise StateError(f"a reference must have format_version {FORMAT_VERSION}.")
    prior, profile = value.get("class_prior"), value.get("profile")
    if prior is not None:
        check_probability_matrix([prior], "class_prior", n_classes=n_classes)
    if profile is not None and not isinstance(profile, dict):
        raise StateError(f"profile must be an object or null, got a {type(profile).__name__}.")
    return {"class_prior": prior, "profile": profile}


def _parse(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise StateError("the file is missing.") from None
    except StateError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(f"it is not readable JSON ({type(error).__name__}).") from error


def _refuse_constant(name: str) -> Any:
    raise StateError(f"it holds {name}, which is not JSON.")
