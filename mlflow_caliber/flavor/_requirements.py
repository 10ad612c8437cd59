"""What a saved model needs installed: read off the model's own modules, never found by running it."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlflow_caliber._version import __version__

__all__ = ["base_requirements", "combined_requirements", "read_requirements"]

_OURS = ("numpy", "pandas", "scikit-learn", "scipy")


def base_requirements(model: Any, extra: Iterable[str] = ()) -> list[str]:
    """Pinned distributions that define the classes of a model, its steps and their parameters."""
    roots = {type(part).__module__.split(".", 1)[0] for part in _parts(model)}
    roots -= set(sys.stdlib_module_names) | {"__main__", "mlflow_caliber", "mlflow"}
    owners = _distributions()
    names = {owners[root][0] for root in roots if root in owners}
    return sorted({_pin(name) for name in names} | set(extra))


def combined_requirements(base: Iterable[str], code_paths: bool) -> list[str]:
    """The base's requirements and ours; without ourselves when the package travels as ``code_paths``.

    The base's own version of a library wins over ours, whose ranges are wide.
    """
    wanted = {_name(line): line for line in (*map(_pin, _OURS), *base)}
    for name in ("mlflow", "mlflow-caliber"):  # MLflow pins itself, and the base may come from an older version of us
        wanted.pop(name, None)
    mine = [] if code_paths else [f"mlflow-caliber=={__version__}"]
    return [*(wanted[name] for name in sorted(wanted)), *mine]


def read_requirements(folder: Path) -> list[str]:
    """Lines of a saved model's requirements.txt, without comments and references to other files."""
    file = folder / "requirements.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith(("#", "-c ", "-r "))]


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Which distribution brings a top-level package; reading the whole environment takes a second."""
    return importlib.metadata.packages_distributions()


def _parts(model: Any, depth: int = 0) -> Iterator[Any]:
    yield model
    if depth > 5:
        return
    if isinstance(model, dict):
        children: Iterable[Any] = model.values()
    elif isinstance(model, list | tuple | set):
        children = model
    elif (hasattr(model, "get_params") or depth == 0) and hasattr(model, "__dict__") and not isinstance(model, type):
        # Fitted attributes too: a meta-estimator keeps its fitted children there, and a PythonModel its model.
        children = [value for name, value in vars(model).items() if not name.startswith("__")]
    else:
        return
    for child in children:
        if not isinstance(child, str | bytes | int | float | bool | type(None)):
            yield from _parts(child, depth + 1)


def _pin(name: str) -> str:
    return f"{name}=={importlib.metadata.version(name)}"


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[=<>!~;@]", requirement, maxsplit=1)[0]).lower()
