"""Why a case came to a person, and what an answer did: in sentences and numbers for reviewers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlflow_caliber.model import REASONS
from mlflow_caliber.store import Answered, Review, Stream, StreamSettings

__all__ = ["effect_of", "interval_of", "rule_of", "runner_up"]

# A bin that is further away says nothing of a case.
_NEAR = 0.05


def rule_of(review: Review, settings: StreamSettings) -> str:
    """Why somebody should see it.

    Examples
    --------
    >>> from mlflow_caliber.store import Prediction, open_store
    >>> stream = open_store("sqlite://").stream("churn", "1", classes=["no", "yes"])
    >>> _ = stream.change_settings(StreamSettings(abstain_threshold=0.8), "mia")
    >>> _ = stream.record_predictions([Prediction(
    ...     prediction_id="a", predicted_at=0.0, raw_probability=0.5, base_probability=0.5, probability=0.6,
    ...     prediction="yes", confidence=0.6, abstained=None)])
    >>> rule_of(stream.review("a"), stream.settings())
    'The confidence 0.600 was below the threshold at the time (now 0.8).'
    """
    also = " The reviewers disagree." if review.disputed and not review.is_decided else ""
    also += " It was passed on to somebody else." if review.escalated and not review.is_decided else ""
    return _why(review, settings.abstain_threshold) + also


def runner_up(review: Review, classes: Sequence[str] | None) -> tuple[str, float] | None:
    """The class that comes next, with its probability; None when it is not known."""
    others = [name for name in classes or () if name != review.prediction]
    if not others or review.confidence is None:
        return None
    if review.probabilities is None:
        return (others[0], 1.0 - review.confidence) if len(others) == 1 else None
    known = dict(zip(classes or (), review.probabilities, strict=True))
    best = max(others, key=lambda name: known[name])
    return best, known[best]


def interval_of(review: Review, bins: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """How often predictions of about this probability came true: the interval of the nearest reliability bin."""

    def distance(each: dict[str, Any]) -> float:
        return float(max(each["low"] - review.probability, review.probability - each["high"], 0.0))

    known = [each for each in bins if each["n"] and distance(each) <= _NEAR]
    if review.confidence is None or not known:
        return None
    nearest = min(known, key=distance)
    return nearest["observed_low"], nearest["observed_high"]


def effect_of(answered: Answered, stream: Stream) -> str:
    """What became of the answer, in a sentence."""
    review = answered.review
    if review.status == "declined" and answered.label is not None:
        return f"The answer is kept, and the case stays closed until {review.answers_wanted} reviewers agree."
    if review.status == "declined":
        return "Nobody could judge it: the case is closed, and no outcome was recorded."
    if review.status == "done":
        return _told(answered, stream)
    if review.escalated:
        return "The case is passed on: it waits among the escalated ones."
    if review.disputed and review.n_answers >= review.answers_wanted:
        return f"The answer is kept: {review.n_answers} so far, and they disagree, so that nothing is decided."
    return f"The answer is kept: {review.n_answers} so far, and {review.answers_wanted} reviewers must agree."


def _told(answered: Answered, stream: Stream) -> str:
    outcome, known = answered.review.outcome, answered.known
    if answered.recorded and (known is None or known.outcome != outcome):
        instead = "" if known is None else f", and replaces {known.outcome!r} ({_source(known.source)})"
        return f"The outcome {outcome!r} was recorded for {stream.subject}{instead}."
    if known is None:
        return "Nothing has changed: that is what was decided."
    return f"The outcome {known.outcome!r} was known already ({_source(known.source)}), and the review agrees."


def _why(review: Review, threshold: float | None) -> str:
    if review.origin == "audit":
        return "Drawn at random: a share of the answered predictions is checked, whatever their confidence."
    if review.reason == "low_confidence" and review.confidence is not None:
        # Whose threshold withheld it is not recorded: the stream's may have changed, or the sender has its own.
        now = "" if threshold is None else f" (now {threshold:g})"
        return f"The confidence {_figure(review.confidence)} was below the threshold at the time{now}."
    if not review.reason:
        return "The model withheld its answer, and gave no reason."
    text = REASONS.get(review.reason, f"the model withheld its answer: {review.reason}")
    return f"{text[:1].upper()}{text[1:]}."


def _figure(value: float) -> str:
    """As the page writes it: ``figure`` of static/words.js."""
    if value == 0.0 or value >= 0.0005:
        return f"{value:.3f}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}e{int(power)}"


def _source(source: str) -> str:
    return {"observed": "observed meanwhile", "review": "from a review", "audit": "from an audit"}.get(source, source)
