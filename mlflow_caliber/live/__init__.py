"""What is done with what production says: learn from outcomes, publish revisions, watch and alert.

* :class:`Worker` learns from the logs of a store and publishes what it learned;
  :class:`StreamLearner` is the pure part of it, a function of a log's entries.
* :class:`Monitor` looks at every stream now and then: :func:`observe` reads, :func:`judge` finds what is wrong, and
  :class:`LogSink`, :class:`WebhookSink` and :class:`SlackSink` tell of it; :func:`verify_webhook` is for receivers.
* :class:`Reports` answers how far a stream can be relied on, as fast for a million rows as for a thousand, from a
  :class:`StreamSummary` that it keeps up with the log.
"""

from mlflow_caliber.live._alerts import (
    DeliveryError,
    LogSink,
    Notice,
    Sink,
    SlackSink,
    WebhookSink,
    sinks_from_dict,
    verify_webhook,
)
from mlflow_caliber.live._judge import MONITORED_KINDS, Finding, judge
from mlflow_caliber.live._learner import Counts, Losses, Observed, Predicted, StreamLearner
from mlflow_caliber.live._monitor import Monitor
from mlflow_caliber.live._observation import Observation
from mlflow_caliber.live._observe import MANY_UNREAD, observe
from mlflow_caliber.live._overview import STATES, advice_of
from mlflow_caliber.live._profiles import ModelProfiles, Reference
from mlflow_caliber.live._reports import DETAILS, LONG_WINDOWS, WINDOWS, Reports
from mlflow_caliber.live._retention import Retained, RetentionPolicy, prune_rows, retain, run_retention
from mlflow_caliber.live._settings import MonitorSettings, live_section, retention_section
from mlflow_caliber.live._summary import StreamSummary
from mlflow_caliber.live._tallies import SOURCES
from mlflow_caliber.live._worker import Worker, WorkerSettings
from mlflow_caliber.live._write_back import save_revision

__all__ = [
    "DETAILS",
    "LONG_WINDOWS",
    "MANY_UNREAD",
    "MONITORED_KINDS",
    "SOURCES",
    "STATES",
    "WINDOWS",
    "Counts",
    "DeliveryError",
    "Finding",
    "LogSink",
    "Losses",
    "ModelProfiles",
    "Monitor",
    "MonitorSettings",
    "Notice",
    "Observation",
    "Observed",
    "Predicted",
    "Reference",
    "Reports",
    "Retained",
    "RetentionPolicy",
    "Sink",
    "SlackSink",
    "StreamLearner",
    "StreamSummary",
    "WebhookSink",
    "Worker",
    "WorkerSettings",
    "advice_of",
    "judge",
    "live_section",
    "observe",
    "prune_rows",
    "retain",
    "retention_section",
    "run_retention",
    "save_revision",
    "sinks_from_dict",
    "verify_webhook",
]
