"""Long history: rollups by hour, day and month, and on PostgreSQL a log that is cut into partitions by stream."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["downgrade", "upgrade"]

revision = "0004"
down_revision = "0003"

_PARTITIONS = 16
_COLUMNS = {
    "predictions": (
        "stream_id, seq, prediction_id, predicted_at, recorded_at, raw_probability, base_probability, probability, "
        "prediction, confidence, abstained, reason, segment, calibrator_revision, probabilities, features"
    ),
    "outcomes": "stream_id, seq, prediction_id, outcome, observed_at, recorded_at, source, known, correction",
}
_KEYS = {
    "predictions": {
        "predictions_pk": "PRIMARY KEY (stream_id, seq)",
        "predictions_prediction_id": "UNIQUE (stream_id, prediction_id)",
    },
    "outcomes": {"outcomes_pk": "PRIMARY KEY (stream_id, seq)"},
}
_INDEXES = {
    "predictions": {"predictions_recorded_at": ["stream_id", "recorded_at"]},
    "outcomes": {"outcomes_prediction_id": ["stream_id", "prediction_id", "seq"]},
}


def upgrade() -> None:
    """Create the tables; the summaries are made anew from the log, and the rollups with them."""
    _create_rollups()
    op.execute("DELETE FROM summaries")
    if op.get_bind().dialect.name == "postgresql":
        for table in _COLUMNS:
            _copy(table, " PARTITION BY HASH (stream_id)", _PARTITIONS)


def downgrade() -> None:
    """Drop them: of what was pruned, nothing is left. The log stays, in one piece."""
    op.execute("DELETE FROM summaries")
    for table in ("rollup_heads", "rollup_runs", "rollups"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in _COLUMNS:
            _copy(table, "", 0)


def _copy(table: str, how: str, partitions: int) -> None:
    """Put the rows into a new table of the same name. The keys are made at the end: that is faster."""
    op.execute(f"ALTER TABLE {table} RENAME TO {table}_old")
    op.execute(f"CREATE TABLE {table} (LIKE {table}_old INCLUDING DEFAULTS){how}")
    for number in range(partitions):
        values = f"FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number})"
        op.execute(f"CREATE TABLE {table}_p{number:02d} PARTITION OF {table} {values}")
    columns = _COLUMNS[table]
    op.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}_old")  # noqa: S608 - names of our own
    op.execute(f"DROP TABLE {table}_old")
    for name, key in _KEYS[table].items():
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {key}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES streams")
    for name, on in _INDEXES[table].items():
        op.create_index(name, table, on)


def _create_rollups() -> None:
    op.create_table(
        "rollups",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("segment", sa.Text, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("answered", sa.BigInteger, nullable=False),
        sa.Column("abstained", sa.BigInteger, nullable=False),
        sa.Column("scorable_answered", sa.BigInteger, nullable=False),
        sa.Column("scorable_abstained", sa.BigInteger, nullable=False),
        sa.Column("labelled", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "segment", "level", "start", name="rollups_pk"),
    )
    op.create_table(
        "rollup_runs",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("predictions", sa.BigInteger, nullable=False),
        sa.Column("changes", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "position", name="rollup_runs_pk"),
    )
    op.create_table(
        "rollup_heads",
        sa.Column("stream_id", sa.Integer, sa.ForeignKey("streams.id"), primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("merges", sa.BigInteger, nullable=False),
        sa.Column("hours_from", sa.BigInteger, nullable=False),
        sa.Column("days_from", sa.BigInteger, nullable=False),
        sa.Column("pruned", sa.BigInteger, nullable=False),
        sa.Column("gaps", sa.BigInteger, nullable=False),
        sa.Column("about", sa.Text),
    )
