"""A model whose world drifts, simulated: for demonstrations, and for tests that must know the truth.

Nothing here waits or writes: :func:`simulate` yields predictions and outcomes in the order of their times.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlflow_caliber._validation import check_at_least, check_choice, check_count, check_number, check_unit_interval
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store import Outcome, Prediction

__all__ = ["CLASSES", "DRIFTS", "Simulation", "simulate", "simulated_messages"]

DRIFTS = ("none", "calibration", "covariate", "prior", "sudden")
CLASSES = ("stays", "leaves")
_REGIONS = {"north": -0.4, "south": 0.0, "west": 0.5}
# What the world does to the true log odds when a drift is complete: their slope and their intercept.
_TRUTH = {"calibration": (0.4, -0.3), "sudden": (0.4, -0.8)}
_OVERCONFIDENT = 1.7
_AGE_SHIFT, _RARER = 1.5, 0.3


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What is simulated.

    Parameters
    ----------
    drift : {"none", "calibration", "covariate", "prior", "sudden"}
        What goes wrong. "calibration": what happens depends less and less on what the model sees. "covariate": people
        grow older, and the model stays right. "prior": those who leave become the usual case, and look as they did.
        "sudden": like "calibration", further, from one prediction to the next.
    rate : float
        Predictions a second, at random times.
    labels : float
        The share of predictions whose outcome is told.
    delay : float
        How many seconds later, on average; exponential.
    seed : int
        The same settings give the same events.
    start : float
        When it begins, in seconds since 1970; also part of the ids, so that a later run has ids of its own.
    drift_after, ramp : int
        The drift begins after so many predictions, and grows for so many.

    Examples
    --------
    >>> Simulation(drift="prior").rate
    2.0
    >>> Simulation(drift="much")
    Traceback (most recent call last):
    mlflow_caliber.exceptions.InvalidInputError: drift must be one of none, calibration, covariate, prior, sudden, \
got 'much'.
    """

    drift: str = "none"
    rate: float = 2.0
    labels: float = 0.5
    delay: float = 10.0
    seed: int = 0
    start: float = 0.0
    drift_after: int = 300
    ramp: int = 300

    def __post_init__(self) -> None:
        check_choice(self.drift, "drift", DRIFTS)
        if check_at_least(self.rate, "rate", 0.0) == 0.0:
            raise InvalidInputError("rate must be above 0 predictions a second, got 0.")
        check_unit_interval(self.labels, "labels")
        check_at_least(self.delay, "delay", 0.0)
        check_count(self.seed, "seed", minimum=0)
        check_number(self.start, "start")
        check_count(self.drift_after, "drift_after", minimum=0)
        check_count(self.ramp, "ramp", minimum=0)

    def extent(self, number: int) -> float:
        """How far the drift has come at that prediction, from 0 to 1."""
        if self.drift == "none" or number < self.drift_after:
            return 0.0
        if self.drift == "sudden" or self.ramp == 0:
            return 1.0
        return min(1.0, (number - self.drift_after) / self.ramp)


def simulate(simulation: Simulation) -> Iterator[Prediction | Outcome]:
    """Predictions and outcomes without end, in the order of their times.

    The model is too sure of itself, and the calibrator that it is shipped with mends that, as long as nothing drifts.

    Examples
    --------
    >>> from itertools import islice
    >>> first = list(islice(simulate(Simulation(labels=1.0, delay=0.0)), 4))
    >>> [type(event).__name__ for event in first]
    ['Prediction', 'Outcome', 'Prediction', 'Outcome']
    >>> first == list(islice(simulate(Simulation(labels=1.0, delay=0.0)), 4))
    True
    """
    chance = random.Random(simulation.seed)  # noqa: S311 - a simulation has to be repeatable
    due: list[tuple[float, str, str]] = []
    now, number = simulation.start, 0
    while True:
        now += chance.expovariate(simulation.rate)
        while due and due[0][0] <= now:
            yield _outcome(*heapq.heappop(due))
        features, happened = _person(simulation, number, chance)
        prediction_id = f"sim-{simulation.seed}-{simulation.start:.0f}-{number:09d}"
        # Drawn whether or not it is told: other shares of labels leave the predictions as they are.
        told, wait = chance.random() < simulation.labels, chance.expovariate(1.0) * simulation.delay
        if told:
            heapq.heappush(due, (now + wait, prediction_id, CLASSES[happened]))
        yield _prediction(prediction_id, now, features)
        number += 1


def simulated_messages(simulation: Simulation) -> Iterator[dict[str, Any]]:
    """The same as JSON objects, as the service takes them, without what it would fill in.

    Examples
    --------
    >>> message = next(simulated_messages(Simulation()))
    >>> message["kind"], message["prediction"] in CLASSES
    ('prediction', True)
    """
    for event in simulate(simulation):
        kind = "prediction" if isinstance(event, Prediction) else "outcome"
        yield {"kind": kind, **{key: value for key, value in vars(event).items() if value is not None and value != ""}}


def _person(simulation: Simulation, number: int, chance: random.Random) -> tuple[dict[str, Any], int]:
    """Somebody as the model sees them, and whether they leave."""
    extent = simulation.extent(number)
    while True:
        older = _AGE_SHIFT * extent if simulation.drift == "covariate" else 0.0
        seen = {
            "age": round(chance.gauss(45.0 + 12.0 * older, 12.0), 1),
            "income": round(chance.gauss(50.0, 15.0), 1),
            "region": chance.choice(tuple(_REGIONS)),
        }
        slope, intercept = _TRUTH.get(simulation.drift, (1.0, 0.0))
        log_odds = _log_odds(seen) * (1.0 + extent * (slope - 1.0)) + extent * intercept
        happened = int(chance.random() < _sigmoid(log_odds))
        # Dropping some who stay, whoever they are, changes how many leave and not what those who leave look like.
        dropped = simulation.drift == "prior" and not happened and chance.random() < extent * (1.0 - _RARER)
        if not dropped:
            return seen, happened


def _prediction(prediction_id: str, now: float, seen: dict[str, Any]) -> Prediction:
    log_odds = _log_odds(seen)
    probability = _sigmoid(log_odds)
    return Prediction(
        prediction_id=prediction_id,
        predicted_at=now,
        raw_probability=_sigmoid(_OVERCONFIDENT * log_odds),
        base_probability=probability,
        probability=probability,
        prediction=CLASSES[probability >= 0.5],
        confidence=max(probability, 1.0 - probability),
        abstained=None,
        segment=seen["region"],
        features=seen,
    )


def _outcome(when: float, prediction_id: str, happened: str) -> Outcome:
    return Outcome(prediction_id=prediction_id, outcome=happened, observed_at=when)


def _log_odds(seen: dict[str, Any]) -> float:
    """What the model has learned: what was true before anything drifted."""
    return float(1.2 * (seen["age"] - 45.0) / 12.0 - 0.9 * (seen["income"] - 50.0) / 15.0 + _REGIONS[seen["region"]])


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))
