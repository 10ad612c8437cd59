"""``report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_caliber.cli._common import DATA, PASSED, Command, column, emit, mlflow_options, read_table, use_mlflow
from mlflow_caliber.exceptions import OptionalDependencyError

if TYPE_CHECKING:
    import pandas as pd

    from mlflow_caliber.report import ReliabilityReport


@click.command(
    cls=Command,
    example="mlflow-caliber report scored.parquet --target left --proba p --segments region --output report/",
)
@DATA
@click.option("--target", required=True, help="Column of DATA with the true labels.")
@click.option("--proba", multiple=True, metavar="COLUMN", help="The positive class's probability; or one per class.")
@click.option("--raw", multiple=True, metavar="COLUMN", help="The same before calibration.")
@click.option("--model", metavar="URI", help="Score DATA with this MLflow model instead of reading --proba.")
@click.option("--class", "classes", multiple=True, help="Labels in the order of the probabilities; the positive last.")
@click.option("--segments", multiple=True, metavar="COLUMN", help="Also report each value of this column.")
@click.option("--weight", metavar="COLUMN", help="Column of DATA with the sample weights.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for JSON, HTML and plots.")
@mlflow_options
def report(
    *,
    data: Path,
    target: str,
    proba: tuple[str, ...],
    raw: tuple[str, ...],
    model: str | None,
    classes: tuple[str, ...],
    segments: tuple[str, ...],
    weight: str | None,
    output: Path | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """
    Measure how far probabilities can be relied on.

    DATA is a .parquet or .csv file with labels and either probabilities (--proba) or a model's features (--model).
    """
    if bool(proba) == (model is not None):
        raise click.UsageError("Exactly one of --proba and --model must be given.")
    frame = read_table(data)
    used = {"target": column(frame, target, "--target")}
    if weight is not None:
        used["weight"] = column(frame, weight, "--weight")
    if model is None:
        arguments = _from_columns(frame, used["target"], proba, raw, classes)
    else:
        use_mlflow(tracking_uri, registry_uri)
        arguments = _from_model(frame.drop(columns=[series.name for series in used.values()]), used["target"], model)
    from mlflow_caliber.report import reliability_report

    result = reliability_report(
        **arguments,
        segments={name: column(frame, name, "--segments") for name in segments} or None,
        sample_weight=used.get("weight"),
    )
    if output is not None:
        _write(result, output, title=data.stem, context={"data": data.name, **({"model": model} if model else {})})
    emit(result.to_dict(), str(result), as_json=as_json)
    return PASSED


def _from_columns(
    frame: pd.DataFrame, labels: pd.Series[Any], proba: tuple[str, ...], raw: tuple[str, ...], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Arguments of ``reliability_report`` from columns of probabilities."""
    names = _class_names(labels, max(2, len(proba)), classes)
    return {
        "y_true": _positions(labels, names),
        "y_proba": _probabilities(frame, proba, "--proba"),
        "raw": _probabilities(frame, raw, "--raw") if raw else None,
        "classes": names,
    }


def _probabilities(frame: pd.DataFrame, names: tuple[str, ...], option: str) -> Any:
    import numpy as np

    values = [column(frame, name, option).to_numpy() for name in names]
    return values[0] if len(values) == 1 else np.column_stack(values)


def _class_names(labels: pd.Series[Any], n_classes: int, given: tuple[str, ...]) -> list[str]:
    """The labels as text, in the order of the probabilities. Without --class only 0, 1, ... can be put in order."""
    names = list(given) or [str(k) for k in range(n_classes)]
    if len(names) != n_classes:
        raise click.BadParameter(f"--class must be given {n_classes} times, got {len(names)}.")
    strange = sorted(set(_as_text(labels)) - set(names))
    if strange:
        raise click.BadParameter(
            f"--target must hold only {', '.join(names)}, got {strange[0]!r}: name the labels with --class, in the "
            "order of the probabilities (of two, the positive one last)."
        )
    return names


def _positions(labels: pd.Series[Any], names: list[str]) -> Any:
    return _as_text(labels).map({name: k for k, name in enumerate(names)}).to_numpy()


def _as_text(labels: pd.Series[Any]) -> pd.Series[Any]:
    """Labels as --class spells them: 1 and 1.0 and True are 1."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(labels):
        return labels.astype("float64").map("{:g}".format)
    return labels.map(str)


def _from_model(features: pd.DataFrame, labels: pd.Series[Any], uri: str) -> dict[str, Any]:
    """Arguments of ``reliability_report`` from a model's own probabilities."""
    import mlflow

    from mlflow_caliber.model import CalibratedModel, encode_labels
    from mlflow_caliber.scorers import scorer_from_pyfunc

    scorer = scorer_from_pyfunc(mlflow.pyfunc.load_model(uri))
    classes = scorer.classes_
    y = encode_labels(labels.to_numpy(), classes, "--target")
    if not isinstance(scorer, CalibratedModel):
        return {"y_true": y, "y_proba": scorer.predict_proba(features), "classes": classes.tolist()}
    raw, segment = scorer.raw_proba(features), scorer.segments_of(features)
    order = [1 - scorer.pos_index, scorer.pos_index] if len(classes) == 2 else list(range(len(classes)))
    return {
        "y_true": y == scorer.pos_index if len(classes) == 2 else y,
        "y_proba": scorer.calibrate(raw, segment)[:, order],
        "raw": raw[:, order],
        "classes": classes[order].tolist(),
        "policy": scorer.policy,
        "policy_segment": segment,
    }


def _write(result: ReliabilityReport, folder: Path, *, title: str, context: dict[str, str]) -> None:
    try:
        from mlflow_caliber.html import render_report
        from mlflow_caliber.plots import report_figures, save_png
    except ImportError as error:
        raise OptionalDependencyError(
            f"--output needs matplotlib and Jinja2: pip install 'mlflow-caliber[evaluate]' ({error})."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(result.to_dict(), allow_nan=False, indent=1)
    (folder / "report.json").write_text(content + "\n", encoding="utf-8")
    figures = report_figures(result)
    for name, figure in figures.items():
        save_png(figure, folder / f"{name}.png")
    page = render_report(result, title=title, context=context, figures=figures)
    (folder / "report.html").write_text(page, encoding="utf-8")
