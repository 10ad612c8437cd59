"""``report``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mlflow_caliber.cli._common import (
    DATA_OR_FOLDER,
    PASSED,
    Command,
    check_column,
    emit,
    made_folder,
    mlflow_options,
    progress_bar,
    read_table,
    use_mlflow,
)
from mlflow_caliber.exceptions import OptionalDependencyError

if TYPE_CHECKING:
    import pandas as pd

    from mlflow_caliber.batches import DataFiles, ReportColumns
    from mlflow_caliber.report import ReliabilityReport

MODEL_ROWS = 1 << 16
ROUNDED = "More scores than can be kept one by one: counted on a fine grid (docs: Statistics at scale)."


class Wanted(NamedTuple):
    """What is to be measured: names of columns and labels, and the model's address."""

    target: str
    proba: tuple[str, ...]
    raw: tuple[str, ...]
    model: str | None
    classes: tuple[str, ...]
    segments: tuple[str, ...]
    weight: str | None

    def check(self, columns: tuple[str, ...]) -> None:
        """Refuse a name that is no column."""
        if len(set(self.segments)) < len(self.segments):
            raise click.BadParameter(f"--segments must name each column once, got {', '.join(self.segments)}.")
        given = {"--target": (self.target,), "--proba": self.proba, "--raw": self.raw, "--segments": self.segments}
        for option, names in {**given, "--weight": (self.weight,) if self.weight else ()}.items():
            for name in names:
                check_column(columns, name, option)

    @property
    def columns(self) -> ReportColumns:
        """What is read where there is no model."""
        from mlflow_caliber.batches import ReportColumns

        return ReportColumns(self.target, self.proba, self.raw, self.segments, self.weight)

    @property
    def not_features(self) -> list[str]:
        """Columns that a model does not see."""
        return [self.target, *([self.weight] if self.weight else [])]


@click.command(
    cls=Command,
    example="mlflow-caliber report scored.parquet --target left --proba p --segments region --output report/",
)
@DATA_OR_FOLDER
@click.option("--target", required=True, help="Column of DATA with the true labels.")
@click.option("--proba", multiple=True, metavar="COLUMN", help="The positive class's probability; or one per class.")
@click.option("--raw", multiple=True, metavar="COLUMN", help="The same before calibration.")
@click.option("--model", metavar="URI", help="Score DATA with this MLflow model instead of reading --proba.")
@click.option("--class", "classes", multiple=True, help="Labels in the order of the probabilities; the positive last.")
@click.option("--segments", multiple=True, metavar="COLUMN", help="Also report each value of this column.")
@click.option("--weight", metavar="COLUMN", help="Column of DATA with the sample weights.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for JSON, HTML and plots.")
@click.option(
    "--in-memory-rows",
    type=click.IntRange(min=0),
    default=1_000_000,
    show_default=True,
    help="More rows than this are not loaded but added up, batch by batch.",
)
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
    in_memory_rows: int,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """
    Measure how far probabilities can be relied on.

    DATA is a .parquet, .csv, .arrow or .feather file, or a folder of such files, of any size, with labels and either
    probabilities (--proba) or a model's features (--model).
    """
    if bool(proba) == (model is not None):
        raise click.UsageError("Exactly one of --proba and --model must be given.")
    if model is not None and (raw or classes):
        raise click.UsageError("--raw and --class go with --proba: a model knows its classes and its raw scores.")
    from mlflow_caliber.batches import DataFiles

    files = DataFiles(data)
    wanted = Wanted(target, proba, raw, model, classes, segments, weight)
    wanted.check(files.columns)
    if output is not None:
        made_folder(output, "--output")
    if model is not None:
        use_mlflow(tracking_uri, registry_uri)
    make = _from_batches if files.exceeds(in_memory_rows) else _from_memory
    result = make(files, wanted)
    if output is not None:
        _write(result, output, title=data.stem, context={"data": data.name, **({"model": model} if model else {})})
    emit(result.to_dict(), str(result) if result.exact else f"{result}\n{ROUNDED}", as_json=as_json)
    return PASSED


# --- rows in memory ---------------------------------------------------------------------------------------------------


def _from_memory(files: DataFiles, wanted: Wanted) -> ReliabilityReport:
    from mlflow_caliber.report import reliability_report

    if wanted.model is not None:
        return _scored_in_memory(files, wanted, _scorer(wanted.model))
    from mlflow_caliber.batches import load_columns

    names = _class_names(max(2, len(wanted.proba)), wanted.classes)
    return reliability_report(**load_columns(files, wanted.columns, names), classes=names)


