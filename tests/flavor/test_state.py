"""What is ours in a saved model is JSON, and nothing in it is ever executed."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mlflow_caliber
import mlflow_caliber as caliber
from mlflow_caliber.calibrators import calibrator_from_dict
from mlflow_caliber.drift import drift_from_profile
from mlflow_caliber.exceptions import StateError
from mlflow_caliber.flavor._load import read_calibrator
from mlflow_caliber.flavor._state import check_reference, read_state

GOLDEN = Path(__file__).with_name("golden")
PICKLING = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def test_the_folder_holds_json_and_nothing_else(saved):
    for _, folder in saved.values():
        files = sorted((folder / "caliber").rglob("*"))
        assert [file.name for file in files] == ["calibrator.json", "policy.json", "reference.json"]
        for file in files:
            expected = 2 if file.name == "policy.json" else 1
            assert json.loads(file.read_bytes())["format_version"] == expected


def test_the_package_never_imports_a_pickling_library():
    for file in Path(mlflow_caliber.__file__).parent.rglob("*.py"):
        tree = ast.parse(file.read_text())
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not PICKLING & {name.split(".")[0] for name in names}, file


def test_calibrators_load_without_pickle_skops_or_mlflow(saved):
    files = [str(folder / "caliber" / "calibrator.json") for _, folder in saved.values()]
    script = """
import json, sys
from mlflow_caliber.calibrators import calibrator_from_dict
states = [json.load(open(file)) for file in sys.argv[1:]]
def watch(event, args):
    if event.split(".")[0] in ("pickle", "exec", "compile", "import", "open", "os", "subprocess", "socket", "ctypes"):
        sys.stderr.write(event)
        sys.exit(3)
sys.addaudithook(watch)
for state in states:
    calibrator_from_dict(state)
