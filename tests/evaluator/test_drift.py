"""Drift against reference rows or the model's own profile, with and without Evidently."""

import sys

import pytest

FEATURES = ["age", "income"]


@pytest.fixture
def without_evidently(monkeypatch):
    monkeypatch.setitem(sys.modules, "evidently", None)
    monkeypatch.setitem(sys.modules, "evidently.presets", None)


@pytest.fixture
def older(people):
    """Reference rows: younger people, the target, and a column that today's data lack."""
    return people[[*FEATURES, "y"]].assign(age=people["age"] - 15.0, retired="no")


def drift_of(done):
    return done.artifacts["caliber/drift.json"].content


def test_native_report(plain, features, older, evaluate, tmp_path):
    older.to_parquet(tmp_path / "older.parquet")
    config = {"reference": str(tmp_path / "older.parquet"), "evidently": False}
    done = evaluate(plain.model_uri, features, config=config)
    drift = drift_of(done)
    assert {column["column"]: column["drifted"] for column in drift["columns"]} == {"age": True, "income": False}
    assert drift["skipped"] == {"retired": "It is not in the current data."}
    assert done.metrics["caliber_drift_share"] == 0.5
    assert "caliber/evidently_drift.html" not in done.artifacts


def test_weights_and_probabilities_are_no_columns_to_compare(people, older, evaluate):
    frame = people.assign(p=0.5, raw=0.4)[["age", "p", "raw", "w", "y"]]
    config = {"reference": older.assign(w=1.0), "evidently": False, "raw_column": "raw", "sample_weight": "w"}
    drift = drift_of(evaluate(None, frame, predictions="p", config=config))
    assert [column["column"] for column in drift["columns"]] == ["age"]
    assert set(drift["skipped"]) == {"income", "retired"}


@pytest.mark.parametrize("reference", [True, False], ids=["rows", "profile"])
def test_the_statistic_that_decides(caliber, people, evaluate, reference):
    config = {"drift_method": ["wasserstein", "cramers_v"], "evidently": False}
    if reference:
        config["reference"] = people[FEATURES]
    drift = drift_of(evaluate("models:/evaluator-people/1", people[[*FEATURES, "y"]], config=config))
    assert {column["method"] for column in drift["columns"]} == {"wasserstein"}


def test_a_reference_of_other_columns_has_no_share(plain, features, older, evaluate):
    done = evaluate(plain.model_uri, features, config={"reference": older[["retired"]], "evidently": False})
    assert "caliber_drift_share" not in done.metrics
    assert set(drift_of(done)["skipped"]) == {"age", "income", "retired"}


def test_a_caliber_model_brings_its_own_reference(caliber, people, evaluate):
    moved = people[[*FEATURES, "y"]].assign(age=people["age"] + 15.0)
    done = evaluate("models:/evaluator-people/1", moved)
    drifted = {column["column"] for column in drift_of(done)["columns"] if column["drifted"]}
    assert drifted >= {"age", "score:1"}


@pytest.mark.usefixtures("without_evidently")
def test_without_evidently_one_line_and_the_native_report(plain, features, older, evaluate, caplog):
    done = evaluate(plain.model_uri, features, config={"reference": older})
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("mlflow_caliber")]
    assert len(lines) == 1
    assert "Evidently's page is left out" in lines[0]
    assert "pip install 'mlflow-caliber[evidently]'" in lines[0]
    assert drift_of(done)["columns"]
    assert "caliber/evidently_drift.html" not in done.artifacts


def test_evidently_gets_the_columns_of_both(plain, features, older, evaluate, monkeypatch):
    """A stand-in for Evidently, which takes seconds to import; tests/drift has the real one."""

    def draw(reference, current, path):
        path.write_text(f"{list(reference)} {list(current)}", encoding="utf-8")

    monkeypatch.setattr("mlflow_caliber.evaluator._log.evidently_report", draw)
    done = evaluate(plain.model_uri, features, config={"reference": older, "evidently": True})
    page = done.artifacts["caliber/evidently_drift.html"].content
    assert page == "['age', 'income', 'retired'] ['age', 'income']"


@pytest.mark.slow
def test_evidently_page(plain, features, older, evaluate):
    pytest.importorskip("evidently")
    done = evaluate(plain.model_uri, features, config={"reference": older})
    assert "<html" in done.artifacts["caliber/evidently_drift.html"].content[:2000]


def test_evidently_needs_rows(caliber, features, evaluate):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="give the earlier ones as reference"):
        evaluate("models:/evaluator-people/1", features, config={"evidently": True})
