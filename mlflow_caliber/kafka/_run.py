"""The two things that a process does with a topic: record it, or score it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event

from mlflow_caliber.exceptions import ConfigError, SchemaVersionError, StoreError
from mlflow_caliber.kafka._clients import Clients
from mlflow_caliber.kafka._loop import Loop
from mlflow_caliber.kafka._record import Recorder
from mlflow_caliber.kafka._score import Scorer
from mlflow_caliber.kafka._settings import KafkaSettings
from mlflow_caliber.kafka._tally import Tally
from mlflow_caliber.store import Store

__all__ = ["consume", "score"]

_PAUSE = 1.0
_logger = logging.getLogger(__name__)


def consume(
    settings: KafkaSettings,
    open_store: Callable[[], Store],
    stop: Event,
    *,
    model: str | None = None,
    version: str | None = None,
    create: bool = False,
) -> Tally:
    """Record the predictions and outcomes of a topic until told to stop.

    Offsets are committed after the rows are stored and the dead letters are written. While the store or Kafka is away
    nothing is read, and the process stays a member of its group.

    Parameters
    ----------
    settings : KafkaSettings
        Where the messages come from.
    open_store : callable
        Opens the store; it is closed at the end.
    stop : threading.Event
        Set it to end: the batch in hand is finished first.
    model, version : str, optional
        Of messages that name none.
    create : bool
        Whether model versions that the store does not know are made known, without classes. Otherwise their messages
        are dead letters, as REST refuses them.

    Returns
    -------
    Tally

    Raises
    ------
    ConfigError
        If Kafka does not answer for as long as is waited at the start, refuses the credentials, or has no such topic.
    StoreError
        If the store is away for as long at the start, or of another version.

    Examples
    --------
    >>> from mlflow_caliber.store import open_store
    >>> settings = KafkaSettings(bootstrap="kafka:9092", topic="inference-events", group="caliber")
    >>> consume(settings, lambda: open_store("sqlite:///caliber.db"), Event())  # doctest: +SKIP
    """
    # Kafka first: where it does not answer, no database is made.
    if not Clients(settings).wait_for_topics([], stop):
        return Tally()
    store = _opened(open_store, settings.starting, stop)
    if store is None:
        return Tally()
    return Loop(settings, Recorder(store, model=model, version=version, create=create)).run(stop)


def score(
    settings: KafkaSettings,
    model_uri: str,
    output: str,
    stop: Event,
    *,
    model: str | None = None,
    version: str | None = None,
    store_uri: str | None = None,
    abstain_threshold: float | None = None,
    keep_features: bool = False,
) -> Tally:
    """Write a prediction frame for each message with features or a raw score, until told to stop.

    Frames are messages that :func:`consume` reads. Their ids follow from the places of the messages that they are for,
    and a frame that was written already is not written again: after a crash nothing is there twice.

    Parameters
    ----------
    settings : KafkaSettings
        Where the features come from.
    model_uri : str
        A model of the flavor ``caliber``.
    output : str
        The topic of the frames.
    stop : threading.Event
        Set it to end: the batch in hand is finished first.
    model, version : str, optional
        What the frames say they are from; by default the name and version in the registry.
    store_uri : str, optional
        A store whose revisions of the calibrator are followed while messages come.
    abstain_threshold : float, optional
        Replaces the thresholds of the model's policy.
    keep_features : bool
        Whether frames bring the features along.

    Returns
    -------
    Tally

    Raises
    ------
    ConfigError
        As for :func:`consume`, and if the output is the topic that is read, or that of the dead letters.

    Examples
    --------
    >>> settings = KafkaSettings(bootstrap="kafka:9092", topic="features", group="credit")
    >>> score(settings, "models:/credit@champion", "predictions", Event())  # doctest: +SKIP
    """
    for topic, what in ((settings.topic, "the one that is read"), (settings.dead_topic, "that of the dead letters")):
        if output == topic:
            raise ConfigError(f"output must be another topic than {what}, got {output!r}.")
    scorer = Scorer(
        model_uri,
        model=model,
        version=version,
        store_uri=store_uri,
        abstain_threshold=abstain_threshold,
        keep_features=keep_features,
    )
    return Loop(settings, scorer, output).run(stop)


def _opened(open_store: Callable[[], Store], patience: float, stop: Event) -> Store | None:
    """The store; one that is away is waited for, since it may be starting at the same time as we are."""
    end = time.monotonic() + patience
    while not stop.is_set():
        try:
            return open_store()
        except SchemaVersionError:
            raise
        except StoreError as error:
            if time.monotonic() >= end:
                raise
            _logger.warning("Waiting for the store: %s", error)
            stop.wait(_PAUSE)
    return None
