"""Lines of a file into a stream: a bad line is reported and the rest goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._checks import shown
from mlflow_caliber.store._stream import Stream
from mlflow_caliber.store._values import BadLine, ImportReport, Outcome, Prediction, Receipt

__all__ = ["Importer", "json_lines", "read_object"]

_BATCH = 2_000


class Importer:
    """Events on their way from a file into a stream, in batches."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._events: list[Prediction | Outcome] = []
        self._receipt = Receipt()
        self._bad: list[BadLine] = []

    def take(
        self, number: int, line: Any, events_of: Callable[[Mapping[str, Any]], Sequence[Prediction | Outcome]]
    ) -> None:
        """Read a line, which is JSON or an object already, and record its events sooner or later."""
        try:
            self._events += events_of(read_object(line) if isinstance(line, bytes) else line)
        except InvalidInputError as error:
            self._bad.append(BadLine(number, str(error)))
        except (ArithmeticError, TypeError, ValueError, RecursionError):
            self._bad.append(BadLine(number, "The line must hold values that can be stored."))
        if len(self._events) >= _BATCH:
            self._flush()

    def report(self) -> ImportReport:
        """Record what is left; what became of the file."""
        self._flush()
        return ImportReport(self._receipt, tuple(self._bad))

    def _flush(self) -> None:
        self._receipt += self._stream.record(self._events)
        self._events = []


def json_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1."""
    try:
        with file.open("rb") as lines:
            yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read: {error.strerror}.") from error


def read_object(line: bytes) -> Mapping[str, Any]:
    """A line as the JSON object that it must be."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"The line must be a JSON object, got {shown(line)}.") from error
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"The line must be a JSON object, got {shown(value)}.")
    return value
