"""The command, as a test runs it."""

from __future__ import annotations

import json

from click.testing import CliRunner

from mlflow_caliber.cli import main


def run(*arguments):
    """What became of it."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def ok(*arguments):
    """Its answer as JSON; it has to succeed."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])
