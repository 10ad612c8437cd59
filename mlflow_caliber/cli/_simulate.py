"""``simulate``: a model whose world drifts, for a service to watch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mlflow_caliber.cli._common import PASSED, Command, emit, told_to_stop
from mlflow_caliber.cli._traffic import send_at_their_times
from mlflow_caliber.exceptions import OptionalDependencyError, ServiceError

if TYPE_CHECKING:
    from mlflow_caliber.client import CaliberClient

__all__ = ["simulate"]

# As live.simulation has them; a test compares, since --help loads no numerics.
DRIFTS = ("none", "calibration", "covariate", "prior", "sudden")
_RATE = click.FloatRange(min=0.0, min_open=True)
_NOT_NEGATIVE = click.FloatRange(min=0.0)


@click.command(cls=Command, example="mlflow-caliber simulate --url http://127.0.0.1:8600 --drift calibration")
@click.option("--url", default="http://127.0.0.1:8600", show_default=True, help="Where the service is.")
@click.option("--token", metavar="TEXT", envvar="MLFLOW_CALIBER_TOKEN", help="Role ingest [MLFLOW_CALIBER_TOKEN].")
@click.option(
    "--kafka", metavar="HOST:PORT", envvar="KAFKA_BOOTSTRAP_SERVERS", help="Send the events to Kafka instead,"
)
@click.option("--topic", default="inference-events", show_default=True, help="into this topic.")
@click.option("--model", default="simulated", show_default=True, metavar="NAME", help="The name of the model.")
@click.option("--version", default="1", show_default=True, metavar="VERSION", help="And its version.")
@click.option("--rate", type=_RATE, default=2.0, show_default=True, help="Predictions a second.")
@click.option("--seconds", type=_NOT_NEGATIVE, help="For so long; by default until stopped.")
@click.option("--drift", type=click.Choice(DRIFTS), default="none", show_default=True, help="What goes wrong.")
@click.option("--labels", type=click.FloatRange(0.0, 1.0), default=0.5, show_default=True, help="Share with outcomes,")
@click.option("--delay", type=_NOT_NEGATIVE, default=10.0, show_default=True, help="so many seconds later on average.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same gives the same people."
)
def simulate(
    *,
    url: str,
    token: str | None,
    kafka: str | None,
    topic: str,
    model: str,
    version: str,
    rate: float,
    seconds: float | None,
    drift: str,
    labels: float,
    delay: float,
    seed: int,
    as_json: bool,
) -> int:
    """
    Send the predictions and outcomes of a made-up model to a service, until stopped.

    A drift begins after 300 predictions. While the service is away, events wait and are sent again; nothing is counted
    twice. Where Kafka is named but not to be had, the service gets the events itself.
    """
    from mlflow_caliber.client import CaliberClient
    from mlflow_caliber.live.simulation import CLASSES, Simulation, simulated_messages

    start = time.time()
    until = math.inf if seconds is None else start + seconds
    simulation = Simulation(drift=drift, rate=rate, labels=labels, delay=delay, seed=seed, start=start)
    stop = told_to_stop()
    with CaliberClient(url, token, retries=2) as client:
        client.register(model, version, CLASSES, CLASSES[1])
        sender, way = _sender(client, kafka, topic, model, version)
        sent = send_at_their_times(simulated_messages(simulation), sender, stop, until)
    told = f"{sent.predictions} predictions and {sent.outcomes} outcomes sent to {way}, {sent.refused} refused."
    emit({**vars(sent), "way": way}, told, as_json=as_json)
    return PASSED


def _sender(
    client: CaliberClient, kafka: str | None, topic: str, model: str, version: str
) -> tuple[Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]], str]:
    """What sends events, and the name of the way that they go."""
    if kafka:
        try:
            from mlflow_caliber.kafka import kafka_sender

            return kafka_sender(kafka, topic, model, version), "kafka"
        except (OptionalDependencyError, ServiceError) as error:
            click.echo(f"{error} The events go to the service itself.", err=True)
    return (lambda messages: client.stream_events(model, version, messages).refused), "rest"
