import hashlib
import json
import subprocess
from dataclasses import replace

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_caliber.evidence import (
    REPORT_JSON,
    ROWS_PARQUET,
    DataIdentity,
    Evidence,
    ModelIdentity,
    Rows,
    data_digest,
    find_all_evidence,
    identify_model,
    load_evidence,
    load_rows,
    model_digest,
    resolve_model_path,
)
from mlflow_caliber.exceptions import EvidenceError
from mlflow_caliber.report import reliability_report

# SQLAlchemy 2.1 warns of how MLflow 3.17 queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

ZEROS, ONES = "sha256:" + "0" * 64, "sha256:" + "1" * 64


@pytest.fixture
def evidence():
    return Evidence(
        model=ModelIdentity(digest=ZEROS, uri="models:/churn/1", model_id="m-1", model_uuid="u-1"),
        data=DataIdentity(digest=ONES, name="2016", n=4),
        report=reliability_report([0, 1, 1, 0], [0.2, 0.7, 0.9, 0.4]).to_dict(),
        drift={"share": 0.25},
        run_id="run",
        rows_sha256=ONES,
        created_at="2026-11-22T03:00:00+00:00",
        caliber_version="0.1.0",
    )


# --- the digest of a model -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    (tmp_path / "model" / "code" / "a.py").write_text("x = 1")
    return tmp_path / "model"


def test_model_digest_is_what_sha256sum_says(folder):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    manifest = subprocess.run(["sha256sum", "--zero", *files], cwd=folder, capture_output=True, check=True).stdout
    assert model_digest(folder) == "sha256:" + hashlib.sha256(manifest).hexdigest()


def test_model_digest_leaves_out_what_mlflow_and_python_add(folder):
    before = model_digest(folder)
    (folder / "registered_model_meta").write_text("model_name: churn")
    (folder / "code" / "__pycache__").mkdir()
    (folder / "code" / "__pycache__" / "a.pyc").write_bytes(b"\0")
    assert model_digest(folder) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "code" / "a.py").write_text("x = 2"),
        lambda f: (f / "code" / "a.py").rename(f / "code" / "b.py"),
        lambda f: (f / "empty").write_text(""),
        lambda f: (f / "code" / "registered_model_meta").write_text(""),
    ],
    ids=["content", "name", "new file", "the same name elsewhere"],
)
def test_model_digest_sees_every_other_change(folder, change):
    before = model_digest(folder)
    change(folder)
    assert model_digest(folder) != before


def test_model_digest_needs_a_model(tmp_path):
    with pytest.raises(EvidenceError, match="must hold an MLmodel file"):
        model_digest(tmp_path)


