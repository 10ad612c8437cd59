"""``doctor``: what is installed, what does not go together, what is missing."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib import metadata

import click

from mlflow_caliber._version import __version__
from mlflow_caliber.cli._common import PASSED, USAGE, Command, emit, table

REQUIRED = ("mlflow-skinny", "numpy", "pandas", "scikit-learn", "scipy")
EXTRAS = {
    "evaluate": ("mlflow", "matplotlib", "Jinja2"),
    "evidently": ("evidently",),
    "live": ("SQLAlchemy", "alembic", "pyarrow"),
    "postgres": ("psycopg",),
    "server": ("fastapi", "uvicorn", "prometheus-client"),
    "kafka": ("confluent-kafka",),
    "spark": ("pyspark",),
}
# What a base model may come from; shown when installed.
BASES = ("skops", "xgboost", "xgboost-cpu", "lightgbm", "catboost")


@click.command(cls=Command, example="mlflow-caliber doctor")
def doctor(as_json: bool) -> int:
    """Show versions, packages that do not go together, and what is missing."""
    versions = installed()
    problems, missing = list(find_problems(versions)), list(find_missing(versions))
    found = {"mlflow-caliber": __version__, "python": platform.python_version(), **versions}
    result = {"versions": found, "problems": problems, "missing": missing}
    lines = [table([(f"  {name}", version or "not installed") for name, version in found.items()])]
    lines += [f"PROBLEM: {sentence}" for sentence in problems] or ["No problem found."]
    lines += [f"Optional: {sentence}" for sentence in missing]
    emit(result, "\n".join(lines), as_json=as_json)
    return USAGE if problems else PASSED


def installed() -> dict[str, str | None]:
    """The versions of what we work with; read from metadata, nothing is imported."""
    wanted = (*REQUIRED, *(name for names in EXTRAS.values() for name in names))
    versions = {name: _version(name) for name in (*wanted, *BASES)}
    return {name: version for name, version in versions.items() if version is not None or name in wanted}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def find_problems(versions: Mapping[str, str | None]) -> Iterator[str]:
    """
    What will not work, each with what to do.

    Examples
    --------
    >>> list(find_problems(dict.fromkeys(REQUIRED, "1.0") | {"evidently": "0.7.23", "pandas": "3.1.1"}))
    ["evidently 0.7.23 does not import with pandas 3.1.1: pip install 'pandas<3.1'"]
    """
    for name in REQUIRED:
        if versions.get(name) is None:
            yield f"{name} is required and not installed: pip install --upgrade --force-reinstall mlflow-caliber"
    mlflow, skinny = versions.get("mlflow"), versions.get("mlflow-skinny")
    if mlflow is not None and mlflow != skinny:
        yield (
            f"mlflow {mlflow} needs mlflow-skinny {mlflow}, got {skinny or 'none'}: "
            f"pip install --upgrade 'mlflow{_usable(mlflow)}'"
        )
    pandas, evidently = versions.get("pandas"), versions.get("evidently")
    if evidently is not None and pandas is not None and _release(pandas) >= (3, 1):
        yield f"evidently {evidently} does not import with pandas {pandas}: pip install 'pandas<3.1'"


def _usable(mlflow: str) -> str:
    # mlflow 3.18.0 was published without the mlflow-skinny that it requires.
    return "<3.18" if _release(mlflow) == (3, 18) else ""


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def find_missing(versions: Mapping[str, str | None]) -> Iterator[str]:
    """
    The extras that are not installed, each with how to get it.

    Examples
    --------
    >>> next(find_missing({"mlflow": "3.17.2", "matplotlib": "3.10.0", "Jinja2": "3.1.6"}))
    "evidently is not installed: pip install 'mlflow-caliber[evidently]'"
    """
    for extra, names in EXTRAS.items():
        absent = [name for name in names if versions.get(name) is None]
        if absent:
            verb = "is" if len(absent) == 1 else "are"
            yield f"{', '.join(absent)} {verb} not installed: pip install 'mlflow-caliber[{extra}]'"
