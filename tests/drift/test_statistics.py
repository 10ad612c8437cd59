"""Drift statistics: any cut of the rows gives the drift of all."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber.drift import DriftStatistics, drift_from_profile, feature_profile
from mlflow_caliber.exceptions import InvalidInputError, StateError


def rows(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": np.where(rng.random(n) < 0.05, np.nan, rng.normal(shift, 1.0, n)),
            "tail": rng.standard_cauchy(n) + 1e6,
            "kind": rng.choice(["a", "b", "c"], n),
            "yes": rng.random(n) < 0.4 + shift / 5.0,
        }
    )


PROFILE = feature_profile(rows(1_000, 0))
NOW = rows(600, 1, shift=0.5)


def same(found, expected):
    assert (found.n_reference, found.n_current, found.skipped) == (
        expected.n_reference,
        expected.n_current,
        expected.skipped,
    )
    for one, other in zip(found.columns, expected.columns, strict=True):
        assert (one.column, one.drifted, one.note, one.n_current) == (
            other.column,
            other.drifted,
            other.note,
            other.n_current,
        )
        assert one.statistics == pytest.approx(other.statistics, rel=1e-9)
        assert one.p_value == pytest.approx(other.p_value, rel=1e-6, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, len(NOW)), max_size=6), seed=st.integers(0, 1_000))
def test_any_cut_and_any_order(cuts, seed):
    places = sorted({0, len(NOW), *cuts})
    parts = [NOW.iloc[low:high] for low, high in pairwise(places)]
    np.random.default_rng(seed).shuffle(parts)
    total = sum(DriftStatistics(PROFILE).update(part) for part in parts)
    kept = DriftStatistics.from_dict(json.loads(json.dumps(total.to_dict(), allow_nan=False)))
    for method in ("psi", "wasserstein"):
        same(kept.report(method=method), drift_from_profile(PROFILE, NOW, method=method))


def test_rows_without_a_column_of_the_profile_count():
    one, other = (DriftStatistics(PROFILE).update(pd.DataFrame({"z": range(n)})) for n in (3, 4))
    assert (one + other).report().n_current == 7


def test_infinite_values_have_no_area():
    now = NOW.assign(x=np.where(NOW.index == 3, np.inf, NOW["x"]))
    parts = DriftStatistics(PROFILE).update(now[:300]) + DriftStatistics(PROFILE).update(now[300:])
    kept = DriftStatistics.from_dict(json.loads(json.dumps(parts.to_dict(), allow_nan=False)))
    found = {column.column: column for column in kept.report().columns}
    assert "wasserstein" not in found["x"].statistics
    assert found["x"].statistics["ks"] > 0.0
    same(kept.report(), drift_from_profile(PROFILE, now))


def test_what_is_unreadable_in_one_part_is_skipped():
    strange = NOW.assign(x="text")
    total = DriftStatistics(PROFILE).update(NOW) + DriftStatistics(PROFILE).update(strange)
    assert "It is numeric in the reference" in total.report().skipped["x"]
    assert total.report().skipped == DriftStatistics.from_dict(total.to_dict()).report().skipped


def test_what_does_not_fit_is_refused():
    one = DriftStatistics(PROFILE).update(NOW)
    with pytest.raises(InvalidInputError, match="other must be about the same profile"):
        one.merge(DriftStatistics(feature_profile(NOW)))
    with pytest.raises(InvalidInputError, match="other must be DriftStatistics, got a dict"):
        one.merge({})
    with pytest.raises(InvalidInputError, match="got none of: x"):
        one.update(NOW[["kind"]])
    with pytest.raises(InvalidInputError, match="other must be of the same columns"):
        one.merge(DriftStatistics(PROFILE).update(NOW[["kind"]]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state | {"n": 7}, "must have .* cells of 7 rows"),
        (lambda state: state | {"format_version": 9}, "format version of 1 to 1"),
        (lambda state: state | {"sums": {"z": {}}}, "must be of columns of the profile, got 'z'"),
        (lambda state: state | {"sums": {"x": 3}}, "must be a JSON object"),
    ],
)
def test_a_state_that_cannot_be_is_refused(change, sentence):
    state = DriftStatistics(PROFILE).update(NOW).to_dict()
    with pytest.raises(StateError, match=sentence):
        DriftStatistics.from_dict(change(state))
