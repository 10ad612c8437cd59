"""Drift of a Spark frame is the drift of its rows."""

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber.drift import drift_from_profile, feature_profile
from mlflow_caliber.exceptions import InvalidInputError

pytestmark = pytest.mark.system


def rows(n, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    age = rng.normal(40.0 + shift, 10.0, n)
    age[rng.random(n) < 0.03 * (1.0 + shift)] = np.nan
    return pd.DataFrame(
        {
            "age": age,
            "income": rng.exponential(1.0 + shift / 10.0, n),
            "region": rng.choice(["north", "south", None], n).astype(object),
            "code": rng.integers(0, 4, n),
            "paid": rng.random(n) < 0.5 - shift / 20.0,
            "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 9_000, n), unit="m"),
            "constant": 1.0,
        }
    )


@pytest.fixture(scope="module")
def profile():
    return feature_profile(rows(2_000, 0))


@pytest.fixture(scope="module")
def now():
    return rows(1_500, 1, shift=2.0).assign(extra=1)


def test_drift_is_that_of_the_rows(spark, profile, now):
    from mlflow_caliber.spark import drift_report, drift_statistics

    df = spark.createDataFrame(now).repartition(3)
    statistics = drift_statistics(profile, df)
    for method in ("psi", "wasserstein", "ks"):
        found, expected = statistics.report(method=method), drift_from_profile(profile, now, method=method)
        assert (found.n_current, found.skipped) == (expected.n_current, expected.skipped)
        for one, other in zip(found.columns, expected.columns, strict=True):
            assert (one.column, one.method, one.drifted, one.note) == (
                other.column,
                other.method,
                other.drifted,
                other.note,
            )
            assert one.statistics == pytest.approx(other.statistics, rel=1e-9, abs=1e-12)
            assert one.threshold == pytest.approx(other.threshold, rel=1e-9)
            assert one.p_value == pytest.approx(other.p_value, rel=1e-6, abs=1e-12)
    assert "age" in found.drifted
    assert drift_report(profile, df, columns=["age"]).columns == statistics.report(columns=["age"]).columns


def test_a_frame_with_nothing_of_the_profile(spark, profile, now):
    from mlflow_caliber.spark import drift_statistics

    other = drift_statistics(profile, spark.createDataFrame(now[["extra"]])).report()
    assert other.n_current == len(now)
    assert other.skipped["age"] == "It is not in the current data."
    with pytest.raises(InvalidInputError, match="df must be a Spark DataFrame, got a DataFrame"):
        drift_statistics(profile, now)


def test_a_dot_in_a_name(spark):
    from mlflow_caliber.spark import drift_report

    x = pd.DataFrame({"a.b": np.random.default_rng(0).normal(size=300)})
    found = drift_report(feature_profile(x), spark.createDataFrame(x))
    assert [(each.column, each.drifted) for each in found.columns] == [("a.b", False)]