def test_model_digest_refuses_files_that_lie_elsewhere(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(EvidenceError, match="got a link to a folder: 'link'"):
        model_digest(folder)


def test_every_address_of_a_model_has_one_digest(world):
    import mlflow
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with mlflow.start_run(experiment_id=world.experiment) as run:
        info = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"])
    name = world.register()
    world.client.create_model_version(name, source=info.model_uri)
    world.client.create_model_version(name, source=info.model_uri)
    world.client.set_registered_model_alias(name, "champion", "2")
    copy = world.client.copy_model_version(f"models:/{name}/1", name + "-copy")
    uris = [info.model_uri, f"runs:/{run.info.run_id}/model", f"models:/{name}/1", f"models:/{name}@champion"]
    uris.append(f"models:/{copy.name}/{copy.version}")
    identities = [identify_model(uri) for uri in uris]
    assert len({identity.digest for identity in identities}) == 1
    assert {identity.model_id for identity in identities} == {info.model_id}
    assert model_digest(resolve_model_path(info.model_uri)) == identities[0].digest


def test_a_model_that_is_not_there(world):
    with pytest.raises(EvidenceError, match=r"'models:/nobody/1' must be one that MLflow finds: .*nobody"):
        identify_model("models:/nobody/1")


# --- the digest of the data ------------------------------------------------------------------------------------------

FRAME = pd.DataFrame(
    {
        "age": [41, 39, 25],
        "income": [1.5, np.nan, -0.0],
        "region": ["north", None, "süd"],
        "since": pd.to_datetime(["2020-01-01 00:00", "2021-06-30 12:00", None]),
        "member": [True, False, True],
    }
)
# Computed with pandas 2.2.3 and 3.0.6 alike; a change here breaks every comparison with evidence written before.
GOLDEN = "sha256:7056a1cf62fb0f9570f39d6be0a28f6b2ed0fe48e36c125998ab70c5bcf14021"


def test_data_digest_stays_what_it_was():
    assert data_digest(FRAME, ["no", "yes", "no"], [1, 2, 1]) == GOLDEN


@pytest.mark.parametrize(
    "same",
    [
        FRAME.astype({"age": "Int64", "member": "boolean"}),
        FRAME.astype({"age": "int16", "member": "int8"}),
        FRAME.astype({"income": "float32"}),
        FRAME.astype({"income": "Float64"}),
        FRAME.astype({"region": object}),
        FRAME.astype({"region": "string"}),
        FRAME.astype({"region": "category"}),
        FRAME.assign(region=["north", np.nan, "süd"]),
        FRAME.assign(income=[1.5, np.nan, 0.0]),
        FRAME.assign(since=FRAME["since"].dt.as_unit("ns")),
        FRAME.assign(since=FRAME["since"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
        FRAME.set_index(pd.Index([7, 8, 9])),
        FRAME[::-1].copy()[::-1],
    ],
    ids=lambda frame: ", ".join(map(str, frame.dtypes)),
)
def test_data_digest_is_about_values_not_storage(same):
    assert data_digest(same, [0, 1, 0]) == data_digest(FRAME, [0, 1, 0])


@pytest.mark.parametrize(
    "other",
    [
        FRAME[::-1],
        FRAME[list(FRAME)[::-1]],
        FRAME.rename(columns={"age": "Age"}),
        FRAME.drop(columns="age"),
        FRAME.assign(age=[41, 39, 26]),
        FRAME.assign(region=["north", "", "süd"]),
        FRAME.assign(region=["north", None, "sud"]),
        FRAME.assign(income=[1.5, 0.0, 0.0]),
        FRAME.assign(age=[41.5, 39, 25]),
    ],
)
def test_data_digest_sees_every_change(other):
    assert data_digest(other, [0, 1, 0]) != data_digest(FRAME, [0, 1, 0])


def test_data_digest_tells_labels_and_weights_apart():
    digests = {
        data_digest(FRAME, [0, 1, 0]),
        data_digest(FRAME, [0, 0, 1]),
        data_digest(FRAME, ["0", "1", "0"]),
        data_digest(FRAME, [0, 1, 0], [1, 1, 1]),
        data_digest(FRAME, [0, 1, 0], [1, 1, 2]),
        data_digest(None, [0, 1, 0]),
    }
    assert len(digests) == 6


def test_data_digest_of_values_that_do_not_hash():
    frame = pd.DataFrame({"tags": [["a"], ["a", "b"]]})
    assert data_digest(frame, [0, 1]) != data_digest(frame[::-1], [0, 1])


@given(st.lists(st.text(), min_size=1), st.randoms())
def test_data_digest_of_text_never_confuses_two_lists(texts, random):
    other = list(texts)
    random.shuffle(other)
    digests = [
        data_digest(pd.DataFrame({"t": pd.Series(values, dtype=object)}), [0] * len(texts)) for values in (texts, other)
    ]
    assert (digests[0] == digests[1]) == (texts == other)


# --- the record ------------------------------------------------------------------------------------------------------


def test_evidence_survives_json(evidence):
    again = Evidence.from_dict(json.loads(evidence.to_json()))
    assert again == evidence
    assert again.sha256 == evidence.sha256 == "sha256:" + hashlib.sha256(evidence.to_json()).hexdigest()


def test_evidence_is_canonical(evidence):
    state = evidence.to_dict()
    shuffled = Evidence.from_dict(dict(reversed(state.items())))
    assert shuffled.to_json() == evidence.to_json()
    assert list(json.loads(evidence.to_json())) == sorted(state)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format_version": 2}, "format_version 1, got 2: it was written by mlflow-caliber '0.1.0'"),
        ({"created_at": "2026-11-22T03:00:00"}, "created_at must be a time with its zone"),
        ({"created_at": "yesterday"}, "created_at must be a time with its zone, in ISO 8601, got 'yesterday'"),
        ({"created_at": 5}, "created_at must be a time with its zone"),
        ({"model": {"digest": ZEROS}}, r"evidence.model must have the fields .*, got digest"),
        ({"model": "m-1"}, "evidence.model must be an object or null, got 'm-1'"),
        ({"data": {"digest": ONES, "name": None, "n": 0}}, "evidence.data.n must be a positive whole number, got 0"),
        ({"data": {"digest": ONES, "name": None, "n": True}}, "evidence.data.n must be a positive whole number"),
        ({"data": {"digest": "1234", "name": None, "n": 1}}, "evidence.data.digest must be 'sha256:' and 64"),
        ({"rows_sha256": ONES.upper()}, "evidence.rows_sha256 must be 'sha256:' and 64"),
        ({"drift": 0.2}, "evidence.drift must be an object or null, got 0.2"),
        ({"note": "hello"}, r"evidence must have the fields .*, got .*note"),
    ],
)
def test_evidence_is_read_strictly(evidence, change, sentence):
    with pytest.raises(EvidenceError, match=sentence):
        Evidence.from_dict(evidence.to_dict() | change)


def test_evidence_may_name_its_policy_and_is_as_ever_when_it_does_not(evidence):
    named = replace(evidence, policy_sha256=ZEROS)
    assert Evidence.from_dict(json.loads(named.to_json())) == named
    assert b"policy_sha256" not in evidence.to_json()


def test_evidence_of_predictions_without_a_model(evidence):
    anonymous = replace(evidence, model=None)
    assert Evidence.from_dict(anonymous.to_dict()) == anonymous


def test_evidence_must_be_an_object():
    with pytest.raises(EvidenceError, match="evidence must be an object, got a list"):
        Evidence.from_dict([])


def test_evidence_with_a_broken_report(evidence):
    broken = Evidence.from_dict(evidence.to_dict() | {"report": {"metrics": {"brier": 0.0}}})
    with pytest.raises(EvidenceError, match="report must be a reliability report"):
        _ = broken.reliability


# --- rows ------------------------------------------------------------------------------------------------------------


@given(
    p=hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 4)), elements=st.floats(0, 1)),
    weighted=st.booleans(),
)
def test_rows_survive_a_frame(p, weighted):
    rows = Rows(y=np.arange(len(p)) % p.shape[1], p=p, weight=p[:, 0] if weighted else None)
    again = Rows.from_frame(rows.to_frame())
    np.testing.assert_array_equal(again.p, p)
    np.testing.assert_array_equal(again.y, rows.y)
    assert (again.weight is None) is not weighted


