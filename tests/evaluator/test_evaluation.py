"""Whole evaluations: what stands on the run, on the logged model, and in the evidence."""

import json

import numpy as np
import pytest

FEATURES = ["age", "income"]
QUIET = {"default": {"log_model_explainability": False}}
NAMES = {"caliber/report.json", "caliber/report.html", "caliber/reliability.png", "caliber/risk_coverage.png"}


@pytest.fixture
def client(store):
    from mlflow import MlflowClient

    return MlflowClient()


def ours(metrics):
    return {key: value for key, value in metrics.items() if key.startswith("caliber")}


# --- alone and beside the default evaluator ---------------------------------------------------------------------------


def test_alone_and_beside_default_are_one(store, features, evaluated):
    import mlflow

    with (
        mlflow.start_run(experiment_id=store.experiment),
        pytest.warns(FutureWarning, match="mlflow.evaluate. API has been deprecated"),
    ):
        beside = mlflow.evaluate(
            "models:/evaluator-people/1",
            features,
            targets="y",
            model_type="classifier",
            evaluators=["default", "caliber"],
            model_config={"output": "label"},
            evaluator_config=QUIET,
        )
    assert ours(beside.metrics) == evaluated.metrics
    assert len(evaluated.metrics) > 20
    assert beside.metrics["accuracy_score"] == pytest.approx(evaluated.metrics["caliber_accuracy"])


def test_beside_default_on_a_plain_model(plain, features, evaluate):
    done = evaluate(plain.model_uri, features, evaluators=["default", "caliber"], config=QUIET)
    for theirs, mine in (("roc_auc", "roc_auc"), ("log_loss", "log_loss"), ("accuracy_score", "accuracy")):
        assert done.metrics[f"caliber_{mine}"] == pytest.approx(done.metrics[theirs])


def test_ten_classes_beside_default(digits_model, digits, evaluate):
    import mlflow

    model = mlflow.pyfunc.load_model(digits_model.model_uri, model_config={"output": "label"})
    done = evaluate(model, digits[1200:], evaluators=["default", "caliber"], config=QUIET)
    assert done.metrics["caliber_accuracy"] == pytest.approx(done.metrics["accuracy_score"])
    assert done.metrics["caliber/class/digit 3/prevalence"] == pytest.approx((digits["y"][1200:] == "digit 3").mean())


@pytest.mark.parametrize(
    ("key", "threshold", "missing"),
    [("caliber_ece", 0.5, False), ("caliber_ece", 1e-9, False), ("caliber_nope", 1, True)],
)
def test_thresholds_of_mlflow(evaluated, key, threshold, missing):
    import mlflow
    from mlflow.models import MetricThreshold
    from mlflow.models.evaluation.validation import ModelValidationFailedException

    result = evaluated.result
    wanted = {key: MetricThreshold(threshold=threshold, greater_is_better=False)}
    if threshold == 0.5:
        mlflow.validate_evaluation_results(wanted, result)
    else:
        with pytest.raises(ModelValidationFailedException, match=key):
            mlflow.validate_evaluation_results(wanted, result)


# --- metrics ----------------------------------------------------------------------------------------------------------


def how_often(client, run_id, metrics):
    return {len(client.get_metric_history(run_id, key)) for key in metrics}


def test_metrics_of_a_version_are_on_the_run_once(evaluated, client):
    assert how_often(client, evaluated.run_id, evaluated.metrics) == {1}
    assert evaluated.run.data.metrics == pytest.approx(evaluated.metrics)


@pytest.mark.parametrize("how", ["loaded", "model_id"])
def test_metrics_of_a_logged_model_are_on_both_once(caliber, features, evaluate, client, how):
    import mlflow

    uri = f"models:/{caliber.model_id}"
    model = {"loaded": mlflow.pyfunc.load_model(uri), "model_id": "models:/evaluator-people/1"}[how]
    more = {"model_id": caliber.model_id} if how == "model_id" else {}
    done = evaluate(model, features, **more)
    assert how_often(client, done.run_id, done.metrics) == {1}
    of_run = [m.key for m in client.get_logged_model(caliber.model_id).metrics if m.run_id == done.run_id]
    assert sorted(of_run) == sorted(done.metrics)


