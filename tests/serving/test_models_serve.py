"""``mlflow models serve``, for real: every way to send rows, and every way to send nonsense."""

import json

import pandas as pd
import pytest

from mlflow_caliber.model import FRAME_COLUMNS

pytestmark = pytest.mark.system

ENCODINGS = {
    "dataframe_split": lambda rows: {"dataframe_split": rows.to_dict("split")},
    "dataframe_records": lambda rows: {"dataframe_records": rows.to_dict("records")},
    "inputs": lambda rows: {"inputs": rows.to_dict("list")},
    "inputs_records": lambda rows: {"inputs": rows.to_dict("records")},
    "instances": lambda rows: {"instances": rows.to_dict("records")},
}


def ask(server, rows, params=None, encoding="dataframe_split"):
    body = ENCODINGS[encoding](rows) | ({} if params is None else {"params": params})
    return server.post(json.dumps(body))


@pytest.fixture(scope="module")
def expected(folders, rows):
    """What the model says without a server."""
    import mlflow_caliber as caliber

    return caliber.load_model(str(folders / "strict")).predict_frame(rows)


def check(answer, expected):
    got = pd.DataFrame(answer.predictions)
    assert list(got.columns) == list(FRAME_COLUMNS)
    pd.testing.assert_frame_equal(
        got.drop(columns="prediction_id"), expected.drop(columns="prediction_id"), check_dtype=False, rtol=1e-12
    )
    assert got["prediction_id"].is_unique


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_of_rows(real, rows, expected, encoding):
    check(ask(real["strict"], rows, encoding=encoding), expected)


def test_csv(real, rows, expected):
    check(real["strict"].post(rows.to_csv(index=False), "text/csv"), expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_params_with_every_encoding(real, rows, expected, encoding):
    answer = ask(real["strict"], rows, {"output": "label"}, encoding)
    assert answer.predictions == expected["prediction"].tolist()


def test_proba_lists_the_classes_in_order(real, rows, expected):
    proba = ask(real["strict"], rows, {"output": "proba"}).predictions
    assert [row[1] for row in proba] == pytest.approx(expected["probability"].tolist(), abs=1e-12)
    assert [sum(row) for row in proba] == pytest.approx([1.0] * len(rows))


def test_the_segment_column_and_the_segment_param(real, rows, expected):
    confidence = expected["confidence"]
    by_column = pd.DataFrame(ask(real["strict"], rows).predictions)["abstained"]
    assert by_column.tolist() == (confidence < [0.6] * 3 + [0.95] * 3).tolist()
    for segment, limit in (("south", 0.95), ("nowhere", 0.6)):
        got = pd.DataFrame(ask(real["strict"], rows, {"segment": segment}).predictions)["abstained"]
        assert got.tolist() == (confidence < limit).tolist()


@pytest.mark.parametrize("threshold", [0, 0.7, 1, 1.0])
def test_abstain_threshold_replaces_the_policy(real, rows, expected, threshold):
    got = pd.DataFrame(ask(real["strict"], rows, {"abstain_threshold": threshold}).predictions)
    assert got["abstained"].tolist() == (expected["confidence"] < threshold).tolist()
    assert set(got["reason"]) <= {"", "low_confidence"}


@pytest.mark.parametrize(
    "params", [{}, {"output": None}, {"segment": None, "abstain_threshold": None}, {"abstention": 0.99}]
)
def test_null_and_unknown_params_change_nothing(real, rows, expected, params):
    check(ask(real["strict"], rows, params), expected)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"abstain_threshold": 7}, "abstain_threshold must be a number in [0, 1], got 7."),
        ({"abstain_threshold": -0.1}, "abstain_threshold must be a number in [0, 1], got -0.1."),
        ({"abstain_threshold": float("nan")}, "abstain_threshold must be a number in [0, 1], got nan."),
        ({"output": "lable"}, "output must be one of frame, label, proba, got 'lable'. Did you mean 'label'?"),
    ],
)
def test_our_refusals_are_one_sentence_without_data_or_trace(real, rows, params, sentence):
    answer = ask(real["strict"], rows, params)
    assert answer.status == 400
    assert answer.body == {"error_code": "INVALID_PARAMETER_VALUE", "message": sentence}


