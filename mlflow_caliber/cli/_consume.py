"""``consume``: predictions and outcomes from a topic of Kafka into a store, until stopped."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_caliber.cli._common import PASSED, Command, emit, told_to_stop
from mlflow_caliber.cli._store import named_store, store_option

if TYPE_CHECKING:
    from mlflow_caliber.kafka import KafkaSettings

__all__ = ["collect_seldom", "consume", "kafka_options", "kafka_settings", "log_to_stderr"]

Function = TypeVar("Function", bound=Callable[..., Any])
# Whoever waits for a database longer is not seen by its group meanwhile.
_STORE_TIMEOUT = 10.0
_NOT_NEGATIVE = click.FloatRange(min=0.0)


def kafka_options(topic: str, group: str) -> Callable[[Function], Function]:
    """Where Kafka is, what is read from it, and where that goes which cannot be taken."""
    options = (
        click.option("--bootstrap", required=True, metavar="HOST:PORT", envvar="KAFKA_BOOTSTRAP_SERVERS"),
        click.option("--topic", default=topic, show_default=True, metavar="NAME", help="What is read."),
        click.option("--group", default=group, show_default=True, metavar="NAME", help="The group that shares it."),
        click.option("--dead-letters", metavar="NAME", help="Topic of what cannot be taken; <topic>.dead."),
        click.option("--property", "pairs", multiple=True, metavar="KEY=VALUE", help="A property of librdkafka."),
        click.option(
            "--properties",
            "file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="File with such properties, one a line.",
        ),
        click.option("--batch", type=click.IntRange(1, 50_000), default=5_000, show_default=True, help="Most at once."),
        click.option("--starting", type=_NOT_NEGATIVE, default=60.0, show_default=True, help="Wait so long for Kafka."),
        click.option("--lag-every", type=_NOT_NEGATIVE, default=30.0, show_default=True, help="Seconds between lines."),
    )

    def with_options(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return with_options


def kafka_settings(*, pairs: tuple[str, ...], file: Path | None, **given: Any) -> KafkaSettings:
    """The settings that the options say."""
    from mlflow_caliber.kafka import KafkaSettings, read_properties

    return KafkaSettings(properties=read_properties(pairs, file), **given)


def collect_seldom() -> None:
    """Look for cyclic garbage once a batch, not hundreds of times: its thousands of objects are not cyclic.

    That is a quarter of the processor time. A process of its own may do it; a library must not.
    """
    gc.set_threshold(50_000, 10, 10)


def log_to_stderr() -> None:
    """A line for what happens, on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)


@click.command(
    cls=Command, example="mlflow-caliber consume --bootstrap kafka:9092 --store postgresql://caliber@db/caliber"
)
@kafka_options("inference-events", "mlflow-caliber")
@store_option
@click.option("--model", metavar="NAME", help="The model of messages that name none,")
@click.option("--version", metavar="VERSION", help="and its version.")
@click.option("--create", is_flag=True, help="Make model versions known that are not, without classes.")
def consume(
    *,
    store_uri: str | None,
    model: str | None,
    version: str | None,
    create: bool,
    as_json: bool,
    **kafka: Any,
) -> int:
    """
    Record the predictions and outcomes of a Kafka topic, until stopped.

    Offsets are committed once the rows are stored. Any number of processes may share a topic; what cannot be taken goes
    to the topic of the dead letters with the reason. While the store or Kafka is away, nothing is lost.
    """
    named = named_store(store_uri)
    log_to_stderr()
    collect_seldom()
    settings = kafka_settings(**kafka)
    from mlflow_caliber import kafka as streams
    from mlflow_caliber.store import check_store_uri, open_store

    check_store_uri(named)
    tally = streams.consume(
        settings,
        lambda: open_store(named, timeout=_STORE_TIMEOUT),
        told_to_stop(),
        model=model,
        version=version,
        create=create,
    )
    emit(tally.to_dict(), tally.sentence(), as_json=as_json)
    return PASSED
