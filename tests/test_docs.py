"""Docs cannot lie by leaving out: every name that a user can type or meet stands in ``docs/``."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import yaml

import mlflow_caliber
from mlflow_caliber.calibrators import CALIBRATORS
from mlflow_caliber.cli import main
from mlflow_caliber.evaluator import EvaluatorConfig
from mlflow_caliber.gate import GatePolicy, registry
from mlflow_caliber.ledger import ACTIONS
from mlflow_caliber.metrics import METRIC_PREFIX, METRICS
from mlflow_caliber.model import FRAME_COLUMNS, REASONS, UNCALIBRATED
from mlflow_caliber.signed_decision import TAG_DECISION, TAG_SIGNATURE

ROOT = Path(__file__).resolve().parent.parent
DOCS = {file: file.read_text(encoding="utf-8") for file in sorted((ROOT / "docs").rglob("*.md"))}
PAGES = {**DOCS, ROOT / "README.md": (ROOT / "README.md").read_text(encoding="utf-8")}
EVERYTHING = "\n".join(DOCS.values())


def documented(name: str) -> bool:
    """Whether the name stands in the docs as code."""
    return re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", EVERYTHING) is not None


@pytest.mark.parametrize("key", METRICS)
def test_metric_keys(key: str) -> None:
    assert documented(METRIC_PREFIX + key)


@pytest.mark.parametrize("field", dataclasses.fields(EvaluatorConfig), ids=lambda field: field.name)
def test_evaluator_config_keys(field: dataclasses.Field[object]) -> None:
    assert documented(f"`{field.name}`")


@pytest.mark.parametrize("tag", sorted(value for name, value in vars(registry).items() if name.startswith("TAG_")))
def test_tags(tag: str) -> None:
    assert documented(tag)


SIGNED = [f"{TAG_DECISION}<target>", f"{TAG_SIGNATURE}<target>"]
GUARDS = ["caliber_approved_by", "caliber_override_reason", "caliber_expires_at", *SIGNED]
LINEAGE = ["caliber_parent_version", "caliber_calibrator_revision", "caliber_previous_champion"]


@pytest.mark.parametrize("tag", [*LINEAGE, *GUARDS])
def test_tags_of_lineage_and_of_the_guard(tag: str) -> None:
    assert documented(tag)


@pytest.mark.parametrize("name", [*FRAME_COLUMNS, "probabilities", *filter(None, REASONS), UNCALIBRATED])
def test_prediction_frame(name: str) -> None:
    assert documented(f"`{name}`")


@pytest.mark.parametrize("name", CALIBRATORS)
def test_calibrators(name: str) -> None:
    assert documented(name)


def commands(group: click.Group, prefix: str = "") -> list[tuple[str, click.Command]]:
    found = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, f"{prefix}{name} ")
        else:
            found.append((prefix + name, command))
    return found


@pytest.mark.parametrize(("name", "command"), commands(main), ids=lambda value: value if isinstance(value, str) else "")
def test_commands_and_their_options(name: str, command: click.Command) -> None:
    assert documented(f"mlflow-caliber {name}")
    section = of_command(name.split(maxsplit=1)[0])
    for parameter in command.params:
        for option in parameter.opts:
            is_said = option == "--json" or re.search(rf"`{option}[` ]", section)
            assert is_said or not option.startswith("--"), f"{name} {option} is missing from cli.md"


def of_command(name: str) -> str:
    """Its section of cli.md, and those that it refers to."""
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## [^\n]*`{name}`.*?(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return "".join([section, *map(of_command, re.findall(r"(?:is|are) as for `(\w+)`", section))])


def test_entry_points() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for group, names in project["entry-points"].items():
        assert documented(group)
        for name, target in names.items():
            assert documented(name)
            assert importlib.metadata.EntryPoint(name, target, group).load()
    for extra in project["optional-dependencies"]:
        assert re.search(rf"mlflow-caliber\[[\w,]*\b{extra}\b", EVERYTHING), f"the extra {extra} is not in docs/"


def test_routes_of_the_guard() -> None:
    from mlflow_caliber.guard import ROUTES

    for route in ROUTES:
        assert re.search(rf"{route.method} {re.escape(route.path)}(?![\w/])", EVERYTHING), route.path


def test_environment_variables() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in Path(mlflow_caliber.__file__).parent.rglob("*.py"))
    for name in set(re.findall(r'"((?:MLFLOW_)?CALIBER_[A-Z_]+)"', code)):
        assert documented(name), name


@pytest.mark.parametrize("action", ACTIONS)
def test_acts_in_the_ledger(action: str) -> None:
    assert documented(f"`{action}`")


def test_public_names() -> None:
    for name in mlflow_caliber.__all__:
        assert documented(name), name


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"]]
    wanted += [line for lines in project["project"]["optional-dependencies"].values() for line in lines]
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for line in wanted:
        name = re.split(r"[\s\[<>=!;]", line)[0]
        assert name == "mlflow-caliber" or f"`{name}`" in page, f"docs/architecture.md does not say why {name} is there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", PAGES[page]):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_and_python_blocks_parse(page: Path) -> None:
    for language, block in re.findall(r"```(\w+)\n(.*?)```", PAGES[page], re.DOTALL):
        if language == "python":
            compile(block, str(page), "exec")
        elif language == "yaml" and block.lstrip().startswith("gate:"):
            GatePolicy.from_dict(yaml.safe_load(block)["gate"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shown_commands_exist(page: Path) -> None:
    known = dict(commands(main))
    for block in re.findall(r"```(?:bash|shell|sh|console)\n(.*?)```", PAGES[page], re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] != ["mlflow-caliber"] or len(words) < 2 or words[1].startswith("-"):
                continue
            depth = next((n for n in (2, 1) if " ".join(words[1 : n + 1]) in known), 0)
            assert depth, f"{page.name} shows {line!r}"
            name = " ".join(words[1 : depth + 1])
            try:
                known[name].make_context(name, words[depth + 1 :])
            except (click.MissingParameter, click.NoSuchOption) as error:
                pytest.fail(f"{page.name} shows {line!r}: {error.format_message()}")
            except (click.BadParameter, click.exceptions.Exit):
                pass  # a file that is not here, or --help


@pytest.mark.parametrize("name", ["reports.md", "statistics-at-scale.md"])
def test_blocks_run_and_print_what_they_show(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page, names = (ROOT / "docs/user-guide" / name).read_text(encoding="utf-8"), dict[str, object]()
    for block, _, shown in re.findall(r"```python\n(.*?)```(\n+```text\n(.*?)```)?", page, re.DOTALL):
        exec(block, names)
        printed = capsys.readouterr().out
        assert not shown or printed == shown


def test_changelog_has_this_version() -> None:
    assert f"## {mlflow_caliber.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_quoted_example_policy_is_the_shipped_one() -> None:
    shipped = GatePolicy.load(ROOT / "examples" / "caliber.yaml")
    assert set(shipped.targets) == {"champion"}


def test_routes_of_the_service() -> None:
    from live_service import routes_of
    from mlflow_caliber.server import ServerSettings, create_app
    from mlflow_caliber.store import open_store

    page = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    app = create_app(open_store("sqlite://"), ServerSettings(store_uri="sqlite://"))
    found = routes_of(app)
    assert len(found) > 40
    for method, path in found:
        assert re.search(rf"{method} {re.escape(path)}(?![\w/])", page), f"{method} {path} is not in api.md"


def test_metrics_of_the_service() -> None:
    from mlflow_caliber.server._metrics import Metrics

    for line in Metrics().text().decode().splitlines():
        if line.startswith("# TYPE") and "_created " not in line:
            assert documented(line.split()[2]), line