@pytest.mark.parametrize("params", [{"abstain_threshold": "high"}, {"segment": 3}, {"output": 1}])
def test_wrong_types_of_params_are_refused_by_mlflow(real, rows, params):
    answer = ask(real["strict"], rows, params)
    assert answer.status == 400
    assert "Invalid parameters found" in answer.body["message"]


def test_a_value_the_base_model_does_not_know(real, rows):
    answer = ask(real["strict"], rows.assign(job="astronaut"))
    assert answer.status == 400
    assert answer.body == {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "The base model could not score these 6 rows (ValueError); "
        "send the columns and types of its signature.",
    }


@pytest.mark.parametrize("column", ["age", "job"])
def test_a_missing_feature_is_answered_with_the_prior_and_withheld(real, rows, expected, column):
    holed = rows.astype({column: object})
    holed.loc[1, column] = None
    got = pd.DataFrame(ask(real["strict"], holed, encoding="dataframe_records").predictions)
    pd.testing.assert_frame_equal(
        got.drop(index=1).drop(columns="prediction_id"),
        expected.drop(index=1).drop(columns="prediction_id"),
        check_dtype=False,
        rtol=1e-12,
    )
    row = got.loc[1]
    assert (row["abstained"], row["reason"]) == (True, "unscorable_row")
    assert row["probability"] == row["raw_probability"]


def test_a_missing_segment_uses_the_policys_threshold(real, rows, expected):
    got = pd.DataFrame(ask(real["strict"], rows.assign(region=None)).predictions)
    assert got["abstained"].tolist() == (expected["confidence"] < 0.6).tolist()


@pytest.mark.parametrize("encoding", ["dataframe_split", "inputs"])
@pytest.mark.parametrize("output", ["frame", "label", "proba"])
def test_no_rows_no_answers(real, rows, encoding, output):
    assert ask(real["strict"], rows.head(0), {"output": output}, encoding).predictions == []


def test_csv_with_a_header_only(real, rows):
    assert real["strict"].post(rows.head(0).to_csv(index=False), "text/csv").predictions == []


@pytest.mark.parametrize("encoding", ["dataframe_records", "instances"])
def test_records_of_no_rows_have_no_columns_and_mlflow_says_so(real, rows, encoding):
    answer = ask(real["strict"], rows.head(0), encoding=encoding)
    assert answer.status == 400
    assert "Failed to enforce schema" in answer.body["message"]


@pytest.mark.parametrize("column", ["age", "region"])
def test_a_missing_column_is_refused_by_mlflow(real, rows, column):
    answer = ask(real["strict"], rows.drop(columns=column))
    assert answer.status == 400
    assert f"Model is missing inputs ['{column}']" in answer.body["message"]


def test_an_extra_column_is_ignored(real, rows, expected):
    check(ask(real["strict"], rows.assign(extra=1.0)), expected)


def test_a_wrong_type_is_refused_by_mlflow(real, rows):
    answer = ask(real["strict"], rows.assign(age="old"))
    assert answer.status == 400
    assert "Failed to convert column age" in answer.body["message"]


def test_a_broken_calibrator_file_serves_the_raw_probability_withheld(real, rows, expected):
    got = pd.DataFrame(ask(real["broken_calibrator_abstain"], rows).predictions)
    assert got["probability"].tolist() == got["raw_probability"].tolist() == expected["raw_probability"].tolist()
    assert got["abstained"].all()
    assert set(got["reason"]) == {"calibrator_unavailable"}
    assert set(got["calibrator_revision"]) == {"uncalibrated"}


def test_other_modes_of_a_broken_calibrator_rest_on_the_raw_score(real, rows, expected):
    proba = ask(real["broken_calibrator_abstain"], rows, {"output": "proba"}).predictions
    assert [row[1] for row in proba] == expected["raw_probability"].tolist()
    labels = ask(real["broken_calibrator_abstain"], rows, {"output": "label"}).predictions
    assert labels == ["repaid" if p > 0.5 else "defaulted" for p in expected["raw_probability"]]
