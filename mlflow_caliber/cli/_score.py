"""``score``: prediction frames for the messages of a topic of Kafka, until stopped."""

from __future__ import annotations

from typing import Any

import click

from mlflow_caliber.cli._common import PASSED, Command, emit, mlflow_options, told_to_stop, use_mlflow
from mlflow_caliber.cli._consume import collect_seldom, kafka_options, kafka_settings, log_to_stderr
from mlflow_caliber.cli._store import store_option

__all__ = ["score"]


@click.command(
    cls=Command,
    example="mlflow-caliber score --model-uri models:/credit@champion --bootstrap kafka:9092 --topic features",
)
@click.option("--model-uri", required=True, metavar="URI", help="The model: models:/..., runs:/... or a path.")
@kafka_options("features", "mlflow-caliber-score")
@click.option("--output", default="predictions", show_default=True, metavar="NAME", help="Topic of the frames.")
@store_option
@click.option("--model", metavar="NAME", help="What frames call the model; by default its name in the registry,")
@click.option("--version", metavar="VERSION", help="and its version there.")
@click.option("--abstain-threshold", type=click.FloatRange(0.0, 1.0), help="In place of the model's policy.")
@click.option("--features", "keep_features", is_flag=True, help="Let frames bring the features along.")
@mlflow_options
def score(
    *,
    model_uri: str,
    output: str,
    store_uri: str | None,
    model: str | None,
    version: str | None,
    abstain_threshold: float | None,
    keep_features: bool,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
    **kafka: Any,
) -> int:
    """
    Score the features of a Kafka topic, and write prediction frames to another, until stopped.

    Frames are messages that consume reads. With a store, the calibrator follows its live revisions; the frames
    themselves are recorded by consume.
    """
    log_to_stderr()
    collect_seldom()
    settings = kafka_settings(**kafka)
    use_mlflow(tracking_uri, registry_uri)
    from mlflow_caliber import kafka as streams

    tally = streams.score(
        settings,
        model_uri,
        output,
        told_to_stop(),
        model=model,
        version=version,
        store_uri=store_uri,
        abstain_threshold=abstain_threshold,
        keep_features=keep_features,
    )
    emit(tally.to_dict(), tally.sentence(), as_json=as_json)
    return PASSED
