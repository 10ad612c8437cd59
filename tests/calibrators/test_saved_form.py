"""Files of format version 1 stay readable, and nothing else is read.

To add a golden file for a new calibrator, write ``{"saved": c.to_dict(), "scores": [...], "predicted": [...]}``, and
``"segment": [...]`` if it asks for segments.
The files that are there never change: models in production were saved in that form.
"""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mlflow_caliber.calibrators import CALIBRATORS, calibrator_from_dict, make_calibrator
from mlflow_caliber.exceptions import StateError

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    "name", [*CALIBRATORS, "segmented", "multiclass_ovr", "multiclass_temperature", "multiclass_vector"]
)
def test_version_1_files_are_still_read(name):
    golden = json.loads((GOLDEN / f"{name}_v1.json").read_text())
    calibrator = calibrator_from_dict(golden["saved"])
    segment = {"segment": golden["segment"]} if "segment" in golden else {}
    assert_allclose(calibrator.predict(golden["scores"], **segment), golden["predicted"], atol=1e-14)
    assert calibrator.to_dict() == golden["saved"]


def saved(name):
    return json.loads((GOLDEN / f"{name}_v1.json").read_text())["saved"]


REMOVED = object()


def changed(data, path, value):
    """A deep copy with one value replaced, added or removed."""
    data = copy.deepcopy(data)
    target = data
    for key in path[:-1]:
        target = target[key]
    if value is REMOVED:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("name", "path", "value", "sentence"),
    [
        ("isotonic", ["name"], "isotonix", "'name' must be one of .* got 'isotonix'. Did you mean 'isotonic'"),
        ("isotonic", ["name"], 3, "'name' must be a string, got 3"),
        ("isotonic", ["name"], REMOVED, "must hold 'name', which is missing"),
        ("isotonic", ["format_version"], 2, "'format_version' must be 1, got 2: a newer mlflow-caliber"),
        ("isotonic", ["format_version"], "1", "'format_version' must be a whole number"),
        ("isotonic", ["format_version"], True, "'format_version' must be a whole number"),
        ("isotonic", ["surprise"], 1, r"must hold only .* got also \['surprise'\]"),
        ("isotonic", ["state"], [], "state: must be an object with named values, got a list"),
        ("isotonic", ["params"], None, "params: must be an object with named values, got a NoneType"),
        ("isotonic", ["params", "clip"], 0.1, r"got also \['clip'\]"),
        ("sigmoid", ["params", "clip"], REMOVED, "must hold 'clip', which is missing"),
        ("sigmoid", ["params", "clip"], 0.7, "params: clip must be a number strictly between 0 and 0.5, got 0.7"),
        ("sigmoid", ["params", "prior_precision"], [1, "x"], "params: prior_precision must be a finite number"),
        ("isotonic", ["state", "n_samples"], 0, "'n_samples' must be a whole number of at least 1, got 0"),
        ("isotonic", ["state", "n_samples"], 2.5, "'n_samples' must be a whole number of at least 1, got 2.5"),
        ("isotonic", ["state", "x_thresholds"], REMOVED, "must hold 'x_thresholds', which is missing"),
        ("isotonic", ["state", "x_thresholds"], [], "'x_thresholds' must be a list of at least one number"),
        ("isotonic", ["state", "x_thresholds"], "0.1", "'x_thresholds' must be a list, got '0.1'"),
        ("isotonic", ["state", "x_thresholds"], [0.1, 0.2], "thresholds must come in pairs, got 2 x and"),
        ("isotonic", ["state", "x_thresholds", 0], 0.99, "'x_thresholds' must increase strictly"),
        ("isotonic", ["state", "x_thresholds", 0], float("nan"), "'x_thresholds' must be a finite number, got nan"),
        ("isotonic", ["state", "x_thresholds", 0], None, "'x_thresholds' must be a number, got None"),
        ("isotonic", ["state", "x_thresholds", 0], False, "'x_thresholds' must be a number, got False"),
        ("isotonic", ["state", "x_thresholds", 0], -0.1, r"'x_thresholds' must be a number in \[0, 1\], got -0.1"),
        ("centered_isotonic", ["state", "y_thresholds", 0], 1.0, "'y_thresholds' must never decrease"),
        ("centered_isotonic", ["params", "clip_ends"], "yes", "clip_ends must be True or False, got 'yes'"),
        ("sigmoid", ["state", "a"], -0.5, "'a' must be a number in .* got -0.5"),
        ("sigmoid", ["state", "a"], float("inf"), "'a' must be a finite number, got inf"),
        ("sigmoid", ["state", "b"], 10**400, "'b' must be a finite number"),
        ("sigmoid", ["state", "c"], 0.0, r"got also \['c'\]"),
        ("beta", ["state", "b"], 1e300, "'b' must be a number in"),
        ("temperature", ["state", "temperature"], 0.0, r"'temperature' must be a number in \[0.01, 100\], got 0.0"),
        ("auto", ["state", "weights", "beta"], REMOVED, "weights: must hold 'beta', which is missing"),
        ("auto", ["state", "weights", "beta"], 0.9, "weights: must sum to 1, got a sum of"),
        ("auto", ["state", "weights", "gamma"], 0.0, r"weights: must hold only .* got also \['gamma'\]"),
        ("auto", ["state", "candidates", "sigmoid"], {}, "candidates: sigmoid: must hold 'a', which is missing"),
        ("multiclass_ovr", ["params", "method"], "magic", "params: method must be one of .* got 'magic'"),
        ("multiclass_ovr", ["params", "method"], "beta", "'name' must be one of beta, got 'sigmoid'"),
        ("multiclass_ovr", ["state", "columns", 0], None, "must hold the maps of at least two classes"),
        ("multiclass_ovr", ["state", "n_classes"], 7, "'columns' must hold one map for each of 7 classes, got 3"),
        ("multiclass_temperature", ["params", "method"], "identity", r"must be a number in \[1, 1\]"),
        ("multiclass_temperature", ["params", "method"], "vector", "must hold 'slopes', which is missing"),
        ("multiclass_vector", ["params", "method"], "temperature", "must hold 'temperature', which is missing"),
        ("multiclass_vector", ["state", "slopes", 0], -0.1, r"'slopes' must be a number in \[0, 1e\+12\], got -0.1"),
        ("multiclass_vector", ["state", "slopes", 0], float("nan"), "'slopes' must be a finite number, got nan"),
        (
            "multiclass_vector",
            ["state", "slopes"],
            [1.0, 1.0],
            "'slopes' must hold one number for each of 3 classes, got 2",
        ),
        (
            "multiclass_vector",
            ["state", "offsets"],
            [0.0] * 4,
            "'offsets' must hold one number for each of 3 classes, got 4",
        ),
        ("multiclass_vector", ["state", "offsets"], [], "'offsets' must be a list of at least one number"),
        ("multiclass_vector", ["state", "offsets", 0], -1e300, "'offsets' must be a number in"),
        ("multiclass_vector", ["state", "n_classes"], 4, "'slopes' must hold one number for each of 4 classes, got 3"),
        ("multiclass_vector", ["state", "temperature"], 1.0, r"got also \['temperature'\]"),
        ("segmented", ["params", "method"], "beta", "'name' must be one of beta, got 'sigmoid'"),
        ("segmented", ["params", "shrinkage"], 0, "params: shrinkage must be a finite number of at least 1e-06"),
        ("segmented", ["state", "segments"], [], "segments: must be an object with named values, got a list"),
        ("segmented", ["state", "segments", "north", "a"], -0.5, r"north: 'a' must be a number in .* got -0.5"),
        ("segmented", ["state", "segments", "north", "c"], REMOVED, "north: must hold 'c', which is missing"),
        ("segmented", ["state", "segments", "north", "d"], 0.0, r"got also \['d'\]"),
    ],
)
def test_refuses_what_was_never_written(name, path, value, sentence):
    with pytest.raises(StateError, match=sentence):
        calibrator_from_dict(changed(saved(name), path, value))


@pytest.mark.parametrize("data", [None, [], "isotonic", 3])
def test_refuses_what_is_no_object(data):
    with pytest.raises(StateError, match="Saved calibrator: must be an object with named values"):
        calibrator_from_dict(data)


def test_long_values_are_cut_short_in_the_sentence():
    with pytest.raises(StateError) as caught:
        calibrator_from_dict(changed(saved("isotonic"), ["state", "x_thresholds"], "x" * 10_000))
    assert len(str(caught.value)) < 200


def test_numpy_parameters_become_json():
    calibrator = make_calibrator("beta", prior_precision=np.array([8.0, 8.0, 2.0]), clip=np.float64(1e-6))
    text = json.dumps(calibrator.fit([0.2, 0.7, 0.9], [0, 1, 1]).to_dict())
    assert json.loads(text)["params"] == {"clip": 1e-6, "prior_precision": [8.0, 8.0, 2.0]}
