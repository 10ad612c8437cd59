"""Texts, times, labels and JSON from outside, in the one form in which they are stored."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mlflow_caliber._validation import check_class_names, check_number, check_text, check_unit_interval
from mlflow_caliber.exceptions import InvalidInputError

__all__ = [
    "MAX_ID",
    "MAX_JSON",
    "MAX_TEXT",
    "check_json",
    "check_name",
    "check_path_name",
    "check_score",
    "check_stored_text",
    "check_stream_classes",
    "check_time",
    "label_text",
    "safe_repr",
    "shown",
]

MAX_ID = 200
MAX_TEXT = 2_000
MAX_JSON = 1_000_000
_YEAR_9999 = 253_402_300_799.0
_SHOWN = 80
# Deeper than any features are, and far from where a reader of JSON gives up.
_DEEPEST = 100
# The largest float has 309 digits; Python and JSON write longer whole numbers.
_DIGITS, _ENORMOUS = 308, re.compile("[0-9]{309}")


def check_stored_text(value: Any, name: str, longest: int = MAX_TEXT) -> str:
    """A text that both databases can hold, of at most ``longest`` characters."""
    if type(value) is str and len(value) <= longest and value.isascii() and "\0" not in value:
        return value  # nearly all are, and millions come
    text = check_text(value, name)
    if len(text) > longest:
        raise InvalidInputError(f"{name} must have at most {longest} characters, got {len(text)}.")
    if "\0" in text:
        raise InvalidInputError(f"{name} must not hold the character NUL, got {shown(text)}.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"{name} must be text that UTF-8 can hold, got {shown(text)}.") from error
    return text


def check_name(value: Any, name: str, longest: int = MAX_ID) -> str:
    """A text that is not empty."""
    text = check_stored_text(value, name, longest)
    if not text:
        raise InvalidInputError(f"{name} must not be empty.")
    return text


def check_path_name(value: str, name: str) -> str:
    """A name that stands in addresses and in subjects ``model/version``; MLflow's own registry has no others."""
    if "/" in value or value in {".", ".."}:
        raise InvalidInputError(f"{name} must hold no '/' and be neither '.' nor '..', got {shown(value)}.")
    return value


def check_time(value: Any, name: str) -> float:
    """Seconds since 1970."""
    if type(value) is float and 0.0 <= value <= _YEAR_9999:
        return value
    try:
        seconds = check_number(value, name)
    except InvalidInputError:
        raise
    except (ArithmeticError, TypeError, ValueError) as error:  # a whole number that no float can hold
        raise InvalidInputError(f"{name} must be seconds since 1970 (UTC), got {shown(value)}.") from error
    if not 0.0 <= seconds <= _YEAR_9999:
        raise InvalidInputError(f"{name} must be seconds since 1970 (UTC), got {seconds:.15g}.")
    return seconds


def check_score(value: Any, name: str) -> float:
    """A number in [0, 1]."""
    if type(value) is float and 0.0 <= value <= 1.0:
        return value
    try:
        return check_unit_interval(value, name)
    except InvalidInputError:
        raise
    except (ArithmeticError, TypeError, ValueError) as error:  # a whole number that no float can hold
        raise InvalidInputError(f"{name} must be a number in [0, 1], got {shown(value)}.") from error


def check_stream_classes(classes: Any, positive: Any) -> tuple[tuple[str, ...] | None, str | None]:
    """The texts of the classes and of the positive one: the second of two, unless said otherwise."""
    if classes is None:
        if positive is not None:
            raise InvalidInputError(f"positive must come with classes, got {shown(positive)} alone.")
        return None, None
    given = list(classes) if isinstance(classes, Iterable) else []
    if isinstance(classes, str) or len(given) < 2:
        raise InvalidInputError(f"classes must name at least two classes, got {shown(classes)}.")
    names = tuple(check_name(name, "each of classes") for name in check_class_names(given, len(given)))
    if len(names) > 2:
        if positive is not None:
            raise InvalidInputError(f"positive is for two classes, got {shown(positive)} and {len(names)} classes.")
        return names, None
    return names, names[1] if positive is None else label_text(positive, names, "positive")


def label_text(label: Any, classes: Sequence[str] | None, name: str) -> str:
    """The label as the classes spell it.

    Texts must be equal. A number or truth value is the class that spells the same number: 1, 1.0 and True are
    "1" among ("0", "1") and "True" among ("False", "True"). Without classes it becomes the shortest such text.
    """
    if isinstance(label, str):
        if classes is None:
            return check_name(label, name)
        if label in classes:
            return label
    elif (number := _as_number(label)) is not None:
        if classes is None:
            return _spelled(number)
        exact = str(label)
        if exact in classes:
            return exact
        for text in classes:
            if _text_number(text) == number:
                return text
    else:
        raise InvalidInputError(f"{name} must be a label (text, a number or a truth value), got {shown(label)}.")
    raise InvalidInputError(f"{name} must be one of the classes {_listed(classes)}, got {shown(label)}.")


def check_json(value: Any, name: str) -> Any:
    """Plain JSON values; numbers that are not finite become null. What NumPy made is read as Python would."""
    try:
        text = json.dumps(value, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError):
        text = _cleaned(value, name)
    if len(text) > MAX_JSON:
        raise InvalidInputError(f"{name} must be at most {MAX_JSON} characters of JSON, got {len(text)}.")
    plain = json.loads(text)
    if text.count("[") + text.count("{") > _DEEPEST and _is_deep(plain):
        raise InvalidInputError(f"{name} must be nested at most {_DEEPEST} deep, got {shown(value)}.")
    if len(text) >= _DIGITS and _ENORMOUS.search(text) and _is_enormous(plain):
        raise InvalidInputError(f"{name} must hold numbers that a float can hold, got one of over {_DIGITS} digits.")
    return plain


def shown(value: Any) -> str:
    """The value as it stands in a sentence: cut, and without characters that would break it."""
    text = safe_repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def safe_repr(value: Any) -> str:
    """The value's ``repr``, whatever the value: numbers can be too long for it, and objects are free to raise."""
    try:
        return str(repr(value))
    except Exception:  # anything may happen in a foreign repr
        return f"<{type(value).__name__} that cannot be shown>"


def _cleaned(value: Any, name: str) -> str:
    try:
        return json.dumps(_finite(value), allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name} must be plain JSON values, got {shown(value)}.") from error


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_finite(item) for item in value]
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [
            item
            for each in level
            if isinstance(each, (dict, list))
            for item in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _is_enormous(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return any(map(_is_enormous, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not -sys.float_info.max <= value <= sys.float_info.max


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _as_number(label: Any) -> float | None:
    if not isinstance(label, (bool, int, float, np.bool_, np.integer, np.floating)):
        return None
    try:
        number = float(label)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text_number(text: str) -> float | None:
    if text in {"True", "true", "False", "false"}:
        return float(text in {"True", "true"})
    try:
        return float(text)
    except ValueError:
        return None


def _spelled(number: float) -> str:
    return str(int(number)) if number.is_integer() else str(number)


def _listed(classes: Sequence[str] | None) -> str:
    names = [repr(name) for name in classes or ()]
    return ", ".join(names if len(names) <= 10 else [*names[:10], f"... ({len(names)} in all)"])
