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
from mlflow_caliber.store._article_buffer import import_article_buffer
from mlflow_caliber.store._base import AuditEntry
from mlflow_caliber.store._events_file import export_events, import_events
from mlflow_caliber.store._history import HistoryDay
from mlflow_caliber.store._learner import Learner, Lease
from mlflow_caliber.store._migrate import downgrade, upgrade
from mlflow_caliber.store._replicas import Replica
from mlflow_caliber.store._reviews import Review
from mlflow_caliber.store._revisions import NewRevision, Revision
from mlflow_caliber.store._store import Store, open_store
from mlflow_caliber.store._stream import Stream
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
    "SEVERITIES",
    "Alarm",
    "AuditEntry",
    "BadLine",
    "HistoryDay",
    "ImportReport",
    "Learner",
    "Lease",
    "LogEntry",
    "NewRevision",
    "Outcome",
    "Prediction",
    "Receipt",
    "Refusal",
    "Replica",
    "Review",
    "Revision",
    "Store",
    "Stream",
    "StreamCounts",
    "downgrade",
    "export_events",
    "import_article_buffer",
    "import_events",
    "open_store",
    "upgrade",
]
