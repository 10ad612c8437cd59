"""Years of a lake become a few days of history in the store, once."""

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber.exceptions import ConflictError, InvalidInputError
from mlflow_caliber.live import Reports
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.store import HistoryDay, Prediction, open_store

pytestmark = pytest.mark.system

N = 3_000


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    p = rng.random(N).round(3)
    outcome = np.where(rng.random(N) < p, "yes", "no").astype(object)
    outcome[rng.random(N) < 0.1] = None
    return pd.DataFrame(
        {
            "predicted_at": pd.Timestamp("2025-03-01") + pd.to_timedelta(rng.integers(0, 3 * 86_400, N), unit="s"),
            "probability": p,
            "raw_probability": (p**1.2).round(3),
            "outcome": outcome,
        }
    )


@pytest.fixture(scope="module")
def lake(spark, rows, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("lake") / "scored")
    spark.createDataFrame(rows).write.parquet(folder)
    return spark.read.parquet(folder)


@pytest.fixture
def store():
    return open_store("sqlite://")


@pytest.fixture
def stream(store):
    return store.stream("credit", "1", classes=["no", "yes"])


def test_the_days_of_a_lake(lake, rows, store, stream):
    from mlflow_caliber.spark import backfill

    added = backfill(lake, stream, source="lake/2025")
    assert (added.days, added.predictions, added.is_new) == (3, N, True)
    days = stream.history()
    told = rows.dropna(subset=["outcome"])
    for day, (date, part) in zip(days, told.groupby(told["predicted_at"].dt.strftime("%Y-%m-%d")), strict=True):
        y = part["outcome"] == "yes"
        assert (day.day, day.n - day.unlabelled) == (date, len(part))
        assert day.served.metrics()["brier"] == pytest.approx(
            ScoreStatistics.from_rows(y, part["probability"]).metrics()["brier"], rel=1e-9
        )
        assert day.raw.metrics()["log_loss"] == pytest.approx(
            ScoreStatistics.from_rows(y, part["raw_probability"]).metrics()["log_loss"], rel=1e-9
        )
        assert day.base == day.served
    assert sum(day.n for day in days) == N
    assert Reports(store).headline(stream)["n_labelled"] == len(told)
    assert not backfill(lake, stream, source="lake/2025").is_new
    assert sum(day.n for day in stream.history()) == N


def test_what_is_there_already_is_refused(lake, stream):
    from mlflow_caliber.spark import history_days

    days = history_days(lake, stream)
    stream.add_history(days, source="one")
    with pytest.raises(ConflictError, match="source 'one' was loaded before with 3000 predictions of 3 days, now came"):
        stream.add_history(days[:2], source="one")
    with pytest.raises(ConflictError, match=r"got 2025-03-01, and the history has predictions of credit/1"):
        stream.add_history(days, source="two")
    assert stream.add_history(days, source="two", overlap=True).is_new
    assert sum(day.n for day in stream.history()) == 2 * N
    assert stream.history()[0].served.n == 2 * days[0].served.n


def test_what_the_log_has_is_refused(lake, stream):
    from mlflow_caliber.spark import history_days

    at = pd.Timestamp("2025-03-02 23:59:59", tz="UTC").timestamp()
    said = Prediction(
        prediction_id="a",
        predicted_at=at,
        raw_probability=0.9,
        base_probability=0.9,
        probability=0.9,
        prediction="yes",
        confidence=0.9,
    )
    stream.record([said])
    days = history_days(lake, stream)
    with pytest.raises(ConflictError, match="got 2025-03-02, and the log has predictions"):
        stream.add_history(days, source="lake")
    assert stream.history() == ()
    stream.add_history([day for day in days if day.day != "2025-03-02"], source="lake")
    assert len(stream.history()) == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("if(raw_probability > 0.5, 'maybe', outcome) AS outcome", "only the classes 'no' and 'yes', got 'maybe'"),
        ("1 AS outcome", "y_true must hold texts such as the class 'yes', got numbers"),
        ("'now' AS predicted_at", "predicted_at must be a time or seconds since 1970, got values of type string"),
        (
            "if(raw_probability > 0.5, null, predicted_at) AS predicted_at",
            "every row must say when, as a time or in seconds since 1970, got",
        ),
        ("if(raw_probability > 0.5, double('NaN'), 1.7e9) AS predicted_at", "without a time, or one beyond the years"),
        ("1700000000000 AS predicted_at", "without a time, or one beyond the years 1 to 9999"),
        ("1700000000000000000 AS predicted_at", "without a time, or one beyond the years 1 to 9999"),
        ("probability + 1 AS probability", "y_proba must lie in"),
    ],
)
def test_rows_that_cannot_be_read(lake, stream, change, sentence):
    from mlflow_caliber.spark import backfill

    others = [name for name in lake.columns if name != change.rsplit(" ", 1)[1]]
    with pytest.raises(InvalidInputError, match=sentence):
        backfill(lake.selectExpr(*others, change), stream, source="lake")
    assert stream.history() == ()


def test_more_than_two_classes_and_seconds(spark):
    from mlflow_caliber.spark import history_days

    stream = open_store("sqlite://").stream("three", "1", classes=["a", "b", "c"])
    said = pd.DataFrame(
        {
            "predicted_at": [0.0, 86_399.0, 86_400.0, -1.0 + 2 * 86_400.0],
            "probability": [0.5, 0.75, 0.5, 0.25],
            "raw_probability": [0.5, 0.5, 0.5, 0.5],
            "prediction": ["a", "b", "c", "a"],
            "outcome": ["a", "c", "c", None],
        }
    )
    first, second = history_days(spark.createDataFrame(said), stream)
    assert (first.day, first.n, first.unlabelled, first.served) == (
        "1970-01-01",
        2,
        0,
        ScoreStatistics.from_rows([1, 0], [0.5, 0.75], exact_up_to=1_000),
    )
    assert (second.day, second.n, second.unlabelled) == ("1970-01-02", 2, 1)


def test_days_that_cannot_be(stream):
    from mlflow_caliber.store import HistoryDay

    sums = ScoreStatistics.from_rows([0, 1], [0.25, 0.75])
    good = {"day": "2025-03-01", "n": 2, "unlabelled": 0, "raw": sums, "base": sums, "served": sums}
    for change, sentence in (
        ({"day": "2025-3-1"}, "day must be a date such as 2025-03-01, got '2025-3-1'"),
        ({"n": 3}, "raw of 2025-03-01 must be of its 3 labelled predictions, got 2"),
    ):
        with pytest.raises(InvalidInputError, match=sentence):
            stream.add_history([HistoryDay(**(good | change))], source="lake")
    with pytest.raises(InvalidInputError, match="got 2025-03-01 twice"):
        stream.add_history([HistoryDay(**good)] * 2, source="lake")
    with pytest.raises(InvalidInputError, match="got none"):
        stream.add_history([], source="lake")


def test_other_rows_are_no_load_that_came_before(stream):
    day, other = (ScoreStatistics.from_rows([0, 1], p) for p in ([0.2, 0.7], [0.9, 0.95]))

    def load(served, raw):
        return [HistoryDay(day="2025-03-01", n=2, unlabelled=0, raw=raw, base=day, served=served)]

    assert stream.add_history(load(day, day), source="lake").is_new
    assert not stream.add_history(load(day, day), source="lake").is_new
    for changed in (load(other, day), load(day, other)):
        with pytest.raises(ConflictError, match="lake"):
            stream.add_history(changed, source="lake")