def test_many_segments_fit_into_one_batch(plain, people, evaluate, client):
    frame = people.assign(**{f"s{k}": [f"value {i % 45}" for i in range(len(people))] for k in range(4)})
    config = {"segments": [f"s{k}" for k in range(4)], "sample_weight": "w"}
    done = evaluate(f"models:/{plain.model_id}", frame, config=config)
    assert len(done.run.data.metrics) == len(done.metrics) == 800
    assert len(done.artifacts["caliber/report.json"].content["report"]["segments"]) == 180


def test_segments_weights_and_hostile_values(caliber, people, evaluate):
    values = np.array(["<script>alert(1)</script>", "a/b", "a_b", "k=v", "北京"])
    frame = people.assign(region=values[np.arange(len(people)) % 5])
    done = evaluate("models:/evaluator-people/1", frame, config={"segments": ["region"], "sample_weight": "w"})
    assert [v for k, v in done.run.data.metrics.items() if k.endswith("/n")] == [120.0] * 5
    assert "<script>alert" not in done.artifacts["caliber/report.html"].content
    assert done.metrics["caliber_prevalence"] == pytest.approx(np.average(people["y"], weights=people["w"]))


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_evidence_of_a_version(caliber, features, evaluated, client):
    from mlflow_caliber.evidence import (
        data_digest,
        find_all_evidence,
        identify_model,
        load_evidence,
        load_rows,
        recompute,
    )

    evidence = load_evidence(evaluated.run_id, client)
    assert (
        evidence.model.digest
        == identify_model("models:/evaluator-people/1").digest
        == evaluated.run.data.tags["caliber_model_digest"]
    )
    assert evidence.model.uri == f"models:/{caliber.model_id}"
    assert evidence.model.model_id == caliber.model_id
    assert (
        evidence.data.digest
        == data_digest(features[FEATURES], features["y"])
        == evaluated.run.data.tags["caliber_data_digest"]
    )
    assert evidence.run_id == evaluated.run_id
    newest = find_all_evidence(client, evidence.model.digest, data_digest=evidence.data.digest)[-1]
    assert load_evidence(newest, client).report == evidence.report
    for key, value in evidence.reliability.metrics.items():
        assert evaluated.metrics[f"caliber_{key}"] == value
    rows = load_rows(evidence, evaluated.run_id, client)
    np.testing.assert_array_equal(rows.y, features["y"])
    assert rows.raw.shape == rows.p.shape
    assert set(rows.segments) == {segment.column for segment in evidence.reliability.segments}
    assert recompute(evidence, rows) == evidence.reliability


def test_a_trusted_evaluator_signs_what_it_writes(plain, features, evaluate, evaluated, client, monkeypatch):
    from mlflow_caliber._signing import Keyring
    from mlflow_caliber.evidence import evidence_signer, load_evidence

    keys = "ci:" + "k" * 32
    monkeypatch.setenv("MLFLOW_CALIBER_EVIDENCE_KEYS", keys)
    signed = evaluate(plain.model_uri, features, config={"policy_sha256": "sha256:" + "0" * 64})
    evidence = load_evidence(signed.run_id, client)
    assert evidence.policy_sha256 == "sha256:" + "0" * 64
    assert evidence_signer(signed.run_id, evidence, client, Keyring.parse(keys)) == "ci"
    assert "caliber/report.sig" not in signed.artifacts  # nothing to read for people


def test_base_and_calibrated_share_the_data_but_not_the_model(caliber, plain, features, evaluate, evaluated):
    base, by_id = (evaluate(uri, features).run.data.tags for uri in (plain.model_uri, f"models:/{caliber.model_id}"))
    version = evaluated.run.data.tags
    assert base["caliber_data_digest"] == by_id["caliber_data_digest"] == version["caliber_data_digest"]
    assert base["caliber_model_digest"] != by_id["caliber_model_digest"] == version["caliber_model_digest"]


