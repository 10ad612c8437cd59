"""The guide names every setting and every artifact, and its code is Python."""

import ast
import re
from pathlib import Path

import pytest

from mlflow_caliber import evidence
from mlflow_caliber.evaluator import EvaluatorConfig

GUIDE = (Path(__file__).parents[2] / "docs" / "user-guide" / "evaluator.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", EvaluatorConfig.keys())
def test_every_setting_has_a_row(key):
    assert f"| `{key}` |" in GUIDE


@pytest.mark.parametrize("name", [value for value in vars(evidence).values() if str(value).startswith("caliber")])
def test_every_artifact_and_tag_is_named(name):
    assert f"`{name}`" in GUIDE


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
def test_code_is_python(code):
    ast.parse(code)
