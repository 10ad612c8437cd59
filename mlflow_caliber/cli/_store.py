"""What the commands on a store share, and ``store`` itself: import and export."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_caliber.cli._common import DATA, FAILED, PASSED, Command, column, emit, read_table
from mlflow_caliber.exceptions import ConfigError

if TYPE_CHECKING:
    from mlflow_caliber.store import ImportReport, Receipt, Store, Stream

__all__ = [
    "at_time",
    "named_store",
    "open_store_at",
    "outcomes",
    "store",
    "store_option",
    "stream_of",
    "stream_options",
]

Function = TypeVar("Function", bound=Callable[..., Any])


def store_option(function: Function) -> Function:
    """``--store``, or its environment variable."""
    text = "Database of predictions and outcomes [MLFLOW_CALIBER_STORE_URI]."
    option = click.option("--store", "store_uri", metavar="URI", envvar="MLFLOW_CALIBER_STORE_URI", help=text)
    return option(function)


def stream_options(function: Function) -> Function:
    """``--store``, ``--model`` and ``--version``."""
    model = click.option("--model", required=True, metavar="NAME", help="The registered model.")
    version = click.option("--version", metavar="VERSION", help="Its version; by default the newest in the store.")
    return store_option(model(version(function)))


def named_store(uri: str | None) -> str:
    """The store's URI, which has to be given."""
    if uri is None:
        raise ConfigError("A store must be named by --store or MLFLOW_CALIBER_STORE_URI, got neither.")
    return uri


def open_store_at(uri: str | None, *, create: bool = False) -> Store:
    """The store, which has to be named."""
    named = named_store(uri)
    from mlflow_caliber.store import open_store

    return open_store(named, create=create)


def stream_of(store: Store, model: str, version: str | None) -> Stream:
    """The stream that is meant; it has to be there."""
    streams = [stream for stream in store.streams() if stream.model == model]
    if version is not None:
        streams = [stream for stream in streams if stream.version == version]
    if not streams:
        known = ", ".join(f"{stream.model}/{stream.version}" for stream in store.streams()[:20]) or "none"
        raise ConfigError(f"The store must hold {model}{'' if version is None else f'/{version}'}, it holds {known}.")
    return streams[-1]


def at_time(seconds: float | None) -> str:
    """A time as people read it, in UTC."""
    return "never" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


@click.group()
def store() -> None:
    """Move logs: into the store, and out of it."""


@store.command("import", cls=Command, example="mlflow-caliber store import log.parquet --store sqlite:///caliber.db")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@store_option
@click.option("--model", metavar="NAME", help="Record it under this model; by default under that of the file.")
@click.option("--version", metavar="VERSION", help="And this version.")
@click.option("--buffer", is_flag=True, help='FILE has lines {"sport": ..., "pred": ..., "outcome": ..., "ts": ...}.')
def import_(
    *, file: Path, store_uri: str | None, model: str | None, version: str | None, buffer: bool, as_json: bool
) -> int:
    """Record a log that was exported. What is known already stays as it is."""
    if buffer and (model is None or version is None):
        raise ConfigError("--buffer needs --model and --version: such a file names neither.")
    from mlflow_caliber.store import check_events_file, import_article_buffer, import_events

    named_store(store_uri)
    if not buffer:
        check_events_file(file)
    with open_store_at(store_uri, create=True) as opened:
        if buffer:
            report = import_article_buffer(opened, file, str(model), str(version))
        else:
            report = import_events(opened, file, model, version)
    _emit_import(report, as_json=as_json)
    return PASSED


@store.command(
    cls=Command, example="mlflow-caliber store export log.parquet --store sqlite:///caliber.db --model churn"
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@stream_options
def export(*, file: Path, store_uri: str | None, model: str, version: str | None, as_json: bool) -> int:
    """Write the log of a stream to FILE, .parquet or .jsonl."""
    with open_store_at(store_uri) as opened:
        from mlflow_caliber.store import export_events

        n = export_events(stream_of(opened, model, version), file)
    emit({"entries": n}, f"{n} entries in {file}.", as_json=as_json)
    return PASSED


@click.command(
    cls=Command,
    example="mlflow-caliber outcomes repaid.csv --store sqlite:///caliber.db --model credit --outcome repaid",
)
@DATA
@stream_options
@click.option("--id", "id_column", default="prediction_id", show_default=True, help="Column with the prediction ids.")
@click.option("--outcome", "outcome_column", default="outcome", show_default=True, help="Column with what happened.")
@click.option("--source", type=click.Choice(["observed", "review", "audit"]), default="observed", show_default=True)
def outcomes(
    *,
    data: Path,
    store_uri: str | None,
    model: str,
    version: str | None,
    id_column: str,
    outcome_column: str,
    source: str,
    as_json: bool,
) -> int:
    """
    Record what happened: DATA is a .parquet or .csv file with an outcome a prediction.

    Outcomes that are known already change nothing; another one for the same prediction is a correction. Exit code 1
    if every row was refused.
    """
    frame = read_table(data, text=(id_column, outcome_column))
    ids, happened = column(frame, id_column, "--id"), column(frame, outcome_column, "--outcome")
    with open_store_at(store_uri) as opened:
        from mlflow_caliber.store import Outcome

        when = data.stat().st_mtime  # the file's own time: the same file again then tells nothing new
        stream = stream_of(opened, model, version)
        receipt = stream.record_outcomes(
            [
                Outcome(prediction_id=_id(each), outcome=_label(what, stream.classes), observed_at=when, source=source)
                for each, what in zip(ids.astype(object), happened.astype(object), strict=True)
            ]
        )
    emit(_receipt(receipt), _receipt_text(receipt), as_json=as_json)
    return FAILED if receipt.refused and not receipt.recorded and not receipt.duplicates else PASSED


def _id(value: Any) -> Any:
    """A whole number as text: a column of ids that has a gap is one of floats."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(int(value)) if number and float(value).is_integer() else value


def _label(value: Any, classes: Sequence[str] | None) -> Any:
    """A text as the number or truth value that it spells, where only that is a class: 1.0 of the classes 0 and 1."""
    if classes is None or not isinstance(value, str) or value in classes:
        return value
    spelled = _spelled(value)
    known = spelled is not None and spelled in {_spelled(name) for name in classes}
    return spelled if known else value


def _spelled(text: str) -> float | None:
    if text.lower() in {"true", "false"}:
        return float(text.lower() == "true")
    try:
        return float(text)
    except ValueError:
        return None


def _receipt(receipt: Receipt) -> dict[str, Any]:
    refused = [vars(refusal) for refusal in receipt.refused]
    return {**vars(receipt), "refused": refused}


def _receipt_text(receipt: Receipt) -> str:
    lines = [
        f"{receipt.recorded} recorded ({receipt.corrections} corrections), {receipt.duplicates} known already, "
        f"{len(receipt.refused)} refused."
    ]
    lines += [f"  {refusal.prediction_id}: {refusal.sentence}" for refusal in receipt.refused[:20]]
    return "\n".join(lines)


def _emit_import(report: ImportReport, *, as_json: bool) -> None:
    bad = [vars(line) for line in report.bad_lines]
    lines = [_receipt_text(report.receipt), *(f"  line {line['number']}: {line['sentence']}" for line in bad[:20])]
    emit({**_receipt(report.receipt), "bad_lines": bad}, "\n".join(lines), as_json=as_json)
