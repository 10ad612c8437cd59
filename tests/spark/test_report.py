"""A report of a Spark frame is the report of its rows."""

import datetime

import numpy as np
import pandas as pd
import pytest

import mlflow_caliber
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.batches import ReportStatistics
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import ScoreStatistics

N = 4_000


def rows(n=N, seed=0):
    rng = np.random.default_rng(seed)
    raw = rng.beta(0.7, 1.3, n)
    return pd.DataFrame(
        {
            "probability": raw**1.1,
            "raw": raw,
            "label": (rng.random(n) < raw).astype(int),
            "region": rng.choice(["north", "south", None], n).astype(object),
            "size": rng.choice([1.0, 2.0, np.nan], n),
            "w": rng.choice([0.0, 1.0, 2.5], n),
            "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 71 * 60, n), unit="min"),
        }
    )


@pytest.fixture(scope="session")
def people():
    return rows()


@pytest.fixture(scope="session")
def df(spark, people):
    return spark.createDataFrame(people).repartition(3).persist()


def edges_and_between():
    """Scores on every edge of the grid, a float beside it, and all over each decade."""
    rng = np.random.default_rng(1)
    grid = [np.arange(0, 601) / (600.0 * 10.0**power) for power in range(13)]
    edges = np.concatenate([*grid, *(1.0 - part for part in grid), np.arange(6001) / 6000.0])
    tails = 10.0 ** -rng.uniform(0.0, 16.0, 5_000)
    ends = [0.0, -0.0, 1.0, 0.5, 5e-324, 1e-12, 1.0 - 1e-12, 0.01, 0.99, 0.29, 0.57]
    near = [np.nextafter(edges, 0.0), np.nextafter(edges, 1.0)]
    return np.clip(np.concatenate([edges, *near, rng.random(5_000), tails, 1.0 - tails, ends]), 0.0, 1.0)


@pytest.mark.parametrize("compiled", [True, False])
def test_cells_are_the_cells_of_the_statistics_to_the_last_bit(spark, compiled):
    from pyspark.sql import functions as sf

    from mlflow_caliber.spark._cells import cell_column

    scores = edges_and_between()
    spark.conf.set("spark.sql.codegen.wholeStage", str(compiled).lower())
    spark.conf.set("spark.sql.codegen.factoryMode", "CODEGEN_ONLY" if compiled else "NO_CODEGEN")
    try:
        frame = spark.createDataFrame(pd.DataFrame({"p": scores}))
        found = frame.select("p", cell_column(sf.col("p")).alias("cell")).toArrow()
    finally:
        spark.conf.set("spark.sql.codegen.wholeStage", "false")
        spark.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
    cells = found.column("cell").to_numpy()
    np.testing.assert_array_equal(cells, ScoreStatistics.cell_of(found.column("p").to_numpy()))
    assert np.unique(cells).size > 25_000


def without_draws(metrics):
    """The metrics that no random numbers are behind: of those, a rounding may turn one."""
    return {key: value for key, value in metrics.items() if not key.startswith("ece_null")}


def same(report, expected):
    """The same numbers, but for the order of additions."""
    assert (report.n, report.exact, report.classes) == (expected.n, True, expected.classes)
    assert without_draws(report.metrics) == pytest.approx(without_draws(expected.metrics), rel=1e-9, abs=1e-12)
    assert report.not_computed == expected.not_computed
    assert [(part.column, part.value, part.n) for part in report.segments] == [
        (part.column, part.value, part.n) for part in expected.segments
    ]
    for part, wanted in zip(report.segments, expected.segments, strict=True):
        assert without_draws(part.metrics) == pytest.approx(without_draws(wanted.metrics), rel=1e-9, abs=1e-12)


def test_few_scores_give_the_report_of_the_rows(df, people):
    from mlflow_caliber.spark import reliability_report

    policy = AbstainPolicy(threshold=0.8)
    report = reliability_report(df, raw="raw", segments=["region", "size"], classes=["no", "yes"], policy=policy)
    expected = mlflow_caliber.reliability_report(
        people["label"],
        people["probability"],
        raw=people["raw"],
        segments=people[["region", "size"]],
        classes=["no", "yes"],
        policy=policy,
    )
    same(report, expected)
    same(report.raw, expected.raw)
    assert report.segments[0].value == "(missing)"
    assert report.intervals["accuracy"] == pytest.approx(expected.intervals["accuracy"])


