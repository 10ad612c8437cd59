"""What watching a stream leaves behind: alarms, the history of compacted days, the audit trail, who serves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["downgrade", "upgrade"]

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables."""
    _create_alarms()
    op.create_table(
        "history",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("day", sa.Text, nullable=False),
        sa.Column("statistics", sa.JSON, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("unlabelled", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "day", name="history_pk"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )

    op.create_table(
        "replicas",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("dropped", sa.BigInteger, nullable=False),
        sa.Column("trouble", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "name", name="replicas_pk"),
    )


def downgrade() -> None:
    """Drop them; the log stays."""
    for table in ("replicas", "audit", "history", "alarms"):
        op.drop_table(table)


def _create_alarms() -> None:
    op.create_table(
        "alarms",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("opened_at", sa.Double, nullable=False),
        sa.Column("last_seen_at", sa.Double, nullable=False),
        sa.Column("resolved_at", sa.Double),
        sa.Column("notified_at", sa.Double),
    )
    still_open = sa.text("resolved_at IS NULL")
    op.create_index(
        "alarms_open",
        "alarms",
        ["stream_id", "kind", "key"],
        unique=True,
        sqlite_where=still_open,
        postgresql_where=still_open,
    )
