"""Outcomes in the order of their forecasts: learning waits for the oldest forecast that has none yet.

In order of arrival an outcome-dependent delay (the bad news come first) looks like drift, and the map would follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from mlflow_caliber._state import StateReader, is_whole
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.online._forecast import Forecast

__all__ = ["Ledger", "Release", "Ticket"]

F = TypeVar("F", bound=Forecast)

_FIRST_HORIZON, _HORIZON_DECAY = 500.0, 1.0 - 1.0 / 500.0
# Numbers of expired forecasts that are remembered, to tell their late outcomes from repeated ones.
_REMEMBERED = 10_000


class Ticket(NamedTuple):
    """What stays here of an issued forecast: enough to know it again, and to free its slot."""

    segment: str | None
    served: float
    slot: int


class Release(NamedTuple, Generic[F]):
    """A forecast that leaves the ledger: with itself and its outcome, or with None where none came in time."""

    ticket: Ticket
    forecast: F | None
    y: int


class Ledger(Generic[F]):
    """The forecasts that were issued and not yet released.

    A forecast without an outcome is given up when more than ``horizon`` forecasts have been issued after it: twice the
    age of the oldest outcome that came of late, forgotten at a rate of 1/500 an outcome.
    """

    def __init__(self) -> None:
        self.issued = 0
        self.horizon = _FIRST_HORIZON
        self._tickets: dict[int, Ticket] = {}
        self._marks: dict[int, tuple[F | None, int]] = {}
        self._in_segment: dict[str, int] = {}
        self._expired: dict[int, None] = {}

    def outstanding(self) -> int:
        """Forecasts issued and not released."""
        return len(self._tickets)

    def outstanding_in(self, segment: str) -> int:
        """The same in one segment."""
        return self._in_segment.get(segment, 0)

    def slots(self) -> list[int]:
        """The slots of the outstanding forecasts."""
        return [ticket.slot for ticket in self._tickets.values()]

    def awaits(self, forecast: F) -> bool:
        """Whether the forecast still waits for its outcome."""
        return forecast.number in self._tickets and forecast.number not in self._marks

    def issue(self, ticket: Ticket) -> None:
        """Enter a forecast, whose number is ``issued``."""
        self._tickets[self.issued] = ticket
        self.issued += 1
        if ticket.segment is not None:
            self._in_segment[ticket.segment] = self.outstanding_in(ticket.segment) + 1

    def mark(self, forecast: F, y: int) -> None:
        """Note an outcome. That of a forecast which has expired says only that outcomes take so long."""
        number = forecast.number
        late = number in self._expired
        if late:
            del self._expired[number]
        else:
            self._check(forecast)
            self._marks[number] = forecast, y
        self.horizon = max(2.0 * self._age(number), self.horizon * _HORIZON_DECAY)

    def expire(self, forecast: F) -> None:
        """Give a forecast up."""
        if forecast.number in self._expired:
            raise InvalidInputError(f"Forecast {forecast.number} must expire only once, it has expired already.")
        self._check(forecast)
        self._marks[forecast.number] = None, 0

    def release(self) -> Iterator[Release[F]]:
        """Let forecasts go from the oldest on, while they have an outcome or have waited too long."""
        while self._tickets:
            number = next(iter(self._tickets))
            if number not in self._marks and self._age(number) <= self.horizon:
                return
            ticket = self._tickets.pop(number)
            forecast, y = self._marks.pop(number, (None, 0))
            if ticket.segment is not None:
                self._leave(ticket.segment)
            if forecast is None:
                self._remember(number)
            yield Release(ticket, forecast, y)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        marks = {number: [None if f is None else f.to_dict(), y] for number, (f, y) in self._marks.items()}
        return {
            "issued": self.issued,
            "horizon": self.horizon,
            "outstanding": [[number, *ticket] for number, ticket in self._tickets.items()],
            "marked": [[number, *mark] for number, mark in marks.items()],
            "expired": list(self._expired),
        }

    @classmethod
    def read(cls, saved: StateReader, read_forecast: Callable[[Any], F]) -> Ledger[F]:
        """The ledger that :meth:`to_dict` wrote."""
        ledger = cls()
        ledger.horizon = saved.number("horizon", 0.0)
        issued = saved.integer("issued")
        for entry in saved.sequence("outstanding"):
            ledger.issued, ticket = _read_ticket(saved, entry, low=ledger.issued, below=issued)
            ledger.issue(ticket)
        ledger.issued = issued
        for entry in saved.sequence("marked"):
            ledger._read_mark(saved, entry, read_forecast)
        ledger._expired = dict.fromkeys(saved.integers("expired"))
        saved.close()
        return ledger

    def _age(self, number: int) -> int:
        """Forecasts that were issued after it."""
        return self.issued - 1 - number

    def _check(self, forecast: F) -> None:
        """Refuse a forecast that waits for no outcome."""
        number = forecast.number
        if number >= self.issued:
            raise InvalidInputError(
                f"The forecast must be one that was issued here, got number {number} of {self.issued}."
            )
        ticket = self._tickets.get(number)
        if ticket is None or number in self._marks:
            raise InvalidInputError(
                f"A forecast must get its outcome once and in time, got number {number}, which has been learned, "
                "marked, or given up."
            )
        if (ticket.segment, ticket.served) != (forecast.segment, forecast.served):
            raise InvalidInputError(
                f"Forecast {number} must come back as it was issued (segment {ticket.segment!r}, served "
                f"{ticket.served:.6g}), got segment {forecast.segment!r}, served {forecast.served:.6g}."
            )

    def _leave(self, segment: str) -> None:
        self._in_segment[segment] -= 1
        if not self._in_segment[segment]:
            del self._in_segment[segment]

    def _remember(self, number: int) -> None:
        self._expired[number] = None
        if len(self._expired) > _REMEMBERED:
            del self._expired[next(iter(self._expired))]

    def _read_mark(self, saved: StateReader, entry: Any, read_forecast: Callable[[Any], F]) -> None:
        if not isinstance(entry, list) or len(entry) != 3 or entry[2] not in (0, 1) or entry[0] not in self._tickets:
            raise saved.misfit("marked", "a list of outstanding number, forecast, outcome", entry)
        number, forecast, y = entry
        self._marks[number] = (None if forecast is None else read_forecast(forecast)), y


def _read_ticket(saved: StateReader, entry: Any, *, low: int, below: int) -> tuple[int, Ticket]:
    if not isinstance(entry, list) or len(entry) != 4 or not is_whole(entry[0], low) or entry[0] >= below:
        raise saved.misfit("outstanding", "a list of increasing number, segment, served, slot", entry)
    number, segment, served, slot = entry
    if not isinstance(served, float) or not 0.0 <= served <= 1.0 or not is_whole(slot, 0):
        raise saved.misfit("outstanding", "a list of increasing number, segment, served, slot", entry)
    if segment is not None and not isinstance(segment, str):
        raise saved.misfit("outstanding", "a list whose segments are texts or null", entry)
    return number, Ticket(segment, served, slot)
