"""The tables of the newest schema. ``migrations/`` leads there; a test compares the two."""

from __future__ import annotations

import sqlalchemy as sa

__all__ = [
    "alarms",
    "audit",
    "history",
    "learners",
    "metadata",
    "observations",
    "outcomes",
    "predictions",
    "refused",
    "replicas",
    "review_answers",
    "reviews",
    "revisions",
    "rollup_heads",
    "rollup_runs",
    "rollups",
    "settings",
    "streams",
    "summaries",
    "tokens",
]

metadata = sa.MetaData()


def _json(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _real(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _big(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _stream() -> sa.Column[int]:
    return sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


streams = sa.Table(
    "streams",
    metadata,
    _id(),
    _text("model"),
    _text("version"),
    _json("classes"),
    _text("positive", nullable=True),
    _real("created_at"),
    _big("next_seq"),
    _real("last_recorded_at"),
    sa.Column("current_revision", sa.Integer),
    sa.Column("pinned_revision", sa.Integer),
    sa.UniqueConstraint("model", "version", name="streams_model_version"),
)

predictions = sa.Table(
    "predictions",
    metadata,
    _stream(),
    _big("seq"),
    _text("prediction_id"),
    _real("predicted_at"),
    _real("recorded_at"),
    _real("raw_probability"),
    _real("base_probability"),
    _real("probability"),
    _text("prediction"),
    _real("confidence"),
    sa.Column("abstained", sa.Boolean, nullable=False),
    _text("reason"),
    _text("segment", nullable=True),
    _text("calibrator_revision"),
    _json("probabilities"),
    _json("features"),
    sa.PrimaryKeyConstraint("stream_id", "seq", name="predictions_pk"),
    sa.UniqueConstraint("stream_id", "prediction_id", name="predictions_prediction_id"),
    sa.Index("predictions_recorded_at", "stream_id", "recorded_at"),
)

# No foreign key to predictions: an outcome may come before its prediction.
outcomes = sa.Table(
    "outcomes",
    metadata,
    _stream(),
    _big("seq"),
    _text("prediction_id"),
    _text("outcome"),
    _real("observed_at"),
    _real("recorded_at"),
    _text("source"),
    sa.Column("known", sa.Boolean, nullable=False),
    sa.Column("correction", sa.Boolean, nullable=False),
    sa.PrimaryKeyConstraint("stream_id", "seq", name="outcomes_pk"),
    sa.Index("outcomes_prediction_id", "stream_id", "prediction_id", "seq"),
)

refused = sa.Table(
    "refused",
    metadata,
    _id(),
    sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id")),
    _real("recorded_at"),
    _text("kind"),
    _text("prediction_id"),
    _json("content"),
    _text("sentence"),
    sa.Index("refused_stream_id", "stream_id", "id"),
)

learners = sa.Table(
    "learners",
    metadata,
    sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), primary_key=True, autoincrement=False),
    _text("holder", nullable=True),
    _big("epoch"),
    _real("lease_expires_at"),
    _big("position"),
    sa.Column("settled", sa.BigInteger),
    sa.Column("state", sa.LargeBinary),
    _text("state_format"),
    _real("updated_at"),
)

revisions = sa.Table(
    "revisions",
    metadata,
    _stream(),
    sa.Column("number", sa.Integer, nullable=False),
    _text("revision"),
    _real("created_at"),
    _big("position"),
    _big("n_learned"),
    _json("map", nullable=False),
    _json("metrics", nullable=False),
    _text("note"),
    sa.PrimaryKeyConstraint("stream_id", "number", name="revisions_pk"),
)

reviews = sa.Table(
    "reviews",
    metadata,
    _stream(),
    _text("prediction_id"),
    _text("status"),
    _text("reason"),
    _real("created_at"),
    _text("claimed_by", nullable=True),
    _real("claimed_at", nullable=True),
    _real("decided_at", nullable=True),
    _text("reviewer", nullable=True),
    _text("outcome", nullable=True),
    _text("note", nullable=True),
    sa.Column("origin", sa.Text, nullable=False, server_default="abstained"),
    _real("confidence", nullable=True),
    _real("lease_expires_at", nullable=True),
    sa.Column("n_answers", sa.Integer, nullable=False, server_default="0"),
    sa.Column("disputed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("escalated", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("queue_place", sa.Double, nullable=False, server_default="0"),
    sa.PrimaryKeyConstraint("stream_id", "prediction_id", name="reviews_pk"),
    sa.Index("reviews_status", "stream_id", "status", "created_at"),
    sa.Index("reviews_queue_place", "stream_id", "status", "queue_place", "prediction_id"),
    sa.Index("reviews_decided_at", "stream_id", "decided_at"),
)

# One row for each reviewer who answered, whatever the review comes to.
review_answers = sa.Table(
    "review_answers",
    metadata,
    _stream(),
    _text("prediction_id"),
    _text("reviewer"),
    _text("answer"),
    _text("label", nullable=True),
    _text("note"),
    _real("at"),
    sa.PrimaryKeyConstraint("stream_id", "prediction_id", "reviewer", name="review_answers_pk"),
)

_OPEN = sa.text("resolved_at IS NULL")

alarms = sa.Table(
    "alarms",
    metadata,
    _id(),
    _stream(),
    _text("kind"),
    _text("key"),
    _text("severity"),
    _text("sentence"),
    _json("evidence", nullable=False),
    _real("opened_at"),
    _real("last_seen_at"),
    _real("resolved_at", nullable=True),
    _real("notified_at", nullable=True),
    sa.Index("alarms_open", "stream_id", "kind", "key", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
)

history = sa.Table(
    "history",
    metadata,
    _stream(),
    _text("day"),
    _json("statistics", nullable=False),
    _big("n"),
    _big("unlabelled"),
    sa.PrimaryKeyConstraint("stream_id", "day", name="history_pk"),
)

replicas = sa.Table(
    "replicas",
    metadata,
    _stream(),
    _text("name"),
    _text("revision"),
    _big("dropped"),
    _text("trouble"),
    _real("seen_at"),
    sa.PrimaryKeyConstraint("stream_id", "name", name="replicas_pk"),
)

audit = sa.Table(
    "audit",
    metadata,
    _id(),
    _real("at"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _json("detail", nullable=False),
    sa.Index("audit_subject", "subject", "action", "at"),
)

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), primary_key=True, autoincrement=False),
    _json("content", nullable=False),
    _real("updated_at"),
)

# Of a token only the digest is kept: who steals the database can use none.
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    _text("kind"),
    _text("name"),
    _text("digest"),
    _json("roles", nullable=False),
    _json("models"),
    _text("parent_id", nullable=True),
    _real("created_at"),
    _real("expires_at", nullable=True),
    _real("revoked_at", nullable=True),
    sa.Index("tokens_parent_id", "parent_id"),
)