print(len(states), *({"mlflow", "skops"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", script, *files], check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.split()) == (0, [str(len(files))]), ran.stderr


def valid_state():
    return json.loads((GOLDEN / "v1" / "caliber" / "calibrator.json").read_text())


HOSTILE = {
    "empty": (b"", "not readable JSON"),
    "truncated": (b'{"name": "isotonic", ', "not readable JSON"),
    "no_text": (b"\xff\xfe\x00", "not readable JSON"),
    "pickle": (b"\x80\x04\x95\x10\x00\x00\x00", "not readable JSON"),
    "deep_list": (b"[" * 200_000, "not readable JSON"),
    "deep_object": (b'{"a":' * 200_000, "not readable JSON"),
    "huge_integer": (b'{"format_version": ' + b"9" * 100_000 + b"}", "not readable JSON"),
    "nan": (b'{"name": "sigmoid", "format_version": NaN}', "it holds NaN"),
    "infinity": (b'{"name": "sigmoid", "format_version": -Infinity}', "it holds -Infinity"),
    "null": (b"null", "must be an object"),
    "list": (b"[]", "must be an object"),
    "ten_megabytes": (b'{"name": "' + b"x" * 10_000_000 + b'"}', "cannot be used"),
    "ten_megabytes_of_keys": (json.dumps({f"key{i}": i for i in range(600_000)}).encode(), "cannot be used"),
    "unknown_name": (b'{"name": "os.system", "format_version": 1, "params": {}, "state": {}}', "must be one of"),
    "reduce": (b'{"py/reduce": [{"py/type": "os.system"}, ["id"]]}', "cannot be used"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_give_one_short_sentence(name, tmp_path):
    content, sentence = HOSTILE[name]
    (tmp_path / "caliber").mkdir()
    (tmp_path / "caliber" / "calibrator.json").write_bytes(content)
    with pytest.raises(StateError, match=sentence) as caught:
        read_state(tmp_path, "calibrator", calibrator_from_dict, strict=True)
    assert len(str(caught.value)) < 700
    assert read_state(tmp_path, "calibrator", calibrator_from_dict, strict=False) is None


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StateError, match=r"caliber/calibrator\.json cannot be used: the file is missing"):
        read_state(tmp_path, "calibrator", calibrator_from_dict, strict=True)


@pytest.mark.parametrize("key", ["name", "format_version", "params", "state"])
@pytest.mark.parametrize("value", [None, 1e308, -1, "x", [], [[]], True, {"a": 1}])
def test_wrong_values_are_state_errors(key, value):
    with pytest.raises(StateError, match=r"[Cc]alibrator"):
        calibrator_from_dict({**valid_state(), key: value})


def test_unknown_keys_are_state_errors():
    state = valid_state()
    with pytest.raises(StateError, match="extra"):
        calibrator_from_dict({**state, "extra": 1})
    with pytest.raises(StateError, match="extra"):
        calibrator_from_dict({**state, "state": {**state["state"], "extra": 1}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_change_of_the_state_either_loads_or_is_a_state_error(data):
    state = valid_state()
    part = data.draw(st.sampled_from([state, state["state"], state["params"]]))
    key = data.draw(st.sampled_from([*part, "new"]))
    part[key] = data.draw(json_values)
    try:
        loaded = calibrator_from_dict(state)
    except StateError:
        return
    assert 0.0 <= loaded.predict([0.3])[0] <= 1.0


@settings(max_examples=150, deadline=None)
@given(prior=json_values, profile=json_values)
def test_any_reference_either_loads_or_is_refused(prior, profile):
    try:
        found = check_reference({"format_version": 1, "class_prior": prior, "profile": profile}, 2)
    except ValueError:
        return
    assert found["class_prior"] is None or len(found["class_prior"]) == 2
    assert found["profile"] is None or isinstance(found["profile"], dict)


def test_a_calibrator_for_another_number_of_classes_is_refused():
    with pytest.raises(StateError, match="does not fit a base model with 3 classes"):
        read_calibrator(valid_state(), 3)


def test_a_person_gets_an_error_where_a_server_gets_an_answer(saved, tmp_path):
    case, folder = saved["logistic"]
    broken = tmp_path / "model"
    shutil.copytree(folder, broken)
    (broken / "caliber" / "calibrator.json").unlink()
    with pytest.raises(StateError, match=r"caliber/calibrator\.json cannot be used: the file is missing"):
        caliber.load_model(str(broken))
    import mlflow.pyfunc

    frame = mlflow.pyfunc.load_model(str(broken)).predict(case.rows)
    assert set(frame["reason"]) == {"calibrator_unavailable"}


def is_refused(folder):
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    try:
        mlflow.pyfunc.load_model(str(folder))
    except MlflowException:
        return True
    return False


def test_without_pickle_bases_of_open_formats_still_load(saved, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    assert not is_refused(saved["xgboost"][1])
    # A pickled base is refused just when MLflow refuses it alone, which older versions do not.
    pickled = saved["python_model"][1]
    assert is_refused(pickled) == is_refused(pickled / "base_model")


def test_other_models_and_other_versions_are_told_apart(saved, tmp_path):
    with pytest.raises(StateError, match="is not a caliber model"):
        caliber.load_model(str(saved["logistic"][1] / "base_model"))
    newer = tmp_path / "model"
    shutil.copytree(saved["logistic"][1], newer)
    text = (newer / "MLmodel").read_text()
    (newer / "MLmodel").write_text(text.replace("format_version: 1", "format_version: 2"))
    with pytest.raises(StateError, match="must have format_version 1, got 2"):
        caliber.load_model(str(newer))


# --- the oldest format must keep loading


@pytest.mark.parametrize("name", [folder.name for folder in sorted(GOLDEN.iterdir())])
def test_golden_folders_keep_loading(name):
    folder = GOLDEN / name
    calibrator = read_state(folder, "calibrator", lambda state: read_calibrator(state, 2), strict=True)
    policy = read_state(folder, "policy", caliber.AbstainPolicy.from_dict, strict=True)
    reference = read_state(folder, "reference", lambda state: check_reference(state, 2), strict=True)
    expected = json.loads((folder / "expected.json").read_text())
    assert calibrator.predict(expected["scores"]).tolist() == expected["probabilities"]
    assert policy.apply(expected["probabilities"], segment=expected["segments"]).tolist() == expected["abstained"]
    assert reference["class_prior"] == expected["class_prior"]

    report = drift_from_profile(reference["profile"], pd.DataFrame(expected["rows"]))
    assert {column.column: round(column.statistic, 6) for column in report.columns} == expected["drift"]
