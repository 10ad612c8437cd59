"""What all commands share: ``--json``, MLflow's addresses, clean errors and their exit codes."""

from __future__ import annotations

import getpass
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_caliber.exceptions import CaliberError, EvidenceError, OneClassError, PromotionError

if TYPE_CHECKING:
    import pandas as pd

PASSED, FAILED, USAGE, NOT_ENOUGH_DATA = 0, 1, 2, 3
OF_VERDICT = {"pass": PASSED, "fail": FAILED, "inconclusive": NOT_ENOUGH_DATA}

Function = TypeVar("Function", bound=Callable[..., Any])


class Command(click.Command):
    """A command with ``--json`` that ends every error in one sentence and an exit code, never in a stack trace."""

    def __init__(self, name: str | None, *, example: str, **kwargs: Any) -> None:
        super().__init__(name, epilog=f"\b\nExample:\n  {example}", **kwargs)
        self.params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object."))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it returns is its exit code."""
        try:
            code = super().invoke(ctx)
        except click.ClickException as error:
            if ctx.params["as_json"]:
                click.echo(json.dumps({"error": error.format_message(), "decision": None}))
            raise  # click prints it with the usage
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if os.environ.get("CALIBER_DEBUG"):
                raise
            code = _report_error(error, as_json=ctx.params["as_json"])
        ctx.exit(code)


def _report_error(error: Exception, *, as_json: bool) -> int:
    sentence = _sentence(error)
    if as_json:
        decision = getattr(error, "decision", None)
        click.echo(json.dumps({"error": sentence, "decision": None if decision is None else decision.to_dict()}))
    click.echo(f"Error: {sentence}", err=True)
    return exit_code(error)


def _sentence(error: Exception) -> str:
    if isinstance(error, CaliberError) or _is_mlflow(error):
        return str(error)
    return f"Unexpected {type(error).__name__}: {error} (set CALIBER_DEBUG=1 for the stack trace)"


def _is_mlflow(error: Exception) -> bool:
    # By name: at this point MLflow need not have been imported.
    return any(kind.__name__ == "MlflowException" for kind in type(error).__mro__)


def exit_code(error: Exception) -> int:
    """The exit code of an error."""
    if isinstance(error, PromotionError):
        return FAILED if error.decision is None else OF_VERDICT[error.decision.verdict]
    if isinstance(error, EvidenceError):
        return FAILED
    return NOT_ENOUGH_DATA if isinstance(error, OneClassError) else USAGE


def mlflow_options(function: Function) -> Function:
    """``--tracking-uri`` and ``--registry-uri``; without them MLflow's own settings hold."""
    tracking = click.option("--tracking-uri", metavar="URI", help="MLflow server or store [MLFLOW_TRACKING_URI].")
    registry = click.option("--registry-uri", metavar="URI", help="Model registry [MLFLOW_REGISTRY_URI].")
    return tracking(registry(function))


def use_mlflow(tracking_uri: str | None, registry_uri: str | None) -> None:
    """Point MLflow to the given addresses."""
    if not sys.stderr.isatty():
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    if tracking_uri is not None:
        mlflow.set_tracking_uri(tracking_uri)
    if registry_uri is not None:
        mlflow.set_registry_uri(registry_uri)


def actor() -> str:
    """Who types, for the audit trail."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "unknown"


def told_to_stop() -> threading.Event:
    """An event that is set when the process is told to end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def emit(value: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print a result, for a program or for a person."""
    click.echo(json.dumps(value, allow_nan=False) if as_json else text)


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows as aligned columns; the last one is not padded."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[float], None] | None]:
    """A bar on stderr to be told the share that is done, if there is somebody to look at it."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1000, label=label, file=sys.stderr) as bar:
        yield lambda share: bar.update(round(1000 * share) - bar.pos)


def made_folder(folder: Path, option: str) -> Path:
    """The folder, made where it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        got = f"{str(folder)!r} ({error.strerror})"
        raise click.BadParameter(f"{option} must be a folder that can be written to, got {got}.") from error


def read_table(path: Path, text: Sequence[str] = ()) -> pd.DataFrame:
    """A file of rows as a frame; of a ``.csv``, the columns ``text`` stay as they are written."""
    import pandas as pd

    kind = path.suffix.lower()
    if kind not in (".parquet", ".csv", ".arrow", ".feather"):
        raise click.BadParameter(f"DATA must be a .parquet, .csv, .arrow or .feather file, got {path.name!r}.")
    try:
        if kind == ".csv":
            # A converter sees every cell as it stands: 0123, NA and an empty one stay what they are.
            frame = pd.read_csv(path, converters=dict.fromkeys(text, str))
        else:
            frame = pd.read_parquet(path) if kind == ".parquet" else pd.read_feather(path)
    except (ValueError, OSError) as error:
        raise click.BadParameter(f"DATA must be a readable {kind} file: {error}") from error
    return frame


def column(frame: pd.DataFrame, name: str, option: str) -> pd.Series[Any]:
    """A column of the data, or a sentence with the columns that there are."""
    check_column(frame.columns, name, option)
    return frame[name]


def check_column(columns: Iterable[Any], name: str, option: str) -> None:
    """Refuse the name of a column that there is not."""
    there = list(map(str, columns))
    if name not in there:
        known = ", ".join(there[:20])
        raise click.BadParameter(f"{option} must name a column of DATA, got {name!r}; there are {known}.")


DATA = click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
DATA_OR_FOLDER = click.argument("data", type=click.Path(exists=True, path_type=Path))
