"""A batch of messages into the store: all streams in one transaction, by the rules of REST."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlflow_caliber.exceptions import InvalidInputError, StoreError
from mlflow_caliber.kafka._forward import Outgoing
from mlflow_caliber.kafka._messages import Letter, Message, as_events, from_app, is_from_app, json_object, time_of
from mlflow_caliber.kafka._tally import Tally
from mlflow_caliber.store import (
    Item,
    Outcome,
    Prediction,
    Receipt,
    Store,
    Stream,
    outcome_from_message,
    prediction_from_message,
)

__all__ = ["Handled", "Recorder"]

# Classes and new versions that others make known are seen after so many seconds.
_KNOWN_FOR = 5.0
_LONGEST_NAME = 200
_logger = logging.getLogger(__name__)


class Handled(NamedTuple):
    """What became of a batch: what is to be written for it, and the messages that cannot be taken."""

    outgoing: list[Outgoing]
    letters: list[Letter]


@dataclass
class _Part:
    """The events of one stream, and for each event the place of its message in the batch."""

    stream: Stream
    items: list[Item] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def add(self, place: int, events: Sequence[Prediction | Outcome]) -> None:
        self.items.append(tuple(events))
        self.places += [place] * len(events)


class Recorder:
    """Records batches of messages.

    Parameters
    ----------
    store : Store
        Where to.
    model, version : str, optional
        Of messages that name none.
    create : bool
        Whether model versions that are not known are made known, without classes.
    """

    def __init__(
        self, store: Store, *, model: str | None = None, version: str | None = None, create: bool = False
    ) -> None:
        self._store, self._model, self._version, self._create = store, model, version, create
        self._streams: dict[tuple[str, str], Stream | None] = {}
        self._numbers: dict[int, Stream] | None = None
        self._looked_at = 0.0

    def __call__(self, messages: Sequence[Message], tally: Tally) -> Handled:
        """Record the messages; once this returns, they are on disk.

        Raises
        ------
        StoreError
            If the store is away or busy: nothing was recorded.
        """
        self._forget_in_time()
        self._numbers = None  # looked up once a batch, however many numbers are unknown
        letters: list[Letter] = []
        parts: dict[int, _Part] = {}
        for place, message in enumerate(messages):
            try:
                stream, events = self._read(message)
            except InvalidInputError as error:
                letters.append(Letter(message, str(error)))
                continue
            except StoreError:
                raise
            except Exception as error:  # a fault of ours must neither lose a message nor hold up the others
                _logger.exception("A message could not be read.")
                letters.append(Letter(message, f"The message cannot be read: {type(error).__name__}."))
                continue
            parts.setdefault(stream.id, _Part(stream)).add(place, events)
        try:
            batches = [(part.stream, part.items) for part in parts.values()]
            receipts = self._store.record(batches, keep_refused=False) if batches else ()
        except StoreError:
            raise
        except Exception as error:  # a fault of ours must neither lose a message nor hold up the others
            return self._in_halves(messages, tally, error)
        for part, receipt in zip(parts.values(), receipts, strict=True):
            _count(tally, receipt)
            letters += _refused(part, receipt, messages)
        return Handled([], letters)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _in_halves(self, messages: Sequence[Message], tally: Tally, error: Exception) -> Handled:
        """Record the halves, down to the one message that is to blame."""
        if len(messages) == 1:
            _logger.error("A message could not be recorded: %s", type(error).__name__, exc_info=error)
            return Handled([], [Letter(messages[0], f"The message cannot be recorded: {type(error).__name__}.")])
        middle = len(messages) // 2
        return Handled([], self(messages[:middle], tally).letters + self(messages[middle:], tally).letters)

    def _read(self, message: Message) -> tuple[Stream, list[Prediction | Outcome]]:
        told = json_object(message)
        if is_from_app(told):
            number, told = from_app(told)
            stream = self._numbered(number)
        else:
            stream = self._named(told.pop("model", self._model), told.pop("version", self._version))
        kind, told = as_events(told, message)
        read = prediction_from_message if kind == "prediction" else outcome_from_message
        when = time_of(message)
        return stream, read(told, stream, time.time() if when is None else when)

    def _named(self, model: Any, version: Any) -> Stream:
        if isinstance(model, str) and isinstance(version, str):
            known = self._streams.get((model, version))
            if known is not None:
                return known
        for value, name in ((model, "model"), (version, "version")):
            if not _is_name(value):
                raise InvalidInputError(
                    f"A message must name its {name} by a text of 1 to {_LONGEST_NAME} characters, got {value!r:.80}."
                )
        key = (model, version)
        if key not in self._streams:
            find = self._store.stream if self._create else self._store.find_stream
            self._streams[key] = find(model, version)
        stream = self._streams[key]
        if stream is None:
            raise InvalidInputError(
                f"There is no version {version[:80]!r} of a model {model[:80]!r} in the store: make it known first."
            )
        return stream

    def _numbered(self, number: int) -> Stream:
        if self._numbers is None:
            self._numbers = {stream.id: stream for stream in self._store.streams()}
        stream = self._numbers.get(number)
        if stream is None:
            raise InvalidInputError(f"There is no model version {str(number)[:80]} in the store.")
        return stream

    def _forget_in_time(self) -> None:
        now = time.monotonic()
        if now - self._looked_at > _KNOWN_FOR:
            self._streams.clear()
            self._looked_at = now


def _is_name(value: Any) -> bool:
    """Whether a database can be asked for it: what is no name must not look like a database that is away."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or "\0" in value:
        return False
    return value.isascii() or value.encode(errors="replace").decode() == value


def _count(tally: Tally, receipt: Receipt) -> None:
    tally.recorded += receipt.recorded
    tally.duplicates += receipt.duplicates
    tally.corrections += receipt.corrections


def _refused(part: _Part, receipt: Receipt, messages: Sequence[Message]) -> list[Letter]:
    """The messages of a stream that the store refused, each once."""
    sentences: dict[int, str] = {}
    for refusal in receipt.refused:
        sentences.setdefault(part.places[refusal.index or 0], refusal.sentence)
    return [Letter(messages[place], sentence) for place, sentence in sentences.items()]
