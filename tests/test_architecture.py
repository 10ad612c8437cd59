"""The house's rules: which room may import which, what is public, and what stays unloaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mlflow_caliber

ROOT = Path(mlflow_caliber.__file__).parent

# From the top down: a room may import rooms of later rows only. Rooms of one row do not import one another.
STRATA = (
    ("cli",),
    ("guard", "server", "kafka"),
    ("live",),
    ("flavor", "evaluator", "gate"),
    ("spark",),
    ("scorers", "evidence", "config", "signed_decision"),
    ("store", "ledger", "client"),
    ("html", "theme"),
    ("plots",),
    ("batches",),
    ("report", "model", "diagnosis"),
    ("abstain", "drift", "online"),
    ("calibrators", "metrics"),
    ("_pava",),
    (
        "_ahead",
        "_cells",
        "_odds",
    ),
    ("_state",),
    ("_signing",),
    ("_validation",),
    ("exceptions", "_version", "_ids"),
)
LEVEL = {room: level for level, rooms in enumerate(STRATA) for room in rooms}

NO_MLFLOW = [room for rooms in STRATA[STRATA.index(("store", "ledger", "client")) :] for room in rooms]
HEAVY = ("mlflow", "matplotlib", "jinja2", "evidently", "fastapi", "confluent_kafka", "xgboost", "lightgbm", "catboost")
HEAVY += ("sqlalchemy", "alembic", "psycopg", "pyspark")
OWNERS = {
    "evidently": {"drift"},
    "matplotlib": {"plots"},
    "jinja2": {"html", "server"},
    "click": {"cli"},
    "skops": {"flavor"},
}
OWNERS |= {library: {"store"} for library in ("alembic", "psycopg")}
OWNERS |= {"confluent_kafka": {"kafka"}, "pyspark": {"spark"}, "pyarrow": {"store", "batches", "spark", "evidence"}}
OWNERS |= {"sqlalchemy": {"store", "ledger", "guard"}, "flask": {"guard"}}
OWNERS |= {library: {"server"} for library in ("fastapi", "starlette", "uvicorn", "prometheus_client", "pydantic")}


def modules() -> list[tuple[str, Path]]:
    """(room, file) of every module but the package's own front door."""
    files = [file for file in ROOT.rglob("*.py") if file != ROOT / "__init__.py"]
    return [(file.relative_to(ROOT).parts[0].removesuffix(".py"), file) for file in files]


def imports(file: Path, *, top_level: bool = False) -> set[str]:
    """Full names of everything a file imports, in functions too unless ``top_level``."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = ast.iter_child_nodes(tree) if top_level else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_room_has_its_place() -> None:
    assert {room for room, _ in modules()} == set(LEVEL)


@pytest.mark.parametrize(("room", "file"), modules(), ids=lambda value: getattr(value, "name", value))
def test_imports_point_down(room: str, file: Path) -> None:
    names = {name.split(".")[1] for name in imports(file) if name.startswith("mlflow_caliber.")}
    others = {name for name in names if name in LEVEL} - {room}
    wrong = {other for other in others if LEVEL[other] <= LEVEL[room]}
    assert not wrong, f"{room} may not import {sorted(wrong)}"


@pytest.mark.parametrize(("room", "file"), modules(), ids=lambda value: getattr(value, "name", value))
def test_private_files_stay_in_their_room(room: str, file: Path) -> None:
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "mlflow_caliber" and len(parts) > 2 and parts[1] not in (room, "_version"):
            assert not parts[2].startswith("_"), f"{file} reaches into {name}"


@pytest.mark.parametrize(("room", "file"), modules(), ids=lambda value: getattr(value, "name", value))
def test_libraries_stay_where_they_belong(room: str, file: Path) -> None:
    roots = {name.split(".")[0] for name in imports(file)}
    if room in NO_MLFLOW:
        assert "mlflow" not in roots
    for library, owners in OWNERS.items():
        assert library not in roots or room in owners, f"{room} imports {library}"


def test_a_report_of_files_starts_without_what_is_slow_to_load() -> None:
    slow = ("scipy.stats", "scipy.signal", "sklearn", "mlflow")
    code = f"import sys\nimport mlflow_caliber.batches\nprint(*(name for name in {slow!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_numerics_load_no_heavy_library() -> None:
    # From the ground up in one process: what a room loads is seen when it comes, and the rooms above may use it too.
    rooms = [room for room in reversed(NO_MLFLOW) if room != "html"]
    modules = ["mlflow_caliber", *(f"mlflow_caliber.{room}" for room in rooms)]
    code = "import importlib, sys\nfor name in sys.argv[1].split():\n    importlib.import_module(name)\n"
    code += f"    print(name, *sorted(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, " ".join(modules)], capture_output=True, text=True, check=True)
    allowed = {"mlflow_caliber.plots": {"matplotlib"}, "mlflow_caliber.store": {"sqlalchemy", "alembic"}}
    allowed |= {"mlflow_caliber.ledger": {"sqlalchemy"}}
    loaded: set[str] = set()
    for line in done.stdout.splitlines():
        name, *heavy = line.split()
        assert set(heavy) <= loaded | allowed.get(name, set()), name
        loaded = set(heavy)


def test_flavor_loads_neither_plots_nor_bases() -> None:
    # What a serving container pays for at start-up.
    code = "import sys, mlflow_caliber.flavor; print(*sorted(m for m in sys.modules if m in ('matplotlib', 'evidently',"
    code += " 'jinja2', 'xgboost', 'lightgbm', 'catboost', 'mlflow_caliber.evaluator', 'mlflow_caliber.gate')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"matplotlib"}  # full MLflow imports it by itself


def test_public_names_are_what_the_package_says() -> None:
    for name in mlflow_caliber.__all__:
        assert getattr(mlflow_caliber, name) is not None
    lazy = set(mlflow_caliber._HOME) | {"__version__"}
    assert lazy - {"_load_pyfunc"} == set(mlflow_caliber.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mlflow_caliber.nothing


def test_every_room_declares_its_public_names() -> None:
    for room in LEVEL:
        front = ROOT / room / "__init__.py" if (ROOT / room).is_dir() else ROOT / f"{room}.py"
        assert "__all__" in front.read_text(encoding="utf-8") or room == "_version", f"{room} has no __all__"


def test_no_pickle_of_our_own() -> None:
    for _, file in modules():
        roots = {name.split(".")[0] for name in imports(file)}
        assert not roots & {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"}, file


@pytest.mark.parametrize(("room", "file"), modules(), ids=lambda value: getattr(value, "name", value))
def test_files_and_functions_stay_small(room: str, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 60, f"{file.name}:{node.name} has {lines} lines"
