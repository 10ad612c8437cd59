"""``db``: keep the store: upgrade its schema, examine it, make what is old small."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import click

from mlflow_caliber.cli._common import FAILED, PASSED, Command, emit
from mlflow_caliber.cli._store import named_store, open_store_at, store_option, stream_of
from mlflow_caliber.exceptions import ConfigError, StoreError

if TYPE_CHECKING:
    from mlflow_caliber.store import Stream

__all__ = ["db"]

_DAY = 86_400.0
_STORE = "--store sqlite:///caliber.db"


@click.group()
def db() -> None:
    """Keep the store: upgrade its schema, check it, prune what is old."""


@db.command(cls=Command, example=f"mlflow-caliber db upgrade {_STORE}")
@store_option
def upgrade(*, store_uri: str | None, as_json: bool) -> int:
    """Bring the store to the newest schema; a new database becomes a store."""
    uri = named_store(store_uri)
    from mlflow_caliber.store import upgrade as to_newest

    schema = to_newest(uri)
    emit({"schema": schema}, f"The store has schema {schema}.", as_json=as_json)
    return PASSED


@db.command(cls=Command, example=f"mlflow-caliber db check {_STORE}")
@store_option
def check(*, store_uri: str | None, as_json: bool) -> int:
    """Examine schema, database, logs and positions. Exit code 1 if anything is wrong; nothing is changed."""
    named_store(store_uri)
    try:
        with open_store_at(store_uri) as opened:
            faults = opened.faults()
    except StoreError as error:
        faults = (str(error),)
    text = "\n".join(faults) if faults else "The store is whole."
    emit({"faults": list(faults)}, text, as_json=as_json)
    return FAILED if faults else PASSED


@db.command(cls=Command, example=f"mlflow-caliber db prune --days 365 {_STORE}")
@store_option
@click.option("--model", metavar="NAME", help="Only the rows of this model,")
@click.option("--version", metavar="VERSION", help="and of this version; by default its newest.")
@click.option("--days", type=click.FloatRange(min=0.0), help="What is older than this;")
@click.option("--config", metavar="FILE", help="without it, as the section retention of caliber.yaml says.")
def prune(
    *,
    store_uri: str | None,
    model: str | None,
    version: str | None,
    days: float | None,
    config: str | None,
    as_json: bool,
) -> int:
    """
    Delete old rows; reports can still be made from what they add up to. Forget dead tokens.

    Without --model, of all models, and with --days tokens and sessions that have been dead for so long.
    """
    if version is not None and model is None:
        raise ConfigError("--version needs --model, got none.")
    if days is None:
        return _prune_by_policy(store_uri, model, version, config, as_json=as_json)
    if not math.isfinite(days):
        raise click.BadParameter(f"--days must be a number of days, got {days:g}.")
    named_store(store_uri)
    from mlflow_caliber.live import prune_rows

    before = max(0.0, time.time() - days * _DAY)
    with open_store_at(store_uri) as opened:
        streams = opened.streams() if model is None else (stream_of(opened, model, version),)
        compacted = sum(prune_rows(stream, before) for stream in streams)
        forgotten = opened.prune_tokens(before) if model is None else 0
        lines = [sentence for stream in streams if (sentence := _why_rows_stay(stream, before))]
    text = f"{compacted} predictions are only in statistics now; {forgotten} dead tokens and sessions are forgotten."
    emit({"compacted": compacted, "tokens": forgotten}, "\n".join([text, *lines]), as_json=as_json)
    return PASSED


def _why_rows_stay(stream: Stream, before: float) -> str | None:
    """Why rows of that age are still there after pruning, if some are."""
    oldest, learner = stream.summary_rows(0, 1), stream.learner()
    if not oldest or oldest[0].recorded_at >= before:
        return None
    if learner is not None and (learner.settled or 0) < oldest[0].seq:
        why = "its learner is not done with them, since it waits for their outcomes or has not read them"
    else:
        why = "somebody is at their review, or what came later belongs to them"
    return f"{stream.subject} keeps rows of that age: {why}."


def _prune_by_policy(
    store_uri: str | None, model: str | None, version: str | None, config: str | None, *, as_json: bool
) -> int:
    named_store(store_uri)
    from mlflow_caliber.live import RetentionPolicy, retain, retention_section

    policy = RetentionPolicy.from_dict(retention_section(config))
    if policy.is_empty:
        raise ConfigError("db prune needs --days, or a section retention in caliber.yaml, got neither.")
    with open_store_at(store_uri) as opened:
        streams = opened.streams() if model is None else (stream_of(opened, model, version),)
        found = retain(streams, policy, time.time())
    text = f"{found.compacted} predictions are only in statistics now; {found.rollups} rollups are in coarser ones."
    emit(found._asdict(), text, as_json=as_json)
    return PASSED
