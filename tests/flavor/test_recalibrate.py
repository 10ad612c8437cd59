"""The base stays the same to the byte; everything else is refitted, carried over, or refused with a sentence."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

import mlflow_caliber as caliber
from mlflow_caliber.exceptions import InvalidInputError, OneClassError

COLUMNS = ("age", "income", "region")
POLICY = caliber.AbstainPolicy(0.65, segment_thresholds={"south": 0.9}, on_calibrator_error="raw")


def folder_of(uri):
    import mlflow

    return Path(mlflow.artifacts.download_artifacts(uri))


def digest(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return hashlib.sha256(b"".join(f"{f.relative_to(folder)}".encode() + f.read_bytes() for f in files)).hexdigest()


@pytest.fixture(scope="module")
def outcomes(data):
    """New labelled rows, with the label and a weight as columns."""
    rng = np.random.default_rng(5)
    X, y = data.part(1, COLUMNS)
    flipped = np.where(rng.random(len(y)) < 0.2, 1 - y, y)
    return X.assign(repaid=np.where(flipped == 1, "yes", "no"), weight=rng.integers(0, 4, len(y)))


@pytest.fixture(scope="module")
def parent(data, isolated):
    """A registered model with everything set that must be carried over."""
    from sklearn.linear_model import LogisticRegression

    (X0, y0), (X1, y1) = (data.part(k, COLUMNS) for k in range(2))
    base = LogisticRegression(max_iter=1000).fit(X0[["age", "income"]], np.where(y0 == 1, "yes", "no"))
    info = caliber.log_model(
        base,
        name="credit",
        calibrator="sigmoid",
        calibration_data=(X1, np.where(y1 == 1, "yes", "no")),
        policy=POLICY,
        pos_label="no",
        segment_column="region",
        output="proba",
        metadata={"team": "risk"},
        extra_pip_requirements=["tabulate==0.9.0"],
        registered_model_name="credit",
    )
    client = MlflowClient()
    client.set_registered_model_alias("credit", "champion", info.registered_model_version)
    return info


@pytest.fixture(scope="module")
def child(parent, outcomes):
    return caliber.recalibrate(
        "models:/credit@champion", outcomes.drop(columns="weight"), "repaid", calibrator="isotonic"
    )


def test_the_base_is_the_same_to_the_byte(child):
    before, after = folder_of("models:/credit/1"), folder_of(child.model_uri)
    assert digest(before / "base_model") == digest(after / "base_model")
    assert digest(before / "caliber") != digest(after / "caliber")


def test_the_new_version_says_where_it_comes_from(child):
    assert (child.model_uri, child.version, child.parent_version) == ("models:/credit/2", "2", "1")
    tags = MlflowClient().get_model_version("credit", "2").tags
    assert tags == {"caliber_parent_version": "1", "caliber_calibrator_revision": child.revision}
    frame = caliber.load_model(child.model_uri)
    assert frame.revision == child.revision != child.parent_revision


def test_signature_mode_policy_label_segment_and_metadata_are_carried(child):
    import mlflow.models

    before, after = (mlflow.models.get_model_info(f"models:/credit/{v}") for v in (1, 2))
    assert before.signature == after.signature
    assert after.metadata == {"team": "risk"}
    for key in ("pos_label", "segment_column", "proba_column", "classes", "base"):
        assert before.flavors["caliber"][key] == after.flavors["caliber"][key]
    assert after.flavors["python_function"]["config"]["output"] == "proba"
    model = caliber.load_model("models:/credit/2")
    assert (model.policy, model.pos_label, model.segment_column) == (POLICY, "no", "region")
    lines = (folder_of("models:/credit/2") / "requirements.txt").read_text().splitlines()
    assert "tabulate==0.9.0" in lines


def test_the_calibrator_is_that_of_the_new_rows(child, outcomes):
    from mlflow_caliber.calibrators import make_calibrator

    model = caliber.load_model(child.model_uri)
    scores = model.raw_proba(outcomes)[:, 0]
    expected = make_calibrator("isotonic").fit(scores, outcomes["repaid"] == "no")
    assert model.calibrator.to_dict() == expected.to_dict()
    assert child.n == len(outcomes)


def test_losses_are_of_rows_that_neither_calibrator_has_seen(child, parent, outcomes):
    from sklearn.metrics import log_loss

    old = caliber.load_model("models:/credit/1").predict_proba(outcomes)
    assert child.log_loss_before == pytest.approx(log_loss(outcomes["repaid"], old))
    new = caliber.load_model("models:/credit/2").predict_proba(outcomes)
    assert child.log_loss_after > log_loss(outcomes["repaid"], new.clip(1e-15, 1 - 1e-15))
    assert child.improved == (child.log_loss_after < child.log_loss_before)
    assert json.loads(json.dumps(child.to_dict()))["improved"] == child.improved


@pytest.mark.parametrize("form", ["version", "latest", "logged_model", "run", "path"])
def test_every_way_to_name_the_parent(form, parent, child, outcomes, tmp_path):
    import mlflow

    rows, y = outcomes[list(COLUMNS)], outcomes["repaid"].to_numpy()
    with mlflow.start_run() as run:
        logged = caliber.log_model(
            folder_of("models:/credit/1") / "base_model", "again", calibrator="sigmoid", calibration_data=(rows, y)
        )
    uri = {
        "version": "models:/credit/1",
        "latest": "models:/credit/latest",
        "logged_model": logged.model_uri,
        "run": f"runs:/{run.info.run_id}/again",
        "path": str(folder_of("models:/credit/1")),
    }[form]
    newest = max(int(v.version) for v in MlflowClient().search_model_versions("name='credit'"))
    result = caliber.recalibrate(uri, rows, y)
    if form in ("version", "latest"):
        assert result.model_uri == f"models:/credit/{newest + 1}"
        assert result.parent_version == {"version": "1", "latest": str(newest)}[form]
        tags = MlflowClient().get_model_version("credit", result.version).tags
        assert tags["caliber_parent_version"] == result.parent_version
    else:
        assert (result.registered_model_name, result.version, result.parent_version) == (None, None, None)
        assert result.model_uri.startswith("models:/m-")
    assert len(caliber.load_model(result.model_uri).predict_frame(rows)) == len(rows)


def test_another_registered_name(parent, outcomes):
    result = caliber.recalibrate(
        "models:/credit/1", outcomes[list(COLUMNS)], outcomes["repaid"], registered_model_name="credit-eu"
    )
    assert (result.model_uri, result.parent_version) == ("models:/credit-eu/1", "1")
    assert result.calibrator == "sigmoid"


def recalibrated(saved, name, X, y, **kwargs):
    """A recalibration of a model in a folder, loaded."""
    return caliber.load_model(caliber.recalibrate(str(saved[name][1]), X, y, **kwargs).model_uri)


def test_weights_count_as_repeated_rows(parent, outcomes):
    one = caliber.recalibrate(
        str(folder_of("models:/credit/1")), outcomes, "repaid", sample_weight="weight", calibrator="isotonic"
    )
    repeated = outcomes.loc[outcomes.index.repeat(outcomes["weight"])].drop(columns="weight")
    other = caliber.recalibrate(str(folder_of("models:/credit/1")), repeated, "repaid", calibrator="isotonic")
    a, b = (caliber.load_model(each.model_uri) for each in (one, other))
    np.testing.assert_allclose(a.predict_proba(outcomes), b.predict_proba(outcomes), atol=1e-12)
    assert a.class_prior == pytest.approx(b.class_prior)
    assert one.log_loss_before == pytest.approx(other.log_loss_before)
    assert one.n == int((outcomes["weight"] > 0).sum())


def test_a_base_that_cannot_score_some_rows(parent, outcomes):
    holed = outcomes[list(COLUMNS)].copy()
    holed.loc[:49, "age"] = None
    uri = str(folder_of("models:/credit/1"))
    result = caliber.recalibrate(uri, holed, outcomes["repaid"])
    assert result.n == len(holed) - 50
    expected = caliber.recalibrate(uri, outcomes[list(COLUMNS)][50:], outcomes["repaid"][50:])
    assert result.revision == expected.revision


def test_more_than_two_classes(saved):
    from sklearn.datasets import load_digits

    digits, labels = load_digits(return_X_y=True)
    result = caliber.recalibrate(str(saved["ten_classes"][1]), digits[1200:], labels[1200:], calibrator="temperature")
    model = caliber.load_model(result.model_uri)
    assert model.calibrator.method == "temperature"
    assert result.log_loss_after < 10.0
    proba = model.predict_proba(digits[:50])
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    assert (proba.argmax(axis=1) == model.raw_proba(digits[:50]).argmax(axis=1)).all()


def test_a_base_by_reference_stays_a_reference(saved, data):
    X, y = data.part(2, ("age", "income", "tenure"))
    result = caliber.recalibrate(str(saved["uri_by_reference"][1]), X, y)
    folder = folder_of(result.model_uri)
    assert not (folder / "base_model").exists()
    assert "models:/plain-forest/1" in (folder / "MLmodel").read_text()


def test_generic_and_relabelled_bases_keep_their_declarations(saved, data):
    X, y = data.part(2, ("age", "income", "tenure"))
    model = recalibrated(saved, "python_model_two_columns", X, np.array(["bad", "good"])[y])
    assert model.classes_.tolist() == ["bad", "good"]
    model = recalibrated(saved, "xgboost_with_names_of_labels", X, np.array(["no", "yes"])[y])
    assert model.classes_.tolist() == ["no", "yes"]


def test_a_broken_calibrator_is_no_hindrance(parent, outcomes, tmp_path):
    shutil.copytree(folder_of("models:/credit/1"), tmp_path / "model")
    (tmp_path / "model" / "caliber" / "calibrator.json").write_text('{"name": "sig')
    result = caliber.recalibrate(str(tmp_path / "model"), outcomes.drop(columns="weight"), "repaid")
    assert (result.calibrator, result.parent_revision) == ("auto", "")
    assert caliber.load_model(result.model_uri).policy == POLICY


def test_a_broken_policy_is_not_replaced_in_silence(parent, outcomes, tmp_path):
    shutil.copytree(folder_of("models:/credit/1"), tmp_path / "model")
    (tmp_path / "model" / "caliber" / "policy.json").write_text("{}")
    rows = outcomes.drop(columns="weight")
    with pytest.raises(InvalidInputError, match="policy cannot be read: give policy="):
        caliber.recalibrate(str(tmp_path / "model"), rows, "repaid")
    result = caliber.recalibrate(str(tmp_path / "model"), rows, "repaid", policy=caliber.AbstainPolicy(0.5))
    assert caliber.load_model(result.model_uri).policy == caliber.AbstainPolicy(0.5)


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (lambda d: d.assign(repaid="maybe"), {}, r"targets must hold the model's classes \('no', 'yes'\), got 'maybe'"),
        (lambda d: d.assign(repaid=None), {}, "targets must hold the model's classes"),
        (lambda d: d.drop(columns="repaid"), {}, "data must hold the column 'repaid', got "),
        (lambda d: d, {"targets": None}, "targets must name or hold the true labels, got none"),
        (lambda d: d, {"targets": ["yes", "no"]}, "must have one label a row, got 2 labels for 200 rows"),
        (lambda d: d.to_numpy(), {}, "A column name needs data as a DataFrame, got a ndarray"),
        (lambda d: d, {"sample_weight": "mass"}, "data must hold the column 'mass', got "),
        (lambda d: d.assign(weight=-1.0), {"sample_weight": "weight"}, "sample_weight must not be negative"),
        (lambda d: d.assign(weight=0.0), {"sample_weight": "weight"}, "at least one positive value"),
        (lambda d: d.head(0), {}, "must hold at least one row, got none"),
        (lambda d: d.drop(columns="age"), {}, "The base model could not score these 200 rows"),
        (lambda d: d.assign(age=None), {}, "must score the new rows, got no score for any of 200"),
        (lambda d: d, {"calibrator": "isotonc"}, "Did you mean 'isotonic'"),
    ],
)
def test_rows_that_cannot_be_used(parent, outcomes, change, arguments, sentence):
    before = len(MlflowClient().search_model_versions("name='credit'"))
    with pytest.raises(InvalidInputError, match=sentence):
        caliber.recalibrate("models:/credit/1", change(outcomes), **{"targets": "repaid", **arguments})
    assert len(MlflowClient().search_model_versions("name='credit'")) == before


@pytest.mark.parametrize("n_yes", [0, 1])
def test_two_rows_of_two_classes_are_needed(parent, outcomes, n_yes):
    rows = pd.concat([outcomes[outcomes["repaid"] == "no"].head(20), outcomes[outcomes["repaid"] == "yes"].head(n_yes)])
    with pytest.raises(OneClassError, match=f"two rows of at least two classes, got 20 of no, {n_yes} of yes"):
        caliber.recalibrate("models:/credit/1", rows.drop(columns="weight"), "repaid")


def test_few_rows_of_one_class_are_enough(parent, outcomes):
    yes, no = (outcomes[outcomes["repaid"] == label] for label in ("yes", "no"))
    rows = pd.concat([no.head(40), yes.head(2)]).drop(columns="weight")
    result = caliber.recalibrate(str(folder_of("models:/credit/1")), rows, "repaid")
    assert np.isfinite(result.log_loss_after)


def test_other_models_are_refused(saved, outcomes):
    from mlflow_caliber.exceptions import StateError

    with pytest.raises(StateError, match="is not a caliber model"):
        caliber.recalibrate(str(saved["logistic"][1] / "base_model"), outcomes, "repaid")


def test_a_name_without_versions():
    with pytest.raises(InvalidInputError, match="must be a version of a registered model, got none"):
        caliber.recalibrate("models:/nobody/latest", pd.DataFrame({"a": [1.0, 2.0], "y": [0, 1]}), "y")