def test_weights_and_rows_that_weigh_nothing(df, people):
    from mlflow_caliber.spark import reliability_report

    report = reliability_report(df, sample_weight="w")
    same(report, mlflow_caliber.reliability_report(people["label"], people["probability"], sample_weight=people["w"]))
    assert report.weighted
    assert report.n == int((people["w"] > 0).sum())


def test_many_scores_are_counted_in_the_cells_of_the_same_grid(df, people):
    from mlflow_caliber.spark import report_statistics

    found = report_statistics(df, segments=["region"], exact_up_to=100)
    expected = ReportStatistics(segments=["region"], exact_up_to=100)
    expected.update(people["label"], people["probability"], segments={"region": people["region"]})
    assert not found.statistics.exact
    for one, other in ((found.statistics, expected.statistics), *zip_segments(found, expected)):
        state, wanted = one.to_dict(), other.to_dict()
        for key in ("key", "rows", "positive"):
            assert state[key] == wanted[key]
        np.testing.assert_allclose(state["predicted"], wanted["predicted"], rtol=1e-12)
        assert state["log_loss"] == pytest.approx(wanted["log_loss"], rel=1e-12)


def zip_segments(found, expected):
    names = sorted(expected.segments["region"])
    assert sorted(found.segments["region"]) == names
    return [(found.segments["region"][name], expected.segments["region"][name]) for name in names]


def test_few_scores_that_share_a_cell_are_kept_one_by_one(spark):
    from mlflow_caliber.spark import report_statistics

    # Five hundred scores of no grid, as isotonic regression gives, and more rows than are looked at one by one.
    frame = spark.range(30_000).selectExpr("0.3 + (id % 500) / 1e5 AS probability", "id % 3 = 0 AS label")
    found = report_statistics(frame, exact_up_to=500)
    assert found.statistics.exact
    assert len(found.statistics.to_dict()["key"]) == 500
    assert not report_statistics(frame, exact_up_to=499).statistics.exact


def test_windows(df, people):
    from mlflow_caliber.spark import windowed_statistics

    days = windowed_statistics(df, "at", every="day", segments=["region"])
    assert [day.date() for day in days] == [datetime.date(2026, 1, k) for k in (1, 2, 3)]
    for day, found in days.items():
        part = people[people["at"].dt.date == day.date()]
        expected = mlflow_caliber.reliability_report(
            part["label"], part["probability"], segments={"region": part["region"]}
        )
        same(found.report(), expected)
    assert sum(days.values()).report().n == N
    by_size = windowed_statistics(df.where("size is not null"), "size")
    assert list(by_size) == [1.0, 2.0]
    with pytest.raises(
        InvalidInputError, match=f"every row must have a value of 'size', got {people['size'].isna().sum()}"
    ):
        windowed_statistics(
            df.selectExpr("*", "if(isnan(size), null, size) AS gap").drop("size").withColumnRenamed("gap", "size"),
            "size",
        )


def test_times_as_segments_are_named_as_in_a_pandas_frame(spark):
    from mlflow_caliber.spark import report_statistics

    frame = spark.range(40).selectExpr(
        "id / 40.0 AS probability",
        "id % 2 AS label",
        "timestamp'2026-03-01 23:30:00Z' + make_interval(0,0,0,0,id) AS at",
    )
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        hours = report_statistics(frame.selectExpr("*", "date_trunc('DAY', at) AS day"), segments=["day"])
        rows = frame.selectExpr("*", "date_trunc('DAY', at) AS day").toPandas()
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    expected = ReportStatistics(segments=["day"]).update(
        rows["label"], rows["probability"].astype(float), segments={"day": rows["day"]}
    )
    sizes = [{name: part.n for name, part in each.segments["day"].items()} for each in (hours, expected)]
    assert sizes[0] == sizes[1] == {"2026-03-02 00:00:00": 24, "2026-03-03 00:00:00": 16}


def test_spans_of_time_as_segments_are_named_as_in_a_pandas_frame(spark):
    from mlflow_caliber.spark import report_statistics

    frame = spark.range(40).selectExpr(
        "id / 40.0 AS probability", "id % 2 AS label", "make_dt_interval(int(id % 2), 0, 0, 0.5) AS waited"
    )
    found = report_statistics(frame, segments=["waited"])
    rows = frame.toPandas()
    expected = ReportStatistics(segments=["waited"]).update(
        rows["label"], rows["probability"].astype(float), segments={"waited": rows["waited"]}
    )
    assert set(found.segments["waited"]) == set(expected.segments["waited"])
    assert "1 days 00:00:00.500000" in found.segments["waited"]


