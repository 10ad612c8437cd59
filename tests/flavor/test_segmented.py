"""A map for each segment, from the calibration rows to the answers, and wherever else a model's map is applied."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss

import mlflow_caliber as caliber
from mlflow_caliber.calibrators import SegmentedCalibrator, make_calibrator
from mlflow_caliber.exceptions import InvalidInputError

N = 3000
FEATURES = ["age", "region"]


@pytest.fixture(scope="module")
def rows():
    """Defaults happen half as often in the north as the score says, and twice as often in the south."""
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"age": rng.normal(40.0, 10.0, N), "region": rng.choice(["north", "south"], N)})
    offset = np.where(frame["region"] == "north", -1.0, 1.0)
    happens = rng.random(N) < 1.0 / (1.0 + np.exp(-0.1 * (frame["age"] - 40.0) - offset))
    return frame.assign(late=np.where(happens, "yes", "no"))


@pytest.fixture(scope="module")
def base(rows):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(rows[["age"]][:1000], rows["late"][:1000])


@pytest.fixture(scope="module")
def uri(base, rows, isolated):
    cal = rows[1000:2000]
    info = caliber.log_model(
        base,
        name="late",
        calibrator=SegmentedCalibrator(method="sigmoid"),
        calibration_data=(cal[FEATURES], cal["late"]),
        segment_column="region",
        registered_model_name="late",
    )
    return f"models:/late/{info.registered_model_version}"


@pytest.fixture(scope="module")
def by_hand(base, rows):
    cal = rows[1000:2000]
    scores = base.predict_proba(cal[["age"]])[:, 1]
    return make_calibrator("segmented", method="sigmoid").fit(scores, cal["late"] == "yes", segment=cal["region"])


@pytest.fixture(scope="module")
def new(rows):
    return rows[2000:].reset_index(drop=True)


def test_each_segment_is_answered_by_its_own_map(uri, by_hand, base, new):
    import mlflow

    scores = base.predict_proba(new[["age"]])[:, 1]
    expected = by_hand.predict(scores, segment=new["region"])
    served = mlflow.pyfunc.load_model(uri)
    frame = served.predict(new[FEATURES])
    np.testing.assert_array_equal(frame["probability"], expected)
    np.testing.assert_array_equal(frame["raw_probability"], scores)
    np.testing.assert_array_equal(served.predict(new[FEATURES], params={"output": "proba"})[:, 1], expected)
    labels = served.predict(new[FEATURES], params={"output": "label"})
    np.testing.assert_array_equal(labels == "yes", expected > 0.5)
    truth = new["late"] == "yes"
    assert brier_score_loss(truth, expected) < brier_score_loss(truth, scores) - 0.02


@pytest.mark.parametrize("output", ["frame", "label", "proba"])
def test_a_request_may_name_the_segment_of_its_rows(uri, new, output):
    import mlflow

    served = mlflow.pyfunc.load_model(uri)
    asked = served.predict(new[FEATURES], params={"output": output, "segment": "south"})
    moved = served.predict(new[FEATURES].assign(region="south"), params={"output": output})
    columns = ["prediction", "probability", "confidence", "abstained"]
    if output == "frame":
        pd.testing.assert_frame_equal(asked[columns], moved[columns])
    else:
        np.testing.assert_array_equal(asked, moved)


@pytest.mark.parametrize("region", ["west", None])
def test_unknown_and_missing_segments_get_the_pooled_map(uri, by_hand, base, new, region):
    model = caliber.load_model(uri)
    frame = model.predict_frame(new[FEATURES].assign(region=region))
    np.testing.assert_array_equal(frame["probability"], by_hand.predict(base.predict_proba(new[["age"]])[:, 1]))
    assert set(frame["calibrator_revision"]) == {model.revision}


def test_one_row_is_answered_as_in_company(uri, new):
    model = caliber.load_model(uri)
    together = model.predict_frame(new[FEATURES])["probability"]
    alone = [model.predict_frame(new[FEATURES].iloc[[k]])["probability"][0] for k in range(20)]
    assert together[:20].tolist() == alone


def test_segments_of_another_length_are_refused_and_not_answered_uncalibrated(uri, new):
    model = caliber.load_model(uri)
    with pytest.raises(InvalidInputError, match="segment must have one value a row, got 2 values for 1000 rows"):
        model.predict_frame(new[FEATURES], segment=["north", "south"])


def test_a_fitted_one_is_saved_as_it_is(base, by_hand, new, tmp_path):
    caliber.save_model(
        base, str(tmp_path / "m"), calibrator=by_hand, segment_column="region", input_example=new[FEATURES].head(2)
    )
    assert caliber.load_model(str(tmp_path / "m")).calibrator.to_dict() == by_hand.to_dict()


def test_recalibration_fits_the_segments_again_with_the_same_parameters(uri, base, new):
    result = caliber.recalibrate(uri, new, "late")
    model = caliber.load_model(result.model_uri)
    assert result.calibrator == "segmented"
    expected = make_calibrator("segmented", method="sigmoid").fit(
        base.predict_proba(new[["age"]])[:, 1], new["late"] == "yes", segment=new["region"]
    )
    assert model.calibrator.to_dict() == expected.to_dict()
    # Both losses are of segment maps on rows they have not seen, and the world did not change.
    assert result.log_loss_after == pytest.approx(result.log_loss_before, abs=0.01)


def test_a_model_without_segments_is_given_them(base, rows, new, tmp_path):
    cal = rows[1000:2000]
    caliber.save_model(base, str(tmp_path / "m"), calibrator="sigmoid", calibration_data=(cal[["age"]], cal["late"]))
    result = caliber.recalibrate(str(tmp_path / "m"), new, "late", calibrator="segmented", segment_column="region")
    assert caliber.load_model(result.model_uri).segment_column == "region"
    assert result.log_loss_after < result.log_loss_before - 0.05


@pytest.mark.parametrize(
    ("columns", "kwargs", "sentence"),
    [
        (FEATURES, {}, "The segmented calibrator needs the segment of each row: name its column by segment_column="),
        (["age"], {"segment_column": "region"}, "The segmented calibrator needs the segment of each row"),
        (["age"], {"calibrator": "fitted"}, "needs to be told the segments: give segment_column=, got none"),
    ],
)
def test_segments_have_to_be_known(base, rows, by_hand, tmp_path, columns, kwargs, sentence):
    kwargs = {key: by_hand if value == "fitted" else value for key, value in kwargs.items()}
    data = (rows[columns], rows["late"])
    model = base if columns == ["age"] else _ignoring_region(base)
    with pytest.raises(InvalidInputError, match=sentence):
        caliber.save_model(
            model, str(tmp_path / "m"), **{"calibrator": "segmented", "calibration_data": data, **kwargs}
        )
    assert not (tmp_path / "m").exists()


def _ignoring_region(base):
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline

    frame = pd.DataFrame({"age": [30.0, 50.0], "region": ["north", "south"]})
    return make_pipeline(make_column_transformer(("passthrough", ["age"])), base).fit(frame, ["no", "yes"])


@pytest.fixture(scope="module")
def numbered(base, rows, isolated):
    """A model whose segments are whole numbers."""
    cal = rows[1000:2000].assign(region=np.where(rows["region"][1000:2000] == "north", 1, 2))
    info = caliber.log_model(
        base, calibrator="segmented", calibration_data=(cal[FEATURES], cal["late"]), segment_column="region"
    )
    return info.model_uri


def test_one_gap_makes_integers_floats_and_changes_no_segment(numbered, new):
    whole = new[FEATURES].assign(region=np.where(new["region"] == "north", 1, 2))
    gap = whole.astype({"region": float})
    gap.loc[0, "region"] = np.nan
    model = caliber.load_model(numbered)
    np.testing.assert_array_equal(model.predict_proba(gap)[1:], model.predict_proba(whole)[1:])
    result = caliber.recalibrate(numbered, gap.assign(late=new["late"]), "late")
    assert list(caliber.load_model(result.model_uri).calibrator.segments_) == ["1", "2"]
    assert result.log_loss_after == pytest.approx(result.log_loss_before, abs=0.02)


def test_the_command_judges_what_is_served(uri, new, tmp_path):
    from click.testing import CliRunner

    from mlflow_caliber.cli import main

    new.to_csv(tmp_path / "new.csv", index=False)
    done = CliRunner().invoke(main, ["report", str(tmp_path / "new.csv"), "--target", "late", "--model", uri, "--json"])
    served = caliber.load_model(uri).predict_proba(new[FEATURES])[:, 1]
    brier = json.loads(done.stdout)["metrics"]["brier"]
    assert brier == pytest.approx(brier_score_loss(new["late"] == "yes", served), abs=1e-9)


def test_the_classifier_says_that_it_knows_no_segments(rows):
    with pytest.raises(InvalidInputError, match="CaliberClassifier knows no segments"):
        caliber.CaliberClassifier(method="segmented").fit(rows[["age"]], rows["late"])