def test_the_model_that_was_evaluated_and_not_the_one_that_is_active(caliber, plain, features, evaluate):
    """MLflow's ``model_id`` is the caller's word, or the last model that was logged."""
    import mlflow

    from mlflow_caliber.evidence import identify_model

    loaded = mlflow.pyfunc.load_model(caliber.model_uri)
    loaded._model_id = None  # as one that comes from a folder or, in older MLflow, from a registered version
    with mlflow.set_active_model(model_id=plain.model_id):
        done = evaluate(loaded, features)
    assert done.run.data.tags["caliber_model_digest"] == identify_model("models:/evaluator-people/1").digest


def test_a_saved_folder_is_identified_by_its_files(base, people, features, evaluate, tmp_path):
    import mlflow_caliber
    from mlflow_caliber.evidence import model_digest

    folder = tmp_path / "model"
    mlflow_caliber.save_model(base, folder, calibrator="sigmoid", calibration_data=(people[FEATURES], people["y"]))
    done = evaluate(str(folder), features)
    assert done.run.data.tags["caliber_model_digest"] == model_digest(folder)


def test_another_threshold_is_a_what_if_and_no_evidence(features, evaluate, evaluated):
    done = evaluate("models:/evaluator-people/1", features, config={"abstain_threshold": 0.9})
    assert done.metrics["caliber_coverage"] < evaluated.metrics["caliber_coverage"]
    assert "caliber_model_digest" not in done.run.data.tags
    assert done.artifacts["caliber/report.json"].content["model"] is None


# --- artifacts --------------------------------------------------------------------------------------------------------


def test_artifacts_load_from_the_result_and_from_the_run(evaluated, client):
    assert set(evaluated.artifacts) == NAMES | {"caliber/drift.json"}  # against the model's own profile
    stored = {item.path for item in client.list_artifacts(evaluated.run_id, "caliber")}
    assert stored == set(evaluated.artifacts) | {"caliber/rows.parquet"}
    for name, artifact in evaluated.artifacts.items():
        again = type(artifact)(uri=artifact.uri)  # without its content: read from the store
        if name.endswith(".png"):
            assert artifact.content.size == again.content.size
            assert artifact.content.width > 600
        else:
            assert artifact.content == again.content
    assert len(evaluated.artifacts["caliber/report.html"].content) < 300_000


def test_result_survives_save_and_load(evaluated, tmp_path):
    from mlflow.models.evaluation import EvaluationResult

    evaluated.result.save(tmp_path / "result")
    loaded = EvaluationResult.load(tmp_path / "result")
    assert loaded.metrics == evaluated.metrics
    assert set(loaded.artifacts) == set(evaluated.artifacts)
    for name in ("caliber/report.json", "caliber/report.html", "caliber/drift.json"):
        assert loaded.artifacts[name].content == evaluated.artifacts[name].content


# --- sets on which little can be said ---------------------------------------------------------------------------------


def is_json_without_nan(text):
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("rows", "config", "absent"),
    [
        (lambda frame: frame[frame["y"] == 1], {}, {"roc_auc"}),
        (lambda frame: frame.head(1), {}, {"roc_auc"}),
        (lambda frame: frame, {"abstain_threshold": 1.0}, {"selective_risk"}),
        (lambda frame: frame[frame["y"] == 0].head(1), {"abstain_threshold": 1.0}, {"roc_auc", "selective_risk"}),
    ],
)
def test_what_cannot_be_computed_has_a_reason_and_no_nan(plain, features, evaluate, client, rows, config, absent):
    done = evaluate(plain.model_uri, rows(features), config=config)
    assert all(np.isfinite(value) for value in done.metrics.values())
    path = client.download_artifacts(done.run_id, "caliber/report.json")
    with open(path, encoding="utf-8") as file:
        report = is_json_without_nan(file.read())["report"]
    for key in absent:
        assert f"caliber_{key}" not in done.metrics
        assert key in report["not_computed"]
    assert set(report["not_computed"]) >= absent
    assert len(done.run.data.metrics) == len(done.metrics)
