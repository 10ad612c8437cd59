"""What a stream is told to do: when predictions are withheld, and how they are reviewed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_caliber._validation import check_at_least, check_choice, check_count, check_known_keys, check_unit_interval
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._base import StreamBase
from mlflow_caliber.store._checks import check_name, check_stored_text, label_text
from mlflow_caliber.store._record import locked_stream
from mlflow_caliber.store._schema import audit, predictions, settings

__all__ = ["REVIEW_ORDERS", "ReviewSettings", "SettingsPart", "StreamSettings"]

REVIEW_ORDERS = ("uncertain", "oldest", "cost")
_MOST_ANSWERS = 9
_CHANGED = "change_settings"
_UNCHANGED = ({"audit_share": 0.0},) * 2


@dataclass(frozen=True, kw_only=True)
class ReviewSettings:
    """How the cases of a stream are reviewed.

    Parameters
    ----------
    order : {"uncertain", "oldest", "cost"}
        Which case comes first: the least confident, the longest waiting, the one whose error is expected to cost most.
    answers : int, default=1
        So many reviewers must give one answer before a case is decided, 1 to 9.
    capacity_per_day : int, optional
        How many cases are handed out a day (UTC).
    lease_minutes : float, default=15
        For how long a claimed case is nobody else's.
    audit_share : float, default=0
        The share of answered predictions that is reviewed all the same, drawn by the hash of their ids.
    costs : mapping of label to number, optional
        What it costs to miss a case of that label; 1 for those not named.

    Examples
    --------
    >>> ReviewSettings(answers=2).order
    'uncertain'
    """

    order: str = "uncertain"
    answers: int = 1
    capacity_per_day: int | None = None
    lease_minutes: float = 15.0
    audit_share: float = 0.0
    costs: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice(self.order, "order", REVIEW_ORDERS)
        if check_count(self.answers, "answers") > _MOST_ANSWERS:
            raise InvalidInputError(f"answers must be at most {_MOST_ANSWERS}, got {self.answers}.")
        if self.capacity_per_day is not None:
            check_count(self.capacity_per_day, "capacity_per_day", minimum=0)
        if not 0.0 < check_at_least(self.lease_minutes, "lease_minutes", 0.0) <= 1440.0:
            raise InvalidInputError(f"lease_minutes must be above 0 and at most 1440, got {self.lease_minutes:g}.")
        check_unit_interval(self.audit_share, "audit_share")
        if not isinstance(self.costs, Mapping):
            raise InvalidInputError(f"costs must map labels to numbers, got {self.costs!r:.80}.")
        for label, cost in self.costs.items():
            check_at_least(cost, f"costs of {check_name(label, 'each label of costs')!r}", 0.0)


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """What a stream is told to do.

    Parameters
    ----------
    abstain_threshold : float, optional
        A prediction that comes without a decision of its own is withheld when its confidence is below; without a
        threshold none is.
    stage : str
        Where the version stands, in words of the user's own.
    parent_version : str, optional
        The version that it was made from.
    review : ReviewSettings
        How its cases are reviewed.

    Examples
    --------
    >>> StreamSettings(abstain_threshold=0.8).to_dict()["review"]["order"]
    'uncertain'
    """

    abstain_threshold: float | None = None
    stage: str = ""
    parent_version: str | None = None
    review: ReviewSettings = field(default_factory=ReviewSettings)

    def __post_init__(self) -> None:
        if self.abstain_threshold is not None:
            check_unit_interval(self.abstain_threshold, "abstain_threshold")
        check_stored_text(self.stage, "stage", 200)
        if self.parent_version is not None:
            check_name(self.parent_version, "parent_version")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "review": {**asdict(self.review), "costs": dict(self.review.costs)}}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` gave; a key that is missing has its default, one that is not known is an error."""
        check_known_keys(content, cls.__dataclass_fields__, "the settings")
        review = content.get("review", {})
        if not isinstance(review, Mapping):
            raise InvalidInputError(f"review must be a mapping, got {review!r:.80}.")
        check_known_keys(review, ReviewSettings.__dataclass_fields__, "review")
        return cls(**{**content, "review": ReviewSettings(**review)})


class SettingsPart(StreamBase):
    """The settings of the stream."""

    def settings(self) -> StreamSettings:
        """As they are now.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").stream("churn", "1").settings().abstain_threshold is None
        True
        """
        with self._database.read() as connection:
            return settings_of(connection, self._id)

    def change_settings(self, new: StreamSettings, actor: str) -> StreamSettings:
        """Set them, and note in the audit trail who did and what has changed.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> store = open_store("sqlite://")
        >>> stream = store.stream("churn", "1")
        >>> stream.change_settings(StreamSettings(abstain_threshold=0.8), "mia").abstain_threshold
        0.8
        >>> store.audit_trail()[0].detail
        {'abstain_threshold': [None, 0.8]}
        """
        content = new.to_dict()
        with self._database.write() as connection:
            classes = locked_stream(connection, self._id)["classes"]
            for label in new.review.costs:
                label_text(label, classes, "each label of costs")
            before = settings_of(connection, self._id).to_dict()
            changed = {key: [before[key], value] for key, value in content.items() if before[key] != value}
            if changed:
                connection.execute(sa.delete(settings).where(settings.c.stream_id == self._id))
                row = {"stream_id": self._id, "content": content, "updated_at": self._database.now(connection)}
                connection.execute(sa.insert(settings).values(row))
                self._audit(connection, actor, _CHANGED, changed)
        return new

    def audit_share_changed_at(self) -> float | None:
        """When the share of answers that is audited was last changed while there were predictions already.

        Audits from before and after stand for different shares of the predictions; None if all stand for one.

        Examples
        --------
        >>> from mlflow_caliber.store import open_store
        >>> open_store("sqlite://").stream("churn", "1").audit_share_changed_at() is None
        True
        """
        changes = sa.select(audit.c.at, audit.c.detail).order_by(audit.c.at.desc())
        mine = (audit.c.subject == self.subject) & (audit.c.action == _CHANGED)
        oldest = sa.select(predictions.c.recorded_at).order_by(predictions.c.seq).limit(1)
        with self._database.read() as connection:
            for at, detail in connection.execute(changes.where(mine)):
                before, after = (each["audit_share"] for each in detail.get("review", _UNCHANGED))
                if before != after:
                    first = connection.execute(oldest.where(predictions.c.stream_id == self._id)).scalar()
                    return None if first is not None and first > at else float(at)
        return None


def settings_of(connection: Connection, stream_id: int) -> StreamSettings:
    """The settings of a stream; those that were never set are the defaults."""
    content = connection.execute(_ASK, {"stream_id": stream_id}).scalar()
    return StreamSettings() if content is None else StreamSettings.from_dict(content)


_ASK = sa.select(settings.c.content).where(settings.c.stream_id == sa.bindparam("stream_id"))
