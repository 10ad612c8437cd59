"""What the live service keeps: who may use it, what reviewers answer, settings and summaries of streams."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

__all__ = ["downgrade", "upgrade"]

revision = "0003"
down_revision = "0002"

_REVIEW_COLUMNS = ("origin", "confidence", "lease_expires_at", "n_answers", "disputed", "escalated", "queue_place")
# Minutes that a reviewer has a case, by default.
_LEASE = 15.0
_INDEXES = {
    "reviews_queue_place": ("reviews", ["stream_id", "status", "queue_place", "prediction_id"]),
    "reviews_decided_at": ("reviews", ["stream_id", "decided_at"]),
    "audit_subject": ("audit", ["subject", "action", "at"]),
}


def upgrade() -> None:
    """Create the tables, and give reviews their new columns."""
    _create_settings()
    _create_tokens()
    _create_summaries()
    with op.batch_alter_table("reviews") as reviews:
        reviews.add_column(sa.Column("origin", sa.Text, nullable=False, server_default="abstained"))
        reviews.add_column(sa.Column("confidence", sa.Double))
        reviews.add_column(sa.Column("lease_expires_at", sa.Double))
        reviews.add_column(sa.Column("n_answers", sa.Integer, nullable=False, server_default="0"))
        reviews.add_column(sa.Column("disputed", sa.Boolean, nullable=False, server_default=sa.false()))
        reviews.add_column(sa.Column("escalated", sa.Boolean, nullable=False, server_default=sa.false()))
        reviews.add_column(sa.Column("queue_place", sa.Double, nullable=False, server_default="0"))
    for name, (table, columns) in _INDEXES.items():
        op.create_index(name, table, columns)
    op.create_table(
        "review_answers",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("prediction_id", sa.Text, nullable=False),
        sa.Column("reviewer", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "prediction_id", "reviewer", name="review_answers_pk"),
    )
    op.execute(
        "UPDATE reviews SET confidence = (SELECT confidence FROM predictions WHERE "
        "predictions.stream_id = reviews.stream_id AND predictions.prediction_id = reviews.prediction_id)"
    )
    # Who holds a case goes on holding it for as long as if it had just been claimed.
    held = sa.text("UPDATE reviews SET lease_expires_at = :until WHERE status = 'claimed'")
    op.execute(held.bindparams(until=time.time() + 60.0 * _LEASE))
    # As the store has it for new cases: a week of waiting is worth as much as the whole of a confidence.
    op.execute(
        "UPDATE reviews SET queue_place = created_at / 604800.0 + "
        "CASE WHEN reason = 'unscorable_row' THEN 0.0 ELSE COALESCE(confidence, 0.0) END"
    )


def downgrade() -> None:
    """Drop them; the log and the reviews stay."""
    # To the older schema, a case that is claimed by nobody would be claimed for ever.
    op.execute("UPDATE reviews SET status = 'open' WHERE status = 'claimed' AND claimed_by IS NULL")
    for table in ("review_answers", "observations", "summaries", "tokens", "settings"):
        op.drop_table(table)
    for name, (table, _) in _INDEXES.items():
        op.drop_index(name, table)
    with op.batch_alter_table("reviews") as reviews:
        for name in _REVIEW_COLUMNS:
            reviews.drop_column(name)


def _create_settings() -> None:
    op.create_table(
        "settings",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), primary_key=True, autoincrement=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("models", sa.JSON),
        sa.Column("parent_id", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
    )
    op.create_index("tokens_parent_id", "tokens", ["parent_id"])


def _create_summaries() -> None:
    op.create_table(
        "summaries",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("part", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "part", name="summaries_pk"),
    )
    op.create_table(
        "observations",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
    )
