"""Settings: what is taken, and what is refused with which sentence."""

import re

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber.evaluator import EvaluatorConfig
from mlflow_caliber.exceptions import CaliberError


def test_defaults():
    config = EvaluatorConfig.from_dict(None)
    assert (config.segments, config.n_bins, config.strategy, config.max_segments) == ((), 10, "quantile", 50)
    assert config == EvaluatorConfig.from_dict({}) == EvaluatorConfig()


@pytest.mark.parametrize(
    ("given", "expected"), [("region", ("region",)), (["a", "b"], ("a", "b")), (np.array(["a"]), ("a",)), (None, ())]
)
def test_segments_are_a_list_of_names(given, expected):
    assert EvaluatorConfig.from_dict({"segments": given}).segments == expected


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"segment": ["region"]}, "unknown key 'segment'. Did you mean 'segments'?"),
        ({"sample_weights": "w"}, "unknown key 'sample_weights'. Did you mean 'sample_weight'?"),
        ({"bins": 5}, "Did you mean 'n_bins'?"),
        ({"log_model_explainability": False}, "unknown key 'log_model_explainability'. Known keys: abstain_threshold,"),
        ({"n_bins": 0}, "n_bins must be a whole number >= 1, got 0."),
        ({"n_bins": True}, "n_bins must be a whole number >= 1, got True."),
        ({"max_segments": 1.5}, "max_segments must be a whole number >= 1, got 1.5."),
        ({"strategy": "quantiles"}, "Did you mean 'quantile'?"),
        ({"drift_method": "kss"}, "got 'kss'. Did you mean 'ks'?"),
        ({"drift_method": ["psi", 3]}, "drift_method must be one of"),
        ({"drift_method": []}, "drift_method must name at least one statistic, got none"),
        ({"drift_method": 3}, "drift_method must be a name or a list of names, got 3"),
        ({"abstain_threshold": 70}, "abstain_threshold must be a number in [0, 1], got 70."),
        ({"segments": 3}, "segments must be a list, got 3."),
        ({"segments": {"region": 1}}, "segments must be a list, got {'region': 1}."),
        ({"classes": "yes"}, "classes must be a list, got 'yes'."),
        ({"evidently": "yes"}, "evidently must be True or False, got 'yes'."),
        ({"policy_sha256": "caliber.yaml"}, "policy_sha256 must be a policy's digest, 'sha256:' and 64 hexadecimal"),
        ({"evidently": True}, "give the earlier ones as reference."),
    ],
)
def test_wrong_settings_are_refused(config, sentence):
    with pytest.raises(CaliberError, match=re.escape(sentence)):
        EvaluatorConfig.from_dict(config)


def test_reference_is_a_frame_or_a_file_of_it(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    frame.to_parquet(tmp_path / "r.parquet")
    frame.to_csv(tmp_path / "r.csv", index=False)
    for reference in (frame, tmp_path / "r.parquet", str(tmp_path / "r.csv")):
        pd.testing.assert_frame_equal(EvaluatorConfig(reference=reference).reference_frame(), frame)
    assert EvaluatorConfig().reference_frame() is None


@pytest.mark.parametrize(
    ("reference", "got"), [("nowhere.parquet", "'nowhere.parquet'"), (__file__, "test_config.py'"), (5, "a int")]
)
def test_another_reference_is_refused(reference, got):
    with pytest.raises(CaliberError, match=rf"DataFrame or an existing \.parquet or \.csv file, got .*{got}\."):
        EvaluatorConfig(reference=reference).reference_frame()