# What the log up to a position adds up to: it could be made again from the log, and never tells anything new.
summaries = sa.Table(
    "summaries",
    metadata,
    _stream(),
    _text("part"),
    _big("position"),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("stream_id", "part", name="summaries_pk"),
)

observations = sa.Table(
    "observations",
    metadata,
    sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), primary_key=True, autoincrement=False),
    _real("at"),
    _json("content", nullable=False),
)

# The same by hour, day and month, for longer than the rows are kept: what was pruned is only here.
rollups = sa.Table(
    "rollups",
    metadata,
    _stream(),
    _text("segment"),
    _text("level"),
    _big("start"),
    _big("answered"),
    _big("abstained"),
    _big("scorable_answered"),
    _big("scorable_abstained"),
    _big("labelled"),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("stream_id", "segment", "level", "start", name="rollups_pk"),
)

# What was added up lately, and is not in the rollups yet: many small changes are merged into them at once.
rollup_runs = sa.Table(
    "rollup_runs",
    metadata,
    _stream(),
    _big("position"),
    _big("predictions"),
    _big("changes"),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("stream_id", "position", name="rollup_runs_pk"),
)

rollup_heads = sa.Table(
    "rollup_heads",
    metadata,
    sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), primary_key=True, autoincrement=False),
    _big("position"),
    _big("merges"),
    _big("hours_from"),
    _big("days_from"),
    _big("pruned"),
    _big("gaps"),
    _text("about", nullable=True),
)
