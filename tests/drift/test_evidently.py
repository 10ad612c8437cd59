"""Evidently's report: drawn once for real, and everything that can be wrong with Evidently."""

import os
import re
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber.drift import evidently_report
from mlflow_caliber.exceptions import InvalidInputError, OptionalDependencyError

N = 1000


def sample(seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.normal(40 + shift, 10, N),
            "children": pd.array([*rng.integers(0, 60, N - 1), None], dtype="Int64"),
            "paid": pd.array([*(rng.random(N - 1) < 0.5), None], dtype="boolean"),
            "region": rng.choice(["north", "south"], N),
            "since": pd.date_range("2020-01-01", periods=N, freq="D", tz="UTC"),
            "target": rng.choice(["yes", "no"], N),
            "empty": [None] * N,
            "id": [f"row {i}" for i in range(N)],
        },
        index=[7] * N,
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """One real report, with warnings as errors and telemetry calls recorded as they would be at a user's."""
    path = tmp_path_factory.mktemp("evidently") / "drift.html"
    current = sample(2, shift=20).assign(new=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DO_NOT_TRACK", raising=False)
        sent = []
        patch.setattr("iterative_telemetry.IterativeTelemetryLogger._send_daemon", lambda _, event: sent.append(event))
        patch.setattr("iterative_telemetry.IterativeTelemetryLogger._send", lambda _, event: sent.append(event))
        state = np.random.get_state()[1].copy()  # noqa: NPY002
        left_out = evidently_report(sample(1), current, path)
        same_state = np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
        after = os.environ.get("DO_NOT_TRACK")
    return types.SimpleNamespace(
        html=path.read_text("utf-8"), left_out=left_out, after=after, same_state=same_state, sent=sent
    )


def test_the_report_shows_every_column_it_can(drawn):
    for name in ["age", "children", "paid", "region", "since", "target"]:
        assert f'"column_name": "{name}"' in drawn.html
    assert set(re.findall(r'"stattest_name": "([^"]+)"', drawn.html)) == {"PSI"}
    assert "Drift is detected for 16.667% of columns (1 out of 6)." in drawn.html
    assert len(drawn.html) < 6_000_000


def test_the_columns_it_cannot_show_are_named(drawn):
    assert drawn.left_out == {
        "empty": "Every value of the reference is missing.",
        "id": "It holds 1000 levels in 1000 rows, as an identifier or free text does.",
        "new": "It is not in the reference.",
    }


def test_the_report_loads_nothing_from_the_network(drawn):
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', drawn.html)
    assert loaded == []


def test_nothing_is_sent(drawn):
    assert drawn.sent == []


def test_the_process_is_left_as_it_was(drawn):
    assert drawn.after is None
    assert drawn.same_state


@pytest.fixture
def stand_in(monkeypatch):
    """A module in Evidently's place, so that these tests do not wait for the real one."""

    def put(**attributes):
        module = types.ModuleType("evidently")
        vars(module).update(__version__="0.7.23", presets=types.ModuleType("evidently.presets"), **attributes)
        monkeypatch.setitem(sys.modules, "evidently", module)
        monkeypatch.setitem(sys.modules, "evidently.presets", module.presets)

    return put


def test_a_missing_evidently_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "evidently", None)
    with pytest.raises(
        OptionalDependencyError, match=r"needs a working Evidently, got ModuleNotFoundError: .*"
    ) as caught:
        evidently_report(sample(1), sample(2), tmp_path / "drift.html")
    assert "pip install 'mlflow-caliber[evidently]'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_evidently_that_breaks_in_its_import_is_one_sentence(monkeypatch, tmp_path):
    """On pandas 3.1 it is an ImportError, on another pair an AttributeError: any exception has to be caught."""
    (tmp_path / "evidently").mkdir()
    (tmp_path / "evidently" / "__init__.py").write_text("raise AttributeError('module numpy has no attribute core')")
    for name in [name for name in sys.modules if name.split(".")[0] == "evidently"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        OptionalDependencyError, match=r"got AttributeError: module numpy has no attribute core\. Install"
    ):
        evidently_report(sample(1), sample(2), tmp_path / "drift.html")


def test_an_evidently_that_breaks_at_work_is_one_sentence(stand_in, tmp_path):
    def definition(**_):
        assert os.environ["DO_NOT_TRACK"] == "1"
        raise ZeroDivisionError("no rows")

    stand_in(DataDefinition=definition)
    with pytest.raises(
        OptionalDependencyError, match=r"Evidently 0\.7\.23 can draw, got ZeroDivisionError: no rows on age, "
    ):
        evidently_report(sample(1), sample(2), tmp_path / "drift.html")


@pytest.mark.parametrize("before", [None, "0"])
def test_do_not_track_is_put_back_after_a_failure(stand_in, monkeypatch, tmp_path, before):
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    if before is not None:
        monkeypatch.setenv("DO_NOT_TRACK", before)
    stand_in()
    with pytest.raises(OptionalDependencyError, match="got AttributeError"):
        evidently_report(sample(1), sample(2), tmp_path / "drift.html")
    assert os.environ.get("DO_NOT_TRACK") == before


def test_nothing_to_draw_is_refused_before_evidently_is_imported(tmp_path):
    gone = sample(2)[["age"]].assign(age=np.nan)
    with pytest.raises(InvalidInputError, match=r"at least one column that both frames have.*current data is missing"):
        evidently_report(sample(1), gone, tmp_path / "drift.html")
    with pytest.raises(InvalidInputError, match="threshold must be a finite number of at least 0, got -1"):
        evidently_report(sample(1), sample(2), tmp_path / "drift.html", threshold=-1)
    with pytest.raises(InvalidInputError, match="reference must be a pandas DataFrame, got a NoneType"):
        evidently_report(None, sample(2), tmp_path / "drift.html")


def test_the_package_does_not_import_evidently():
    code = "import sys, mlflow_caliber.drift; print({m.split('.')[0] for m in sys.modules} & {'evidently', 'mlflow'})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
