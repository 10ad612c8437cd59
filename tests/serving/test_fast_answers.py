"""The scoring server's faster writer: the same bytes, in that process only."""

from __future__ import annotations

import io
import sys
import types

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.pyfunc import scoring_server

from mlflow_caliber.flavor._serving import frame_json, speed_up_scoring_server
from mlflow_caliber.model import FRAME_COLUMNS

LABELS = st.sampled_from([[0, 1], [True, False], ["no", 'a"b\\c%s\n\0é😀'], [0.5, 2.5]])
SHARES = st.floats(0.0, 1.0)


def frame(labels, shares, n_classes):
    n = len(shares)
    text = pd.Series(['%d "quoted" \u2028 text'] * n, dtype=object)
    columns = dict.fromkeys(FRAME_COLUMNS, text)
    columns["prediction"] = pd.Series([labels[i % 2] for i in range(n)])
    columns |= dict.fromkeys(("probability", "raw_probability", "confidence"), pd.Series(shares, dtype=float))
    columns["abstained"] = pd.Series([i % 3 == 0 for i in range(n)], dtype=bool)
    if n_classes > 2:
        columns["probabilities"] = pd.Series([[share, 1 - share] for share in shares], dtype=object)
    return pd.DataFrame(columns)


def written_by_mlflow(value):
    output = io.StringIO()
    scoring_server.predictions_to_json(value, output)
    return output.getvalue()


@settings(max_examples=50, deadline=None)
@given(labels=LABELS, shares=st.lists(SHARES, max_size=8), n_classes=st.sampled_from([2, 3]))
def test_the_bytes_are_those_of_mlflow(labels, shares, n_classes):
    answers = frame(labels, shares, n_classes)
    assert f'{{"predictions": {frame_json(answers)}}}' == written_by_mlflow(answers)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.pyfunc.scoring_server.app", types.ModuleType("app"))
    monkeypatch.setattr(scoring_server, "predictions_to_json", scoring_server.predictions_to_json)
    speed_up_scoring_server()
    return scoring_server


def test_only_in_the_server_process(monkeypatch):
    monkeypatch.delitem(sys.modules, "mlflow.pyfunc.scoring_server.app", raising=False)
    before = scoring_server.predictions_to_json
    speed_up_scoring_server()
    assert scoring_server.predictions_to_json is before


def test_replaced_once_and_only_for_frames(server, monkeypatch):
    replaced = server.predictions_to_json
    assert hasattr(replaced, "__wrapped__")
    speed_up_scoring_server()
    assert server.predictions_to_json is replaced
    for value in (np.array([1, 2]), pd.DataFrame({"a": [1]}), [{"a": 1}], frame([0, 1], [0.25], 2)):
        output, expected = io.StringIO(), io.StringIO()
        replaced(value, output)
        replaced.__wrapped__(value, expected)
        assert output.getvalue() == expected.getvalue()


def test_a_renamed_function_leaves_mlflow_alone(server, monkeypatch):
    monkeypatch.delattr(scoring_server, "predictions_to_json")
    speed_up_scoring_server()
    assert not hasattr(scoring_server, "predictions_to_json")