def test_columns_that_differ_in_case_alone(spark):
    from mlflow_caliber.spark import reliability_report

    spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        frame = spark.range(10).selectExpr("id / 10.0 AS p", "1 - id / 10.0 AS P", "id % 2 AS label")
        assert reliability_report(frame, y_proba="P").n == 10
    finally:
        spark.conf.unset("spark.sql.caseSensitive")
    with pytest.raises(InvalidInputError, match="y_proba: Spark takes 'p' and 'P' for one column: rename one"):
        reliability_report(frame, y_proba="P")


@pytest.mark.parametrize(
    ("column", "value", "how"),
    [
        ("probability", "NULL", {}),
        ("probability", "double('NaN')", {}),
        ("probability", "-0.25", {}),
        ("label", "2", {}),
        ("raw", "double('inf')", {"raw": "raw"}),
        ("w", "-1", {"sample_weight": "w"}),
    ],
)
def test_one_row_that_cannot_be_read_is_refused_in_the_words_of_arrays(df, people, column, value, how):
    from mlflow_caliber.spark import reliability_report

    spoiled = df.selectExpr("*", f"if(raw = {float(people['raw'].max())!r}D, {value}, {column}) AS bad")
    spoiled = spoiled.drop(column).withColumnRenamed("bad", column)
    number = {"NULL": np.nan, "double('NaN')": np.nan, "double('inf')": np.inf}.get(value)
    there = people.astype({column: float})
    there.loc[people["raw"].idxmax(), column] = float(value) if number is None else number
    given = {name: there[place] for name, place in how.items()}
    with pytest.raises(InvalidInputError) as expected:
        mlflow_caliber.reliability_report(there["label"], there["probability"], **given)
    with pytest.raises(InvalidInputError) as found:
        reliability_report(spoiled, **how)
    assert str(found.value) == str(expected.value)


def test_labels_that_are_text(df, people):
    from mlflow_caliber.spark import report_statistics

    named = df.selectExpr("probability", "if(label = 1, 'yes', 'no') AS label")
    assert report_statistics(named, classes=["no", "yes"]) == report_statistics(df)
    with pytest.raises(InvalidInputError, match=r"only the classes 'good' and 'yes', got 'no'\."):
        report_statistics(named, classes=["good", "yes"])
    with pytest.raises(InvalidInputError, match=r"y_true must be numbers, got values of type string\."):
        report_statistics(named)
    gaps = named.selectExpr("probability", "nullif(label, 'no') AS label")
    with pytest.raises(InvalidInputError, match=rf"got {(people['label'] == 0).sum()} missing of {N} values\."):
        report_statistics(gaps, classes=["no", "yes"])


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"y_proba": "score"}, "y_proba: the data must hold the column 'score' once, got probability, raw"),
        ({"segments": ["raw"]}, r"segments\['raw'\] must have at most 1000 distinct values, got about"),
        ({"segments": "region"}, "segments must be a list of column names"),
        ({"exact_up_to": -1}, "exact_up_to must be a whole number >= 0"),
        ({"y_proba": "at"}, "y_proba must be numbers, got values of type timestamp"),
    ],
)
def test_what_cannot_be_asked(df, how, sentence):
    from mlflow_caliber.spark import report_statistics

    with pytest.raises(InvalidInputError, match=sentence):
        report_statistics(df, **how)


def test_no_rows_and_no_frame(df):
    from mlflow_caliber.spark import report_statistics

    with pytest.raises(InvalidInputError, match=r"y_proba must hold at least one value, got none\."):
        report_statistics(df.where("raw > 2"))
    with pytest.raises(InvalidInputError, match="at least one positive value, got only zeros"):
        report_statistics(df.where("w = 0"), sample_weight="w")
    with pytest.raises(InvalidInputError, match="df must be a Spark DataFrame, got a list"):
        report_statistics([1, 2])


