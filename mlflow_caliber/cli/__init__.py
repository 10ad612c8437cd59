"""The ``mlflow-caliber`` command.

Every command imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import click

from mlflow_caliber._version import __version__
from mlflow_caliber.cli._audit import audit
from mlflow_caliber.cli._consume import consume
from mlflow_caliber.cli._db import db
from mlflow_caliber.cli._demo_server import demo_server
from mlflow_caliber.cli._doctor import doctor
from mlflow_caliber.cli._gate import gate, promote, rollback
from mlflow_caliber.cli._governance import approve, expire, freeze, override, unfreeze, verify
from mlflow_caliber.cli._recalibrate import recalibrate
from mlflow_caliber.cli._report import report
from mlflow_caliber.cli._revision import revision
from mlflow_caliber.cli._score import score
from mlflow_caliber.cli._server import server
from mlflow_caliber.cli._simulate import simulate
from mlflow_caliber.cli._status import status
from mlflow_caliber.cli._store import outcomes, store
from mlflow_caliber.cli._token import token
from mlflow_caliber.cli._worker import worker

__all__ = ["main"]


EXIT_CODES = """\b
Exit codes:
  0  done, or the gate passed
  1  the gate failed or refused
  2  wrong usage or configuration
  3  not enough data to decide"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="mlflow-caliber")
def main() -> None:
    """The reliability layer of MLflow: measure, gate, promote, roll back, recalibrate, learn live."""


_COMMANDS = (
    *(report, gate, promote, rollback, approve, override, freeze, unfreeze, expire, verify, audit),
    *(recalibrate, worker, status, revision, outcomes, store, doctor),
    *(server, token, db, simulate, demo_server, consume, score),
)
for command in _COMMANDS:
    main.add_command(command)
