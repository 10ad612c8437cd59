"""Events on their way to the service at the pace of their times, whatever happens to the service meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from mlflow_caliber.exceptions import ServiceError

__all__ = ["Sent", "send_at_their_times", "time_of"]

Message = Mapping[str, Any]
_TICK, _LONGEST_PAUSE = 0.2, 10.0
# So many events wait for a service that is away; more are made when it is back.
_WAITING = 50_000
# Answers that another try changes nothing of.
_HOPELESS = frozenset({400, 401, 403, 404, 405, 409, 413, 415, 422})


@dataclass
class Sent:
    """What became of the events."""

    predictions: int = 0
    outcomes: int = 0
    refused: int = 0

    def count(self, messages: Sequence[Message], refused: Sequence[Message]) -> None:
        """Add what was sent, and what of it was not taken."""
        said = sum(message["kind"] == "prediction" for message in messages)
        self.predictions += said
        self.outcomes += len(messages) - said
        if refused and not self.refused:
            click.echo(f"Refused: {refused[0].get('sentence', refused[0])}", err=True)
        self.refused += len(refused)


def time_of(message: Message) -> float:
    """When it happens."""
    return float(message["predicted_at"] if message["kind"] == "prediction" else message["observed_at"])


def send_at_their_times(
    messages: Iterator[Message],
    send: Callable[[Sequence[Message]], Sequence[Message]],
    stop: threading.Event,
    until: float,
    *,
    patience: float = 60.0,
) -> Sent:
    """Send each event when its time has come, and again as long as the service is away.

    Their ids make that harmless: what had arrived already counts as known. A service that is still away ``patience``
    seconds after the end raises :class:`ServiceError`.
    """
    sent, pending, pause = Sent(), list[Message](), _TICK
    ahead = next(messages)
    while not stop.is_set():
        now = time.time()
        while time_of(ahead) <= min(now, until) and len(pending) < _WAITING:
            pending.append(ahead)
            ahead = next(messages)
        try:
            if pending:
                sent.count(pending, send(pending))
            pending, pause = [], _TICK
        except ServiceError as error:
            if error.status in _HOPELESS or now > until + patience:
                raise
            pause = min(_LONGEST_PAUSE, 2.0 * pause)
            click.echo(f"{error} {len(pending)} events wait; trying again in {pause:.1f} s.", err=True)
        if not pending and time_of(ahead) > until and now >= until:
            break
        stop.wait(min(pause, max(0.01, until - now)) if now < until else pause)
    return sent