@pytest.mark.parametrize("columns", [["p"], ["y"], ["y", "p_0"], ["y", "q"], ["y", "p_0", "p_2"], ["y", "p", "extra"]])
def test_rows_of_other_columns_are_refused(columns):
    with pytest.raises(EvidenceError, match="Rows must have the columns y and p"):
        Rows.from_frame(pd.DataFrame(0.5, index=[0], columns=columns))


# --- in MLflow -------------------------------------------------------------------------------------------------------


def test_evidence_comes_back_from_a_run(world, rows):
    folder = world.model()
    run_id = world.evaluate(folder, rows)
    evidence = load_evidence(run_id, world.client)
    again = load_rows(evidence, run_id, world.client)
    assert evidence.model == identify_model(folder)
    np.testing.assert_array_equal(again.p, rows.p)
    np.testing.assert_array_equal(again.y, rows.y)


def test_the_newest_run_is_found_in_any_experiment(world, rows, monkeypatch):
    folder = world.model()
    world.evaluate(folder, rows)
    other = world.client.create_experiment("another", artifact_location=(world.folder / "another").as_uri())
    monkeypatch.setattr(world, "experiment", other)
    newest = world.evaluate(folder, rows)
    digest = identify_model(folder).digest
    assert find_all_evidence(world.client, digest)[-1] == newest
    assert find_all_evidence(world.client, digest, data_digest=data_digest(None, rows.y))[-1] == newest
    assert find_all_evidence(world.client, digest, data_digest=ZEROS) == ()
    assert find_all_evidence(world.client, ZEROS) == ()


def test_a_run_without_evidence(world):
    run_id = world.client.create_run(world.experiment).info.run_id
    with pytest.raises(EvidenceError, match=rf"Run {run_id} must hold caliber/report.json"):
        load_evidence(run_id, world.client)


def _edit(world, run_id, name, content):
    path = world.folder / name.rpartition("/")[2]
    path.write_bytes(content)
    world.client.log_artifact(run_id, path, "caliber")


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda text: text.replace(b'"n":', b'"n": '), "must be as the evaluator wrote it, got an edited file"),
        (lambda text: text[:-1], "must be JSON"),
        (lambda text: b"\xff", "must be JSON"),
        (lambda text: text.replace(b'"run_id":"', b'"run_id":"x'), "must be its own, got the one of run x"),
    ],
)
def test_an_edited_report_is_refused(world, rows, edit, sentence):
    run_id = world.evaluate(world.model(), rows)
    _edit(world, run_id, REPORT_JSON, edit(load_evidence(run_id, world.client).to_json()))
    with pytest.raises(EvidenceError, match=sentence):
        load_evidence(run_id, world.client)


def test_edited_rows_are_refused(world, rows, tmp_path):
    run_id = world.evaluate(world.model(), rows)
    evidence = load_evidence(run_id, world.client)
    Rows(y=rows.y, p=rows.y * 1.0).write(tmp_path / "rows.parquet")
    _edit(world, run_id, ROWS_PARQUET, (tmp_path / "rows.parquet").read_bytes())
    with pytest.raises(EvidenceError, match=r"rows\.parquet of run .* must have the digest that its evidence names"):
        load_rows(evidence, run_id, world.client)


def test_data_digest_reads_behind_a_nul():
    frames = [pd.DataFrame({"x": ["a", other]}, dtype=object) for other in ("a", "a\0b")]
    assert data_digest(frames[0], [0, 1]) != data_digest(frames[1], [0, 1])