def _scored_in_memory(files: DataFiles, wanted: Wanted, scorer: Any) -> ReliabilityReport:
    import pandas as pd

    from mlflow_caliber.report import reliability_report

    frames = [read_table(file).assign(**files.keys_of(file)) for file in files.files]
    frame = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    return reliability_report(
        **_from_model(scorer, frame.drop(columns=wanted.not_features), frame[wanted.target]),
        segments={name: frame[name] for name in wanted.segments} or None,
        sample_weight=None if wanted.weight is None else frame[wanted.weight],
    )


def _class_names(n_classes: int, given: tuple[str, ...]) -> list[str]:
    """The labels as text, in the order of the probabilities. Without --class only 0, 1, ... can be put in order."""
    names = list(given) or [str(k) for k in range(n_classes)]
    if len(names) != n_classes:
        raise click.BadParameter(f"--class must be given {n_classes} times, got {len(names)}.")
    return names


def _scorer(uri: str) -> Any:
    import mlflow

    from mlflow_caliber.scorers import scorer_from_pyfunc

    return scorer_from_pyfunc(mlflow.pyfunc.load_model(uri))


def _from_model(scorer: Any, features: pd.DataFrame, labels: pd.Series[Any]) -> dict[str, Any]:
    """Arguments of ``reliability_report`` from a model's own probabilities."""
    from mlflow_caliber.model import CalibratedModel, encode_labels

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


# --- rows in batches --------------------------------------------------------------------------------------------------


def _from_batches(files: DataFiles, wanted: Wanted) -> ReliabilityReport:
    if wanted.model is not None:
        return _scored_in_batches(files, wanted, _scorer(wanted.model))
    from mlflow_caliber.batches import scan_statistics

    _check_two(max(2, len(wanted.proba)))
    names = _class_names(2, wanted.classes)
    with progress_bar("Reading") as show:
        statistics = scan_statistics(
            files,
            target=wanted.target,
            proba=wanted.proba,
            raw=wanted.raw or None,
            classes=names,
            segments=wanted.segments,
            weight=wanted.weight,
            progress=show,
        )
    return statistics.report(classes=names)


def _check_two(n_classes: int) -> None:
    if n_classes > 2:
        raise click.BadParameter(
            f"DATA of {n_classes} classes is measured in memory, and has more rows than --in-memory-rows allows: give "
            "more if the memory suffices, or a sample of the rows."
        )


def _scored_in_batches(files: DataFiles, wanted: Wanted, scorer: Any) -> ReliabilityReport:
    from mlflow_caliber.batches import ReportStatistics, add_batches
    from mlflow_caliber.model import CalibratedModel

    _check_two(len(scorer.classes_))
    calibrated = isinstance(scorer, CalibratedModel)
    names, policy = scorer.classes_, scorer.policy if calibrated else None
    if calibrated:
        names = names[[1 - scorer.pos_index, scorer.pos_index]]
    # Refuse a policy that cannot be reported on before hours of scoring.
    ReportStatistics().update([0, 1], [0.2, 0.7]).report(policy=policy)
    statistics = ReportStatistics(raw=calibrated, segments=wanted.segments)
    with progress_bar("Scoring") as show:
        batches = files.batches(rows=MODEL_ROWS)
        add_batches(statistics, batches, _scoring(scorer, wanted), progress=show)
    return statistics.report(classes=names.tolist(), policy=policy)


def _scoring(scorer: Any, wanted: Wanted) -> Callable[[Any], dict[str, Any]]:
    """From a batch of features to what statistics take."""

    def arguments(rows: Any) -> dict[str, Any]:
        frame = rows.to_pandas()
        found = _from_model(scorer, frame.drop(columns=wanted.not_features), frame[wanted.target])
        raw = found.get("raw")
        return {
            "y_true": found["y_true"],
            "y_proba": found["y_proba"][:, 1],
            "raw": None if raw is None else raw[:, 1],
            "segments": {name: frame[name].astype("category") for name in wanted.segments},
            "sample_weight": None if wanted.weight is None else frame[wanted.weight].to_numpy(),
        }

    return arguments


def _write(result: ReliabilityReport, folder: Path, *, title: str, context: dict[str, str]) -> None:
    try:
        from mlflow_caliber.html import render_report
        from mlflow_caliber.plots import report_figures, save_png
    except ImportError as error:
        raise OptionalDependencyError(
            f"--output needs matplotlib and Jinja2: pip install 'mlflow-caliber[evaluate]' ({error})."
        ) from error
    content = json.dumps(result.to_dict(), allow_nan=False, indent=1)
    (folder / "report.json").write_text(content + "\n", encoding="utf-8")
    figures = report_figures(result)
    for name, figure in figures.items():
        save_png(figure, folder / f"{name}.png")
    page = render_report(result, title=title, context=context, figures=figures)
    (folder / "report.html").write_text(page, encoding="utf-8")
