"""The section ``live`` of caliber.yaml."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.live import (
    MONITORED_KINDS,
    MonitorSettings,
    live_section,
)


def test_settings_and_configuration_have_one_set_of_defaults(tmp_path, monkeypatch):
    assert MonitorSettings() == MonitorSettings.from_dict({})
    monkeypatch.chdir(tmp_path)
    assert live_section() == {}
    (tmp_path / "caliber.yaml").write_text("live: {window_days: 14, alerts: {log: false}}")
    assert MonitorSettings.from_dict(live_section()).window_days == 14.0
    assert live_section()["alerts"] == {"log": False}
    with pytest.raises(ConfigError, match="must be a file"):
        live_section(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"window_days": 0}, "live.window_days must be a number above 0, got 0"),
        ({"windowdays": 1}, "Did you mean 'window_days'"),
        ({"alerts": {"log": "yes"}}, "live.alerts.log must be true or false, got 'yes'"),
        ({"alerts": {"webhook": {"url": "https://a"}}}, "live.alerts.webhook must have the key 'secret_env'"),
        ({"alerts": {"slack": {"url_env": "https://a"}}}, "live.alerts.slack.url_env must match"),
    ],
)
def test_settings_that_are_refused(section, sentence):
    with pytest.raises(ConfigError, match=sentence):
        MonitorSettings.from_dict(section)


def test_the_documented_example_is_a_configuration():
    page = (Path(__file__).parents[2] / "docs/reference/config.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n(live:.*?)```", page, re.DOTALL)
    section = yaml.safe_load(example)["live"]
    assert MonitorSettings.from_dict(section).silence_outcomes_days == 10.0
    for field in fields(MonitorSettings):
        assert f"| `{field.name}` |" in page
    monitor_page = (Path(__file__).parents[2] / "docs/user-guide/monitor.md").read_text(encoding="utf-8")
    for kind in (*MONITORED_KINDS, "harm"):
        assert f"| `{kind}` |" in monitor_page
