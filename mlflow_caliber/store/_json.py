"""JSON from outside: what readers of it take in different ways is not taken at all."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from typing import Any

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._checks import shown

__all__ = ["json_from_bytes"]


class _UnfitError(ValueError):
    """The end of the sentence that says what is wrong."""


def json_from_bytes(content: bytes, what: str) -> Any:
    """The value: JSON in UTF-8, without NaN or Infinity, each object's keys named once.

    Parameters
    ----------
    content : bytes
        What came.
    what : str
        What it is, the beginning of a sentence.

    Raises
    ------
    InvalidInputError
        If it is anything else.

    Examples
    --------
    >>> json_from_bytes(b'{"a": 1}', "The body")
    {'a': 1}
    >>> json_from_bytes(b'{"a": 1, "a": 2}', "The body")
    Traceback (most recent call last):
    mlflow_caliber.exceptions.InvalidInputError: The body must be JSON that names each key once, got 'a' twice.
    """
    try:
        return _DECODER.decode(content.removeprefix(codecs.BOM_UTF8).decode())
    except _UnfitError as error:
        raise InvalidInputError(f"{what} must be JSON{error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{what} must be JSON in UTF-8, and is no UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{what} must be JSON, and cannot be read as such.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise _UnfitError(f" that names each key once, got {shown(key)} twice.")
    return told


def _no_number(text: str) -> Any:
    raise _UnfitError(f", which has no {text}.")


# One for all: json.loads makes a new one at each call that says more than the text, which takes longer than to read.
_DECODER = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_object)
