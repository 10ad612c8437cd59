"""MLflow's scoring application around models whose base takes missing values, or whose state is broken."""

import json

import pandas as pd
import pytest


def ask(server, rows, params=None):
    body = {"dataframe_records": json.loads(rows.to_json(orient="records", double_precision=15))}
    return server.post(json.dumps(body | ({} if params is None else {"params": params})))


def test_a_base_that_takes_missing_values_scores_them(local, rows):
    holed = rows[["age", "income"]].copy()
    holed.loc[0, "age"] = None
    got = pd.DataFrame(ask(local("tolerant"), holed).predictions)
    assert not got["abstained"].any()
    assert set(got["reason"]) == {""}


def test_nan_as_a_token_is_a_missing_value(local):
    answer = local("tolerant").post('{"dataframe_records": [{"age": NaN, "income": 1.0}]}')
    assert answer.predictions[0]["reason"] == ""
    answer = local("strict").post(
        '{"dataframe_records": [{"age": NaN, "income": 1.0, "job": "clerk", "region": "north"}]}'
    )
    assert answer.predictions[0]["reason"] == "unscorable_row"


def test_a_row_is_answered_alike_alone_and_in_company(local, rows):
    mixed = rows.copy()
    mixed.loc[0, "age"] = mixed.loc[2, "income"] = mixed.loc[3, "job"] = None
    together = ask(local("strict"), mixed).predictions
    alone = [ask(local("strict"), mixed.iloc[[i]]).predictions[0] for i in range(len(mixed))]
    # Linear algebra rounds the last bit by the size of the batch.
    pd.testing.assert_frame_equal(
        pd.DataFrame(alone).drop(columns="prediction_id"),
        pd.DataFrame(together).drop(columns="prediction_id"),
        rtol=1e-12,
    )


def test_a_broken_calibrator_is_served_raw_where_the_policy_says_so(local, rows):
    got = pd.DataFrame(ask(local("broken_calibrator_raw"), rows).predictions)
    assert got["probability"].tolist() == got["raw_probability"].tolist()
    limit = pd.Series([0.6] * 3 + [0.95] * 3)
    assert got["abstained"].tolist() == (got["confidence"] < limit).tolist()
    assert set(got["calibrator_revision"]) == {"uncalibrated"}


def test_a_broken_policy_withholds_everything(local, rows):
    got = pd.DataFrame(ask(local("broken_policy"), rows, {"abstain_threshold": 0.0}).predictions)
    assert got["abstained"].all()
    assert set(got["reason"]) == {"policy_unavailable"}
    whole = pd.DataFrame(ask(local("strict"), rows).predictions)
    assert got["probability"].tolist() == whole["probability"].tolist()


def test_a_broken_reference_only_changes_the_answer_for_unscorable_rows(local, rows):
    rows = rows.astype({"age": object})
    rows.loc[0, "age"] = None
    got, whole = (pd.DataFrame(ask(local(name), rows).predictions) for name in ("broken_reference", "strict"))
    assert got.loc[0, "probability"] == 0.5
    assert got.loc[1:, "probability"].tolist() == whole.loc[1:, "probability"].tolist()


@pytest.mark.parametrize(
    "name", ["broken_calibrator_abstain", "broken_calibrator_raw", "broken_policy", "broken_reference"]
)
@pytest.mark.parametrize("params", [None, {"output": "label"}, {"output": "proba"}])
def test_broken_state_never_fails_a_request(local, rows, name, params):
    assert len(ask(local(name), rows, params).predictions) == len(rows)


def test_the_log_says_what_is_broken(folders, caplog):
    import mlflow.pyfunc

    mlflow.pyfunc.load_model(str(folders / "broken_calibrator_raw"))
    assert "caliber/calibrator.json cannot be used: it is not readable JSON" in caplog.text
