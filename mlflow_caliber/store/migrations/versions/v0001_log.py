"""The log of each stream, who learns from it, and what was learned."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["downgrade", "upgrade"]

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of the log, of the learner and of the reviews."""
    _create_streams()
    _create_predictions()
    _create_outcomes()
    _create_refused()
    _create_learners()
    _create_revisions()
    _create_reviews()


def downgrade() -> None:
    """Drop them, and with them everything that was recorded."""
    for table in ("reviews", "revisions", "learners", "refused", "outcomes", "predictions", "streams"):
        op.drop_table(table)


def _create_streams() -> None:
    op.create_table(
        "streams",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("classes", sa.JSON),
        sa.Column("positive", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("next_seq", sa.BigInteger, nullable=False),
        sa.Column("last_recorded_at", sa.Double, nullable=False),
        sa.Column("current_revision", sa.Integer),
        sa.Column("pinned_revision", sa.Integer),
        sa.UniqueConstraint("model", "version", name="streams_model_version"),
    )


def _create_predictions() -> None:
    op.create_table(
        "predictions",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("prediction_id", sa.Text, nullable=False),
        sa.Column("predicted_at", sa.Double, nullable=False),
        sa.Column("recorded_at", sa.Double, nullable=False),
        sa.Column("raw_probability", sa.Double, nullable=False),
        sa.Column("base_probability", sa.Double, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("prediction", sa.Text, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("abstained", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("segment", sa.Text),
        sa.Column("calibrator_revision", sa.Text, nullable=False),
        sa.Column("probabilities", sa.JSON),
        sa.Column("features", sa.JSON),
        sa.PrimaryKeyConstraint("stream_id", "seq", name="predictions_pk"),
        sa.UniqueConstraint("stream_id", "prediction_id", name="predictions_prediction_id"),
    )
    op.create_index("predictions_recorded_at", "predictions", ["stream_id", "recorded_at"])


def _create_outcomes() -> None:
    op.create_table(
        "outcomes",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("prediction_id", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("observed_at", sa.Double, nullable=False),
        sa.Column("recorded_at", sa.Double, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("known", sa.Boolean, nullable=False),
        sa.Column("correction", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "seq", name="outcomes_pk"),
    )
    op.create_index("outcomes_prediction_id", "outcomes", ["stream_id", "prediction_id", "seq"])


def _create_refused() -> None:
    op.create_table(
        "refused",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id")),
        sa.Column("recorded_at", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("prediction_id", sa.Text, nullable=False),
        sa.Column("content", sa.JSON),
        sa.Column("sentence", sa.Text, nullable=False),
    )
    op.create_index("refused_stream_id", "refused", ["stream_id", "id"])


def _create_learners() -> None:
    op.create_table(
        "learners",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), primary_key=True, autoincrement=False),
        sa.Column("holder", sa.Text),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("lease_expires_at", sa.Double, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("settled", sa.BigInteger),
        sa.Column("state", sa.LargeBinary),
        sa.Column("state_format", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )


def _create_revisions() -> None:
    op.create_table(
        "revisions",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("n_learned", sa.BigInteger, nullable=False),
        sa.Column("map", sa.JSON, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "number", name="revisions_pk"),
    )


def _create_reviews() -> None:
    op.create_table(
        "reviews",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("prediction_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("claimed_by", sa.Text),
        sa.Column("claimed_at", sa.Double),
        sa.Column("decided_at", sa.Double),
        sa.Column("reviewer", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("note", sa.Text),
        sa.PrimaryKeyConstraint("stream_id", "prediction_id", name="reviews_pk"),
    )
    op.create_index("reviews_status", "reviews", ["stream_id", "status", "created_at"])