@pytest.mark.parametrize("name", ["isotonic", pytest.param("sigmoid", marks=pytest.mark.slow)])
def test_a_calibrator_is_that_of_the_rows(df, people, name):
    from mlflow_caliber.calibrators import make_calibrator
    from mlflow_caliber.spark import fit_calibrator, report_statistics

    at = np.linspace(0.0, 1.0, 101)
    expected = make_calibrator(name).fit(people["raw"].to_numpy(), people["label"].to_numpy()).predict(at)
    fitted = fit_calibrator(df, name, scores="raw")
    np.testing.assert_allclose(fitted.predict(at), expected, atol=1e-6)
    summed = report_statistics(df, raw="raw")
    np.testing.assert_allclose(fit_calibrator(summed, name).predict(at), expected, atol=1e-6)


def test_rows_of_a_segment_that_is_no_number_are_counted_once(spark):
    from mlflow_caliber.spark import report_statistics

    rows = [(1, 0.5 + 1e-9, float("nan"))] * 2 + [(0, 0.5 + 2e-9, float("nan"))] * 2 + [(0, 0.1, 1.0)]
    found = report_statistics(spark.createDataFrame(rows, "label int, probability double, s double"), segments=["s"])
    assert found.statistics.n == 5
    assert {name: part.n for name, part in found.segments["s"].items()} == {"(missing)": 4, "1": 1}


@pytest.mark.parametrize(
    ("column", "classes"),
    [
        ("label", [1, 0]),
        ("label", ["1", "0"]),
        ("label = 1", [True, False]),
        ("label + 1", [2, 1]),
        ("cast(label AS double)", ["1.0", "0.0"]),
        ("cast(label AS string)", ["1", "0"]),
    ],
)
def test_the_class_that_is_named_last_is_the_positive_one_whatever_the_type(spark, column, classes):
    from mlflow_caliber.spark import reliability_report

    label, p = [0, 0, 1, 0, 1, 1], [0.9, 0.7, 0.2, 0.6, 0.3, 0.75]
    frame = spark.createDataFrame(list(zip(label, p, strict=True)), "label int, probability double")
    found = reliability_report(frame.selectExpr(f"{column} AS label", "probability"), classes=classes)
    assert found.metrics["accuracy"] == pytest.approx(5 / 6)
    assert found.metrics["brier"] == pytest.approx(np.mean((np.array(p) - (1 - np.array(label))) ** 2))


def test_labels_that_are_no_class(spark):
    from mlflow_caliber.spark import reliability_report

    frame = spark.createDataFrame([(1, 0.2), (3, 0.4)], "label int, probability double")
    with pytest.raises(InvalidInputError, match="y_true must hold only the classes '2' and '1', got '3'"):
        reliability_report(frame, classes=[2, 1])


@pytest.mark.parametrize("value", ["array(1, 2)", "named_struct('a', 1)", "map('a', 1)"])
def test_rows_are_not_grouped_by_values_of_many_parts(spark, value):
    from mlflow_caliber.spark import reliability_report, windowed_statistics

    frame = spark.range(4).selectExpr("id % 2 AS label", "id / 4.0 AS probability", f"{value} AS g")
    with pytest.raises(InvalidInputError, match="segments: 'g' must hold single values, got values of type"):
        reliability_report(frame, segments=["g"])
    with pytest.raises(InvalidInputError, match="window: 'g' must hold single values"):
        windowed_statistics(frame, "g")


def test_windows_of_time_are_those_of_the_session(spark):
    from mlflow_caliber.spark import windowed_statistics

    frame = spark.range(4).selectExpr(
        "id % 2 AS label", "id / 4.0 AS probability", "timestamp'2024-03-30 23:30:00Z' AS at", "1 AS week"
    )
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        (day,) = windowed_statistics(frame, "at", every="day")
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert (day.date(), day.hour, str(day.tzinfo)) == (datetime.date(2024, 3, 31), 0, "Europe/Berlin")
    with pytest.raises(InvalidInputError, match="every: 'week' must hold times, got values of type int"):
        windowed_statistics(frame, "week", every="day")


def test_columns_may_have_names_like_ours(spark):
    from mlflow_caliber.spark import reliability_report

    frame = spark.range(40).selectExpr("id % 2 AS label", "id / 40.0 AS probability", "id % 3 AS caliber_group_0")
    found = reliability_report(frame, segments=["caliber_group_0"])
    assert [part.n for part in found.segments] == [14, 13, 13]
