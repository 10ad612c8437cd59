"""The evaluator and a Spark frame: all rows, or a sentence."""

import numpy as np
import pandas as pd
import pytest

import mlflow_caliber

pytestmark = pytest.mark.system

N = 10_500


def rows(n=N):
    rng = np.random.default_rng(3)
    p = rng.beta(0.7, 1.3, n).round(4)
    return pd.DataFrame(
        {"x": p + 0.0, "p": p, "y": (rng.random(n) < p).astype(int), "region": rng.choice(["n", "s"], n)}
    )


@pytest.fixture(scope="module")
def people():
    return rows()


@pytest.fixture(scope="module")
def df(spark, people):
    return spark.createDataFrame(people).persist()


@pytest.fixture(scope="module")
def evaluate(isolated):
    import mlflow

    experiment = mlflow.create_experiment("spark", artifact_location=(isolated / "spark").as_uri())

    def evaluate(model, data, config, **how):
        with mlflow.start_run(experiment_id=experiment):
            return mlflow.models.evaluate(
                model,
                data,
                targets="y",
                model_type="classifier",
                evaluators="caliber",
                evaluator_config=config,
                **how,
            )

    return evaluate


def test_all_rows_are_evaluated(evaluate, df, people):
    result = evaluate(None, df, {"spark_frame": df, "segments": ["region"]}, predictions="p")
    expected = mlflow_caliber.reliability_report(people["y"], people["p"], segments=people[["region"]])
    assert result.metrics["caliber_brier"] == pytest.approx(expected.metrics["brier"], rel=1e-9)
    evidence = result.artifacts["caliber/report.json"].content
    assert evidence["data"]["n"] == evidence["report"]["n"] == N
    assert (evidence["model"], evidence["rows_sha256"]) == (None, None)
    assert [part["n"] for part in evidence["report"]["segments"]] == [part.n for part in expected.segments]
    assert "passes no gate" in result.artifacts["caliber/report.html"].content


def test_the_first_rows_are_not_taken_for_all(evaluate, df, people):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="first 10000 rows of a Spark frame, and no others: give the frame"):
        evaluate(None, df, None, predictions="p")
    # So many rows in memory are what they are.
    result = evaluate(None, people[:10_000], None, predictions="p")
    assert result.artifacts["caliber/report.json"].content["report"]["n"] == 10_000


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"evidently": True, "reference": rows(5)}, "Evidently draws rows in memory"),
        ({"proba_column": ["p", "x"]}, "a Spark frame is of two classes, so name one column"),
        ({"pos_label": "yes"}, r"name both classes of a Spark frame with classes=\[...\], got 'yes'"),
        ({"classes": ["a", "b", "c"]}, "is reported on for two classes, got 3"),
        ({"segments": ["x"], "max_segments": 20}, r"must have at most (20|1000) .*values"),
        ({"spark_frame": rows(5)}, "must be a Spark DataFrame, got a DataFrame"),
    ],
)
def test_what_cannot_be_evaluated_in_spark(evaluate, df, people, config, sentence):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=sentence):
        evaluate(None, people[:50], {"spark_frame": df, **config}, predictions="p")


@pytest.mark.slow
def test_a_caliber_model_scores_the_frame(evaluate, spark, df, people, tmp_path):
    from sklearn.linear_model import LogisticRegression

    from mlflow_caliber.spark import score

    base = LogisticRegression().fit(people[["x"]], people["y"])
    calibrated = {"calibrator": "sigmoid", "calibration_data": (people[["x"]][:500], people["y"][:500])}
    mlflow_caliber.save_model(base, tmp_path / "model", **calibrated)
    few = df.limit(300).persist()
    there = few.toArrow().to_pandas()
    expected = mlflow_caliber.load_model(str(tmp_path / "model")).predict_frame(there[["x"]], abstain_threshold=0.9)
    scored = score(few, str(tmp_path / "model"), params={"abstain_threshold": 0.9}).toArrow().to_pandas()
    assert list(scored)[:4] == ["x", "p", "y", "region"]
    for name in ("prediction", "probability", "raw_probability", "confidence", "abstained", "reason"):
        np.testing.assert_array_equal(scored[name], expected[name])
    assert 0 < scored["abstained"].sum() < len(scored)
    result = evaluate(str(tmp_path / "model"), few, {"spark_frame": few})
    own = mlflow_caliber.reliability_report(there["y"], expected["probability"], raw=expected["raw_probability"])
    assert result.metrics["caliber_brier"] == pytest.approx(own.metrics["brier"], rel=1e-9)
    assert result.metrics["caliber/raw/brier"] == pytest.approx(own.raw.metrics["brier"], rel=1e-9)


@pytest.mark.parametrize("pos_label", [0, 1])
def test_the_positive_class_is_that_of_rows_in_memory(evaluate, spark, pos_label):
    data = rows(400)
    config = {"classes": [0, 1], "pos_label": pos_label}
    frame = {"spark_frame": spark.createDataFrame(data)}
    found, expected = (evaluate(None, data, config | more, predictions="p").metrics for more in (frame, {}))
    for key in ("caliber_accuracy", "caliber_brier", "caliber_ece"):
        assert found[key] == pytest.approx(expected[key], rel=1e-9), key


def test_drift_is_measured_against_the_models_own_profile(evaluate, spark, tmp_path):
    from sklearn.linear_model import LogisticRegression

    data = rows(600)
    base = LogisticRegression().fit(data[["x"]][:200], data["y"][:200])
    mlflow_caliber.save_model(
        base, str(tmp_path / "m"), calibrator="beta", calibration_data=(data[["x"]][200:400], data["y"][200:400])
    )
    now = data[["x", "y"]][400:].assign(x=lambda rows: rows["x"] + 0.5).reset_index(drop=True)
    frame = {"spark_frame": spark.createDataFrame(now)}
    found, expected = (evaluate(str(tmp_path / "m"), now, more).metrics for more in (frame, {}))
    assert expected["caliber_drift_share"] > 0.0
    assert found["caliber_drift_share"] == expected["caliber_drift_share"]
