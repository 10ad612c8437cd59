"""What production says, kept: predictions, outcomes, reviews, revisions and alarms, in SQLite or PostgreSQL.

Each model version has one stream, and each stream one ordered log that predictions and outcomes share. Writing is
idempotent, a batch is recorded whole or not at all, and nothing that was recorded is ever overwritten: see
``docs/user-guide/store.md``. This room learns nothing and serves nothing.
"""

from mlflow_caliber.exceptions import OptionalDependencyError

try:
    import alembic  # noqa: F401
    import sqlalchemy  # noqa: F401
except ModuleNotFoundError as error:
    raise OptionalDependencyError("The store needs SQLAlchemy: pip install 'mlflow-caliber[live]'.") from error

from mlflow_caliber.store._alarms import SEVERITIES, Alarm
from mlflow_caliber.store._answers import ANSWERS, ReviewAnswer
from mlflow_caliber.store._article_buffer import import_article_buffer
from mlflow_caliber.store._backfill import AddedHistory
from mlflow_caliber.store._base import AuditEntry
from mlflow_caliber.store._database import check_store_uri
from mlflow_caliber.store._events_file import check_events_file, export_events, import_events
from mlflow_caliber.store._history import HistoryDay
from mlflow_caliber.store._json import json_from_bytes
from mlflow_caliber.store._learner import Learner, Lease
from mlflow_caliber.store._listing import STAGES, Said, Tail
from mlflow_caliber.store._messages import (
    OUTCOME_KEYS,
    PREDICTION_KEYS,
    message_from_app,
    outcome_from_message,
    prediction_from_message,
)
from mlflow_caliber.store._migrate import downgrade, upgrade
from mlflow_caliber.store._record import LOW_CONFIDENCE, Item
from mlflow_caliber.store._replicas import Replica
from mlflow_caliber.store._review_queue import REVIEW_LISTS, ReviewQueue, review_queue
from mlflow_caliber.store._review_rows import Review
from mlflow_caliber.store._reviews import Answered
from mlflow_caliber.store._revisions import NewRevision, Revision
from mlflow_caliber.store._rollups import (
    LEVELS,
    NewRollups,
    NewRun,
    RollupHead,
    RollupRow,
    RollupRun,
    RollupView,
    start_of,
)
from mlflow_caliber.store._rows import checked_row
from mlflow_caliber.store._settings import REVIEW_ORDERS, ReviewSettings, StreamSettings
from mlflow_caliber.store._store import Attention, Store, open_store
from mlflow_caliber.store._stream import Stream
from mlflow_caliber.store._summaries import Figures, SaidRow, ToldRow
from mlflow_caliber.store._tokens import ROLES, Token
from mlflow_caliber.store._values import (
    BadLine,
    ImportReport,
    LogEntry,
    Outcome,
    Prediction,
    Receipt,
    Refusal,
    StreamCounts,
)

__all__ = [
    "ANSWERS",
    "LEVELS",
    "LOW_CONFIDENCE",
    "OUTCOME_KEYS",
    "PREDICTION_KEYS",
    "REVIEW_LISTS",
    "REVIEW_ORDERS",
    "ROLES",
    "SEVERITIES",
    "STAGES",
    "AddedHistory",
    "Alarm",
    "Answered",
    "Attention",
    "AuditEntry",
    "BadLine",
    "Figures",
    "HistoryDay",
    "ImportReport",
    "Item",
    "Learner",
    "Lease",
    "LogEntry",
    "NewRevision",
    "NewRollups",
    "NewRun",
    "Outcome",
    "Prediction",
    "Receipt",
    "Refusal",
    "Replica",
    "Review",
    "ReviewAnswer",
    "ReviewQueue",
    "ReviewSettings",
    "Revision",
    "RollupHead",
    "RollupRow",
    "RollupRun",
    "RollupView",
    "Said",
    "SaidRow",
    "Store",
    "Stream",
    "StreamCounts",
    "StreamSettings",
    "Tail",
    "Token",
    "ToldRow",
    "check_events_file",
    "check_store_uri",
    "checked_row",
    "downgrade",
    "export_events",
    "import_article_buffer",
    "import_events",
    "json_from_bytes",
    "message_from_app",
    "open_store",
    "outcome_from_message",
    "prediction_from_message",
    "review_queue",
    "start_of",
    "upgrade",
]
