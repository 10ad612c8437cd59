"""Which predictions are withheld, and the saved form of that rule."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import ConfigError, InvalidInputError, StateError

POLICY = AbstainPolicy(0.7, segment_thresholds={"new": 0.9, "": 0.2}, on_calibrator_error="raw")
BY_CLASS = AbstainPolicy(
    0.5, segment_thresholds={"new": 0.7, "calm": 0.1}, class_thresholds={"yes": 0.9, "1": 0.6}, audit_share=0.02
)


def test_withheld_means_below_the_threshold():
    assert AbstainPolicy(0.7).apply([0.69, 0.7, 0.71]).tolist() == [True, False, False]


def test_the_default_withholds_only_what_has_no_confidence():
    assert AbstainPolicy().apply([0.0, 1.0, np.nan]).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("segment", "withheld"),
    [
        (None, [False, False]),
        ("new", [True, True]),
        ("old", [False, False]),
        ("", [False, False]),
        (["new", "old"], [True, False]),
        (np.array(["old", "new"]), [False, True]),
        ([None, np.nan], [False, False]),
        (pd.Series(["new", pd.NA], dtype="string"), [True, False]),
        (pd.Categorical(["new", "old"]), [True, False]),
    ],
    ids=repr,
)
def test_segments_have_thresholds_of_their_own(segment, withheld):
    assert POLICY.apply([0.8, 0.8], segment=segment).tolist() == withheld


def test_segment_thresholds_can_be_looser_too():
    assert POLICY.apply([0.3, 0.3], segment=["", "old"]).tolist() == [False, True]


@pytest.mark.parametrize(
    ("segment", "predicted", "limit"),
    [
        (None, "yes", 0.9),
        (None, "no", 0.5),
        ("new", "no", 0.7),
        ("new", "yes", 0.9),  # the stricter of the two
        ("new", 1, 0.7),
        ("calm", "no", 0.1),  # looser than the policy's threshold: it replaces it
        ("calm", np.int64(1), 0.6),
        ("unknown", True, 0.5),
        (None, np.str_("yes"), 0.9),
    ],
    ids=repr,
)
def test_one_threshold_holds_for_a_row(segment, predicted, limit):
    confidence = [limit - 0.01, limit]
    assert BY_CLASS.apply(confidence, segment=segment, predicted=predicted).tolist() == [True, False]
    column = np.array([predicted, predicted], dtype=object)
    assert BY_CLASS.apply(confidence, segment=segment, predicted=column).tolist() == [True, False]


def test_predicted_labels_of_any_type_are_read_as_text():
    policy = AbstainPolicy(class_thresholds={"1": 0.9, "True": 0.8, "a": 0.7})
    expected = [True, False]
    for labels in ([1, 0], np.array([1, 0]), pd.Series([1, 0]), np.array(["1", "0"]), [1, None]):
        assert policy.apply([0.85, 0.85], predicted=labels).tolist() == expected
    assert policy.apply([0.75, 0.75], predicted=np.array([True, False])).tolist() == expected
    assert policy.apply([0.65, 0.65], predicted=pd.Categorical(["a", "b"])).tolist() == expected
    assert policy.apply([], predicted=[]).shape == (0,)


def test_thresholds_of_classes_need_the_label():
    with pytest.raises(InvalidInputError, match=r"predicted must be given: the policy has thresholds for yes, 1\."):
        BY_CLASS.apply([0.5])
    with pytest.raises(InvalidInputError, match=r"predicted must have one value a row, got 1 values for 2 rows\."):
        BY_CLASS.apply([0.5, 0.6], predicted=["yes"])
    assert BY_CLASS.apply([0.5, 0.4], threshold=0.45).tolist() == [False, True]


def test_a_threshold_given_overrides_all_of_the_policy():
    assert POLICY.apply([0.8, 0.8], segment=["new", "old"], threshold=0.8).tolist() == [False, False]
    assert POLICY.apply([0.8, 0.8], segment=["new", "old"], threshold=0.85).tolist() == [True, True]


@pytest.mark.parametrize("segment", [None, "new", []], ids=repr)
def test_no_rows_give_no_answers(segment):
    mask = POLICY.apply([], segment=segment)
    assert mask.dtype == np.bool_
    assert mask.shape == (0,)


@settings(max_examples=50, deadline=None)
@given(
    confidence=st.lists(st.floats(0, 1) | st.just(float("nan")), max_size=20),
    threshold=st.floats(0, 1),
    data=st.data(),
)
def test_array_segments_are_row_by_row_scalar_segments(confidence, threshold, data):
    policy = AbstainPolicy(threshold, segment_thresholds={"a": 0.3, "b": 0.8})
    names = st.lists(st.sampled_from(["a", "b", "c"]), min_size=len(confidence), max_size=len(confidence))
    segments = data.draw(names)
    one_by_one = [policy.apply([c], segment=s)[0] for c, s in zip(confidence, segments, strict=True)]
    assert policy.apply(confidence, segment=segments).tolist() == one_by_one


def test_policy_is_a_value():
    thresholds = {"new": 0.9}
    policy = AbstainPolicy(0.7, segment_thresholds=thresholds)
    thresholds["new"] = 0.1
    assert policy.segment_thresholds == {"new": 0.9}
    twin = AbstainPolicy(0.7, segment_thresholds={"new": 0.9})
    assert policy == twin == copy.deepcopy(policy) == pickle.loads(pickle.dumps(policy))
    assert hash(policy) == hash(twin)
    assert policy != AbstainPolicy(0.7)


@pytest.mark.parametrize("policy", [AbstainPolicy(), AbstainPolicy(1), POLICY, BY_CLASS], ids=repr)
def test_policy_survives_json(policy):
    assert AbstainPolicy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"threshold": 1.5}, r"threshold must be a number in \[0, 1\], got 1\.5\."),
        ({"threshold": float("nan")}, r"threshold must be a number in \[0, 1\], got nan\."),
        ({"threshold": "high"}, r"threshold must be a number in \[0, 1\], got 'high'\."),
        ({"segment_thresholds": {"new": -1}}, r"segment_thresholds\['new'\] must be a number in \[0, 1\], got -1\."),
        ({"segment_thresholds": {7: 0.5}}, r"segment_thresholds must have names that are text, got 7\."),
        ({"segment_thresholds": [0.5]}, r"segment_thresholds must map names to thresholds, got a list\."),
        ({"class_thresholds": {"yes": 2}}, r"class_thresholds\['yes'\] must be a number in \[0, 1\], got 2\."),
        ({"audit_share": 1.5}, r"audit_share must be a number in \[0, 1\], got 1\.5\."),
        ({"audit_salt": 7}, r"audit_salt must be text, got 7\."),
        ({"on_calibrator_error": "rw"}, r"must be one of abstain, raw, got 'rw'\. Did you mean 'raw'\?"),
    ],
)
def test_bad_policies_get_a_sentence(arguments, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        AbstainPolicy(**arguments)
    with pytest.raises(StateError, match=sentence):
        AbstainPolicy.from_dict(AbstainPolicy().to_dict() | arguments)


def test_bad_rows_get_a_sentence():
    with pytest.raises(InvalidInputError, match=r"confidence must be one-dimensional, got shape \(1, 1\)\."):
        POLICY.apply([[0.5]])
    with pytest.raises(InvalidInputError, match=r"confidence must be numbers"):
        POLICY.apply(["sure"])
    with pytest.raises(InvalidInputError, match=r"segment must have one value a row, got 1 values for 2 rows\."):
        POLICY.apply([0.5, 0.6], segment=["new"])
    with pytest.raises(InvalidInputError, match=r"threshold must be a number in \[0, 1\], got 2\."):
        POLICY.apply([0.5], threshold=2)


def test_saved_policies_that_cannot_be_read():
    with pytest.raises(StateError, match=r"must be read from a mapping, got a str\."):
        AbstainPolicy.from_dict("0.7")
    with pytest.raises(StateError, match=r"must have format_version 1 or 2, got None\."):
        AbstainPolicy.from_dict({"threshold": 0.7})
    with pytest.raises(StateError, match=r"must have format_version 1 or 2, got 3\."):
        AbstainPolicy.from_dict(POLICY.to_dict() | {"format_version": 3})
    with pytest.raises(ConfigError, match=r"unknown key 'treshold'\. Did you mean 'threshold'\?"):
        AbstainPolicy.from_dict(POLICY.to_dict() | {"treshold": 0.7})
    with pytest.raises(StateError, match=r"must have format_version 1 or 2, got True\."):
        AbstainPolicy.from_dict(POLICY.to_dict() | {"format_version": True})


def test_policies_of_the_first_format_are_read():
    state = {"format_version": 1, "threshold": 0.7, "segment_thresholds": {"south": 0.9}, "on_calibrator_error": "raw"}
    policy = AbstainPolicy.from_dict(state)
    assert policy == AbstainPolicy(0.7, segment_thresholds={"south": 0.9}, on_calibrator_error="raw")
    assert policy.to_dict()["format_version"] == 2
    with pytest.raises(ConfigError, match=r"unknown key 'audit_share'\."):
        AbstainPolicy.from_dict(state | {"audit_share": 0.1})
