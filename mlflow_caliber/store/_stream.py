"""A stream: all that one model version has said, and what is known of it."""

from __future__ import annotations

from mlflow_caliber.store._alarms import AlarmsPart
from mlflow_caliber.store._backfill import BackfillPart
from mlflow_caliber.store._history import HistoryPart
from mlflow_caliber.store._learner import LearnerPart
from mlflow_caliber.store._listing import ListingPart
from mlflow_caliber.store._log import LogPart
from mlflow_caliber.store._observations import ObservationsPart
from mlflow_caliber.store._replicas import ReplicasPart
from mlflow_caliber.store._reviews import ReviewsPart
from mlflow_caliber.store._revisions import RevisionsPart
from mlflow_caliber.store._settings import SettingsPart
from mlflow_caliber.store._summaries import SummariesPart

__all__ = ["Stream"]


class Stream(
    LogPart,
    ListingPart,
    LearnerPart,
    RevisionsPart,
    ReviewsPart,
    AlarmsPart,
    HistoryPart,
    BackfillPart,
    ReplicasPart,
    SettingsPart,
    SummariesPart,
    ObservationsPart,
):
    """One ordered log of predictions and outcomes, and what hangs on it; got from :meth:`Store.stream`.

    Predictions and outcomes share one dense sequence 1, 2, 3, ..., handed out under a lock: who has read up to a
    number has seen all there will ever be up to it, and who learns in this order learns the same every time,
    whatever the clocks do.

    Attributes
    ----------
    model, version : str
        Whose predictions these are.
    classes : tuple of str or None
        The labels as they are spelled in the store.
    positive : str or None
        Of two classes, the one whose probability the predictions give.
    created_at : float
        When it was made known, in seconds since 1970.

    Examples
    --------
    >>> from mlflow_caliber.store import open_store
    >>> stream = open_store("sqlite://").stream("churn", "3", classes=[0, 1])
    >>> stream, stream.classes, stream.positive
    (Stream(model='churn', version='3'), ('0', '1'), '1')
    """
