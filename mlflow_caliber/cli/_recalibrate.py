"""``recalibrate``."""

from __future__ import annotations

from pathlib import Path

import click

from mlflow_caliber.cli._common import DATA, PASSED, Command, column, emit, mlflow_options, read_table, use_mlflow


@click.command(
    cls=Command,
    example="mlflow-caliber recalibrate models:/churn@champion outcomes.parquet --target left --calibrator isotonic",
)
@click.argument("model_uri")
@DATA
@click.option("--target", required=True, help="Column of DATA with the true labels.")
@click.option("--calibrator", metavar="NAME", help="Such as isotonic or auto; by default the model's own.")
@click.option("--weight", metavar="COLUMN", help="Column of DATA with the sample weights.")
@click.option("--registered-model-name", metavar="NAME", help="Where to register it; by default where it came from.")
@mlflow_options
def recalibrate(
    *,
    model_uri: str,
    data: Path,
    target: str,
    calibrator: str | None,
    weight: str | None,
    registered_model_name: str | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """
    Refit a model's calibrator on new labelled rows, its base frozen.

    MODEL_URI is a caliber model, DATA a .parquet or .csv file. The result is logged as a new model version.
    """
    frame = read_table(data)
    column(frame, target, "--target")
    if weight is not None:
        column(frame, weight, "--weight")
    use_mlflow(tracking_uri, registry_uri)
    from mlflow_caliber.flavor import recalibrate as refit

    result = refit(
        model_uri,
        frame,
        target,
        calibrator=calibrator,
        sample_weight=weight,
        registered_model_name=registered_model_name,
    )
    text = (
        f"{result.model_uri}: {result.calibrator} on {result.n} rows. On rows unseen by either calibrator, log loss "
        f"{result.log_loss_before:.4f} -> {result.log_loss_after:.4f}, ECE {result.ece_before:.4f} -> "
        f"{result.ece_after:.4f}."
    )
    emit(result.to_dict(), text, as_json=as_json)
    return PASSED
