"""What others copy to run the service: units, compose file and image call commands that exist, and hide secrets."""

from __future__ import annotations

import configparser
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from mlflow_caliber.cli import main

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
GUIDE = (ROOT / "docs" / "user-guide" / "service.md").read_text(encoding="utf-8")
UNITS = sorted((EXAMPLES / "systemd").glob("*.service"))


def parses(words):
    """Whether click takes the words as one of our commands."""
    command, name = main, None
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    command.make_context(name, list(words))


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.stem)
def test_units(file):
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read_string(file.read_text(encoding="utf-8"))
    service = unit["Service"]
    for line in (service["ExecStart"], service.get("ExecStartPre", service["ExecStart"])):
        program, *words = shlex.split(line)
        assert Path(program).name == "mlflow-caliber"
        parses(words)
    # Two dynamic users would each make the folder that both need their own.
    assert (service["User"], service["StateDirectory"], "DynamicUser" in service) == ("caliber", "caliber", False)
    safe = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes"}
    assert safe.items() <= dict(service).items()
    assert service["CapabilityBoundingSet"] == ""
    assert f"examples/systemd/{file.name}" in GUIDE
    assert f"u {service['User']} - " in GUIDE


def test_there_is_a_unit_for_each_process():
    assert [file.stem for file in UNITS] == ["caliber-server", "caliber-worker"]
    assert "mlflow-caliber db upgrade\n" in UNITS[0].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((EXAMPLES / "compose" / "compose.yaml").read_text(encoding="utf-8"))


def test_the_compose_file_runs_commands_that_exist(compose):
    services = compose["services"]
    assert sorted(services) == ["db", "proxy", "server", "upgrade", "worker"]
    assert services["worker"]["environment"]["MLFLOW_TRACKING_URI"] == "${MLFLOW_TRACKING_URI:-}"
    for name in ("server", "upgrade", "worker"):
        parses(services[name]["command"])
        assert services[name]["image"] == services["server"]["image"]
        assert services[name]["environment"]["MLFLOW_CALIBER_STORE_URI"].startswith("postgresql://")
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        assert {volume.split(":")[0] for volume in service.get("volumes", []) if volume[0] != "."} <= set(
            compose["volumes"]
        )
        assert set(service["networks"]) <= set(compose["networks"])


def test_the_compose_file_keeps_secrets_out_and_only_the_proxy_in_reach(compose):
    services = compose["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert compose["networks"]["inside"]["internal"] is True
    assert services["db"]["networks"] == services["server"]["networks"] == ["inside"]
    text = (EXAMPLES / "compose" / "compose.yaml").read_text(encoding="utf-8")
    assert all(value == "${POSTGRES_PASSWORD:?}" for value in re.findall(r"PASSWORD: (.*)", text))
    assert "caliber:${POSTGRES_PASSWORD:?}@" in text
    for name in ("server", "worker"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]


def test_the_image_installs_extras_that_exist_and_runs_as_nobody():
    text = (EXAMPLES / "compose" / "Dockerfile").read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (given,) = re.findall(r"/src\[([\w,]+)\]", text)
    assert set(given.split(",")) <= set(extras)
    assert re.search(r"^USER caliber$", text, re.MULTILINE)


def test_the_image_gets_what_it_needs_and_no_secrets():
    text = (EXAMPLES / "compose" / "Dockerfile").read_text(encoding="utf-8")
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()}
    assert copied == {"pyproject.toml", "README.md", "LICENSE", "mlflow_caliber"}
    nothing, *but = [line for line in lines_of(".dockerignore") if line[0] in "*!" and line != "**/__pycache__"]
    assert nothing == "*"
    assert {line.removeprefix("!") for line in but} == copied
    assert "examples/compose/.env" in lines_of(".gitignore")


def lines_of(name):
    return [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line]


def test_every_metric_is_in_the_guide():
    from mlflow_caliber.server._metrics import Metrics

    made = set(re.findall(rb"^# TYPE (caliber_\w+) ", Metrics().text(), re.MULTILINE))
    names = {name.decode() for name in made if not name.endswith(b"_created")}
    assert len(names) >= 11
    for name in names:
        assert f"`{name}" in GUIDE, name
    for name in re.findall(r"^\| `(caliber_\w+)", GUIDE, re.MULTILINE):
        assert name in names, name
