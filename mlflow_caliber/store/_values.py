"""What goes into the log and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BadLine", "ImportReport", "LogEntry", "Outcome", "Prediction", "Receipt", "Refusal", "StreamCounts"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One answer of a model, as it was served.

    Parameters
    ----------
    prediction_id : str
        Names the prediction within its stream; outcomes refer to it.
    predicted_at : float or None
        When, in seconds since 1970 (UTC), by the model's clock. None: when it is recorded.
    raw_probability, base_probability, probability : float
        What the model said, what the calibrator that it was shipped with made of it, and what was served: of the
        positive class; of the predicted class when there are more than two.
    prediction : label
        The predicted class.
    confidence : float
        The served probability of the predicted class.
    abstained : bool or None
        Whether a person should decide; such a prediction enters the reviews. None: the stream's threshold says.
    reason : str
        Why; empty when not abstained.
    segment : str, optional
        The segment whose calibrator was used.
    calibrator_revision : str
        Which calibrator answered.
    probabilities : sequence of float, optional
        Of all classes, in the stream's order.
    features : mapping, optional
        What the model saw, as plain JSON values; a number that is not finite is kept as null.

    Examples
    --------
    >>> Prediction(prediction_id="a", predicted_at=0.0, raw_probability=0.9, base_probability=0.8, probability=0.8,
    ...            prediction=1, confidence=0.8).abstained
    False
    """

    prediction_id: str
    predicted_at: float | None
    raw_probability: float
    base_probability: float
    probability: float
    prediction: Any
    confidence: float
    abstained: bool | None = False
    reason: str = ""
    segment: str | None = None
    calibrator_revision: str = ""
    probabilities: Sequence[float] | None = None
    features: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened.

    Parameters
    ----------
    prediction_id : str
        The prediction that this is about; it may be recorded later.
    outcome : label
        The class that came true.
    observed_at : float
        When, in seconds since 1970 (UTC).
    source : {"observed", "review", "audit"}
        Whether it came by itself, from the review of an abstained prediction, or from a random sample that was checked.

    Examples
    --------
    >>> Outcome(prediction_id="a", outcome=1, observed_at=60.0).source
    'observed'
    """

    prediction_id: str
    outcome: Any
    observed_at: float
    source: str = "observed"


@dataclass(frozen=True)
class Refusal:
    """A row that was not taken, and why. It is kept in the store with its sentence.

    ``kind`` is "prediction", "outcome", or "conflict" for a prediction whose id is taken by another content; ``index``
    is the place in the batch, counted from 0.
    """

    kind: str
    prediction_id: str
    sentence: str
    index: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Receipt:
    """What became of a batch: it is on disk when this is returned.

    ``recorded`` rows were new (``corrections`` of them are outcomes that replace another), ``duplicates`` were known.
    ``withheld`` are the ids of the batch's predictions, new or known, that go to a person; ``seqs`` has for each event
    the number of its entry in the log, and None where there is no new one.
    """

    recorded: int = 0
    duplicates: int = 0
    corrections: int = 0
    refused: tuple[Refusal, ...] = ()
    withheld: tuple[str, ...] = field(default=(), compare=False)
    seqs: tuple[int | None, ...] = field(default=(), compare=False)

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(
            self.recorded + other.recorded,
            self.duplicates + other.duplicates,
            self.corrections + other.corrections,
            self.refused + other.refused,
            self.withheld + other.withheld,
            self.seqs + other.seqs,
        )


@dataclass(frozen=True)
class LogEntry:
    """One row of a stream's log. Labels are texts, as the stream's classes spell them.

    Of an outcome, ``known`` says whether its prediction stands before it, and ``correction`` whether another outcome
    of that prediction does.
    """

    seq: int
    recorded_at: float
    event: Prediction | Outcome
    known: bool = True
    correction: bool = False


@dataclass(frozen=True, kw_only=True)
class StreamCounts:
    """How much a stream holds; ``compacted`` predictions are in its history only."""

    predictions: int
    outcomes: int
    unmatched: int
    unlabelled: int
    corrections: int
    refused: int
    compacted: int
    last_prediction_at: float | None
    last_outcome_at: float | None


@dataclass(frozen=True)
class BadLine:
    """A line (of Parquet: a row) of a file that could not be read, counted from 1."""

    number: int
    sentence: str


@dataclass(frozen=True)
class ImportReport:
    """What became of a file."""

    receipt: Receipt
    bad_lines: tuple[BadLine, ...] = ()
