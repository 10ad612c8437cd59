"""Files of every kind give the statistics of their rows, whatever the cut, and a bad row is named."""

from __future__ import annotations

import datetime
import decimal
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from mlflow_caliber.batches import DataFiles, ReportColumns, ReportStatistics, label_text, load_columns, scan_statistics
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.report import reliability_report


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    n = 5000
    p = rng.integers(0, 65, n) / 64  # few enough to be kept, and exact as float32 and as decimals
    return pd.DataFrame(
        {
            "y": (rng.random(n) < p).astype(np.int8),
            "p": p,
            "raw": np.sqrt(p),
            "w": rng.integers(0, 3, n),
            "region": rng.choice(["north", "south"], n),
        }
    )


@pytest.fixture(scope="module")
def expected(table):
    return ReportStatistics(segments=["region"]).update(table["y"], table["p"], segments={"region": table["region"]})


def same(found: ReportStatistics, expected: ReportStatistics) -> bool:
    """Counts are whole numbers, and sums of these scores exact, in any order of adding; the log loss is not."""
    states = [statistics.to_dict() for statistics in (found, expected)]
    losses = []
    for state in states:
        parts = [state["statistics"], *state["segments"].get("region", {}).values()]
        losses.append([part.pop("log_loss") for part in parts])
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    return states[0] == states[1]


def write(table, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pandas(table, preserve_index=False), path, row_group_size=700)
    else:
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, arrow.schema) as writer:
            writer.write_table(arrow, max_chunksize=900)


@pytest.mark.parametrize("kind", [".parquet", ".csv", ".arrow", ".feather"])
def test_one_file(table, expected, tmp_path, kind):
    write(table, tmp_path / f"scored{kind}")
    files = DataFiles(tmp_path / f"scored{kind}")
    shares = []
    assert same(scan_statistics(files, target="y", proba="p", segments=["region"], progress=shares.append), expected)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert (files.exceeds(4999), files.exceeds(5000)) == (True, False)


@pytest.mark.parametrize("kind", [".parquet", ".csv", ".arrow"])
def test_a_folder_with_keys_in_its_names(table, expected, tmp_path, kind):
    for region, rows in table.groupby("region"):
        for k, start in enumerate(range(0, len(rows), 1000)):
            part = rows.drop(columns="region").iloc[start : start + 1000]
            write(part, tmp_path / f"region={region}" / f"part-{k}{kind}")
    write(table.drop(columns="region").iloc[:0], tmp_path / "region=south" / f"part-9{kind}")
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "_temporary" / f"half{kind}").write_bytes(b"not finished")
    (tmp_path / "_SUCCESS").touch()
    files = DataFiles(tmp_path)
    assert files.columns == ("y", "p", "raw", "w", "region")
    assert same(scan_statistics(files, target="y", proba="p", segments=["region"]), expected)


def test_keys_of_whole_numbers_and_missing_ones(table, tmp_path):
    for key in ("1", "10", "__HIVE_DEFAULT_PARTITION__"):
        write(table, tmp_path / f"store={key}" / "a.parquet")
    files = DataFiles(tmp_path)
    assert sorted(files.keys_of(file)["store"] or 0 for file in files.files) == [0, 1, 10]
    found = scan_statistics(files, target="y", proba="p", segments=["store"])
    assert {value: part.n for value, part in found.segments["store"].items()} == dict.fromkeys(
        ["1", "10", "(missing)"], 5000
    )


@pytest.mark.parametrize(
    "kind",
    [pa.int8(), pa.int64(), pa.uint8(), pa.bool_(), pa.float32(), pa.float64(), pa.decimal128(3, 1), pa.string()],
    ids=str,
)
def test_labels_of_any_type(table, expected, tmp_path, kind):
    y = pa.array(table["y"]).cast(pa.int64())
    y = pa.array([decimal.Decimal(v) for v in table["y"].tolist()], kind) if pa.types.is_decimal(kind) else y.cast(kind)
    arrow = pa.table({"y": y, "p": table["p"], "region": table["region"].astype("category")})
    parquet.write_table(arrow, tmp_path / "a.parquet")
    assert same(scan_statistics(tmp_path, target="y", proba="p", segments=["region"]), expected)


@pytest.mark.parametrize("dictionary", [False, True])
def test_labels_by_name(table, expected, tmp_path, dictionary):
    names = pa.array(np.where(table["y"] == 1, "left", "stayed"))
    arrow = pa.table(
        {"y": names.dictionary_encode() if dictionary else names, "p": table["p"], "region": table["region"]}
    )
    parquet.write_table(arrow, tmp_path / "a.parquet")
    arguments = {"target": "y", "proba": "p", "segments": ["region"]}
    assert same(scan_statistics(tmp_path, classes=["stayed", "left"], **arguments), expected)
    with pytest.raises(InvalidInputError, match=r"a\.parquet, row 1: y must hold only 0, 1, got '(left|stayed)'"):
        scan_statistics(tmp_path, **arguments)


def test_whole_numbers_that_are_not_zero_and_one(table, expected, tmp_path):
    write(table.assign(y=table["y"].astype(int) + 1_000_001), tmp_path / "a.parquet")
    found = scan_statistics(tmp_path, target="y", proba="p", segments=["region"], classes=[1_000_001, 1_000_002])
    assert same(found, expected)


def test_what_is_not_quite_a_class_is_none(table, tmp_path):
    numbers = [1.0, 0.0, -0.0, 1e20, 0.5, 1e-7, 1.0000001, 0.9999999, np.float32(0.1)]
    spelled = ["1", "0", "0", "1" + "0" * 20, "0.5", "1e-07", "1.0000001", "0.9999999", "0.1"]
    assert [label_text(number) for number in numbers] == spelled
    exact = ["1.00", "0.50", "100", "1.00000000000000000000000000000000001"]
    assert [label_text(decimal.Decimal(each)) for each in exact] == ["1", "0.5", "100", exact[-1]]
    write(table.assign(y=np.where(table["y"] == 1, 0.9999999, 0.0)), tmp_path / "a.parquet")
    columns = ReportColumns("y", ("p",), (), (), None)
    for read in (
        lambda: scan_statistics(tmp_path, target="y", proba="p"),
        lambda: load_columns(DataFiles(tmp_path), columns, ("0", "1")),
    ):
        with pytest.raises(InvalidInputError, match=r"y must hold only 0, 1, got '0\.9999999'"):
            read()
    narrow = pa.array(np.where(table["y"] == 1, 0.9, 0.1).astype(np.float32))
    parquet.write_table(pa.table({"y": narrow, "p": table["p"]}), tmp_path / "a.parquet")
    found = scan_statistics(tmp_path, target="y", proba="p", classes=[0.1, 0.9])
    assert found.report().metrics["prevalence"] == pytest.approx(table["y"].mean())


@pytest.mark.parametrize("kind", [pa.float32(), pa.decimal128(8, 6)], ids=str)
def test_probabilities_of_any_type(table, expected, tmp_path, kind):
    arrow = pa.table({"y": table["y"], "p": pa.array(table["p"]).cast(kind), "region": table["region"]})
    parquet.write_table(arrow, tmp_path / "a.parquet")
    assert same(scan_statistics(tmp_path, target="y", proba="p", segments=["region"]), expected)


def test_both_classes_raw_scores_and_weights(table, tmp_path):
    write(table.assign(q=1.0 - table["p"]), tmp_path / "a.parquet")
    found = scan_statistics(tmp_path, target="y", proba=["q", "p"], raw="raw", weight="w")
    expected = ReportStatistics(raw=True)
    expected.update(table["y"], table["p"], raw=table["raw"], sample_weight=table["w"])
    assert same(found, expected)
    assert found.raw.to_dict()["rows"] == expected.raw.to_dict()["rows"]


def test_segments_of_any_type(table, tmp_path):
    day = [datetime.date(2025, 1, 1 + k % 3) if k % 7 else None for k in range(len(table))]
    number = pa.array([None if k % 5 == 0 else k % 4 for k in range(len(table))])
    arrow = pa.table({"y": table["y"], "p": table["p"], "day": day, "number": number, "truth": table["y"] == 1})
    parquet.write_table(arrow, tmp_path / "a.parquet")
    found = scan_statistics(tmp_path, target="y", proba="p", segments=["day", "number", "truth"])
    frame = pd.read_parquet(tmp_path / "a.parquet")
    columns = {name: frame[name] for name in ("day", "number", "truth")}
    rows = ReportStatistics(segments=list(columns)).update(frame["y"], frame["p"], segments=columns)
    counts = [
        {column: {value: part.n for value, part in parts.items()} for column, parts in statistics.segments.items()}
        for statistics in (found, rows)
    ]
    assert counts[0] == counts[1]
    assert counts[0]["number"].keys() == {"0", "1", "2", "3", "(missing)"}


def changed(table, column, row, value):
    table = table.astype({"y": object, "region": object}) if column == "y" else table.copy()
    table[column] = table[column].astype(object)
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("p", None, r"row 4322: y_proba must be finite, got 1 NaN"),
        ("p", 1.5, r"row 4322: y_proba must lie in \[0, 1\], got a maximum of 1.5"),
        ("y", None, r"row 4322: y must hold only 0, 1, got 'None'"),
        ("y", 2, r"row 4322: y must hold only 0, 1, got '2'"),
        ("w", -1, r"row 4322: sample_weight must not be negative"),
    ],
)
@pytest.mark.parametrize("kind", [".parquet", ".csv"])
def test_a_bad_row_is_named(table, tmp_path, column, value, sentence, kind):
    rows = changed(table, column, 4321, value)
    write(rows.drop(columns="region"), tmp_path / f"part-1{kind}")
    write(table.drop(columns="region"), tmp_path / f"part-0{kind}")
    with pytest.raises(InvalidInputError, match=rf"^part-1\{kind}, {sentence}"):
        scan_statistics(tmp_path, target="y", proba="p", weight="w")


def test_what_no_single_row_is_to_blame_for(table, tmp_path):
    write(table.assign(region=np.arange(len(table))), tmp_path / "a.parquet")
    with pytest.raises(InvalidInputError, match=r"^a\.parquet: segments\['region'\] must have at most 1000"):
        scan_statistics(tmp_path, target="y", proba="p", segments=["region"])


def test_probabilities_that_are_no_numbers(table, tmp_path):
    write(table, tmp_path / "a.parquet")
    with pytest.raises(InvalidInputError, match=r"y_proba must be numbers, got values of type (large_)?string"):
        scan_statistics(tmp_path, target="y", proba="region")


def test_folders_that_cannot_be_read(table, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="got the folder 'empty' without one"):
        DataFiles(tmp_path / "empty")
    write(table, tmp_path / "mixed" / "a.parquet")
    write(table, tmp_path / "mixed" / "b.csv")
    with pytest.raises(InvalidInputError, match=r"files of one kind, got \.csv and \.parquet"):
        DataFiles(tmp_path / "mixed")
    write(table, tmp_path / "lake" / "all" / "of" / "it" / "a.parquet")
    for mark in ("_delta_log", ".hoodie", "metadata"):
        (tmp_path / "lake" / "all" / "of" / mark).mkdir()
        (tmp_path / "lake" / "all" / "of" / mark / "v1.metadata.json").touch()
        for folder in ("lake/all/of", "lake"):
            with pytest.raises(InvalidInputError, match="got 'of', a Delta, Iceberg or Hudi table, of whose files not"):
                DataFiles(tmp_path / folder)
        shutil.rmtree(tmp_path / "lake" / "all" / "of" / mark)
    write(table, tmp_path / "keys" / "day=1" / "a.parquet")
    write(table, tmp_path / "keys" / "b.parquet")
    with pytest.raises(InvalidInputError, match="must lie in folders of the same keys"):
        DataFiles(tmp_path / "keys")


def test_links_to_folders_are_followed_once_and_names_may_be_upper_case(table, tmp_path):
    write(table, tmp_path / "elsewhere" / "b.parquet")
    (tmp_path / "elsewhere" / "b.parquet").rename(tmp_path / "elsewhere" / "B.PARQUET")
    write(table, tmp_path / "data" / "a.parquet")
    for name, target in (("link", "elsewhere"), ("again", "elsewhere"), ("circle", "data")):
        (tmp_path / "data" / name).symlink_to(tmp_path / target)
    files = DataFiles(tmp_path / "data")
    assert [files.name_of(each) for each in files.files] == ["a.parquet", "again/B.PARQUET"]
    found = scan_statistics(files, target="y", proba="p").report()
    assert found.n == 2 * len(table)


@pytest.mark.parametrize("value", ["--5", "1" * 30, "٣", "1.5"])
def test_keys_that_are_no_whole_numbers_are_text(table, tmp_path, value):
    write(table, tmp_path / f"day={value}" / "a.parquet")
    found = scan_statistics(tmp_path, target="y", proba="p", segments=["day"]).report()
    assert [each.value for each in found.segments] == [value]


def test_a_column_that_is_there_twice_is_told(tmp_path):
    pq = pa.table([[0, 1], [0.2, 0.7], [0.3, 0.8]], names=["y", "p", "p"])
    parquet.write_table(pq, tmp_path / "a.parquet")
    with pytest.raises(InvalidInputError, match=r"a\.parquet must have each column once, got 'p' 2 times"):
        scan_statistics(tmp_path, target="y", proba="p")


def test_lines_of_old_macintosh_files_are_counted(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"y,p\r" + b"1,0.5\r" * 10)
    assert DataFiles(tmp_path / "a.csv").exceeds(8)


def test_files_that_cannot_be_read(table, tmp_path):
    write(table, tmp_path / "a.parquet")
    write(table.drop(columns="p"), tmp_path / "b.parquet")
    with pytest.raises(InvalidInputError, match=r"b\.parquet must have the column 'p'; there are y, raw"):
        scan_statistics(tmp_path, target="y", proba="p")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidInputError, match=r"DATA must be a readable \.parquet file, got 'b\.parquet'"):
        scan_statistics(tmp_path, target="y", proba="p")
    with pytest.raises(InvalidInputError, match="proba must name the column of one or of both of two classes, got 3"):
        scan_statistics(tmp_path / "a.parquet", target="y", proba=["p", "p", "p"])


# The peak of the command's own memory: getrusage would begin with that of the process that started it.
COMMAND = (
    "import atexit, pathlib, re, sys\n"
    "status = pathlib.Path('/proc/self/status')\n"
    "atexit.register(lambda: print(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1], file=sys.stderr))\n"
    "from mlflow_caliber.cli import main\n"
    "main()"
)
ROWS = 20_000_000


@pytest.mark.slow
def test_memory_is_bounded_and_time_is_that_of_reading(tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "scored.parquet"
    with parquet.ParquetWriter(file, pa.schema([("p", pa.float64()), ("y", pa.int8())])) as writer:
        for _ in range(20):
            p = rng.beta(0.7, 1.3, ROWS // 20)
            writer.write_table(pa.table({"p": p, "y": (rng.random(p.size) < p).astype(np.int8)}))

    def seconds(function) -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    def read() -> None:
        for _ in parquet.ParquetFile(file).iter_batches(columns=["p", "y"]):
            pass

    ratios = [seconds(lambda: scan_statistics(file, target="y", proba="p")) / seconds(read) for _ in range(5)]
    # (The best pair of five: on a busy machine the others measure their neighbours.)
    assert min(ratios) < 4.0, ratios
    options = ["report", str(file), "--target", "y", "--proba", "p", "--json"]
    done = subprocess.run([sys.executable, "-c", COMMAND, *options], capture_output=True, text=True, check=True)
    assert int(done.stderr.split()[-1]) / 1024 < 400
    assert f'"n": {ROWS}' in done.stdout
    assert '"exact": false' in done.stdout


def test_a_missing_label_is_no_class_and_long_numbers_are_kept_apart(tmp_path):
    file = tmp_path / "labels.parquet"
    parquet.write_table(pa.table({"y": pa.array([None, "None"], pa.string()), "p": [0.1, 0.9]}), file)
    with pytest.raises(InvalidInputError, match="y must hold only x, None"):
        scan_statistics(file, target="y", proba="p", classes=["x", "None"])
    parquet.write_table(pa.table({"y": [2**53, 2**53 + 1, 2**53 + 1], "p": [0.1, 0.9, 0.8]}), file)
    found = scan_statistics(file, target="y", proba="p", classes=[str(2**53), str(2**53 + 1)])
    assert found.report().metrics["accuracy"] == 1.0


def test_certainty_that_was_wrong_is_said_and_not_infinite():
    statistics = ReportStatistics().update([0, 1, 1, 0] * 2, [0.0] * 4 + [1.0] * 4)
    report = statistics.report()
    assert "infinite" in report.not_computed["spiegelhalter_z"]
    json.dumps(report.to_dict(), allow_nan=False)


def test_nothing_is_left_out_without_a_word(table, tmp_path, monkeypatch):
    write(table, tmp_path / "data" / "a.parquet")
    (tmp_path / "data" / "b.parquet").symlink_to(tmp_path / "nowhere.parquet")
    with pytest.raises(InvalidInputError, match=r"got 'b\.parquet', a link to nothing"):
        DataFiles(tmp_path / "data")
    (tmp_path / "data" / "b.parquet").unlink()
    (tmp_path / "data" / "b.csv.gz").touch()
    with pytest.raises(InvalidInputError, match=r"no compressed files, got 'b\.csv\.gz': unpack it first"):
        DataFiles(tmp_path / "data")
    (tmp_path / "data" / "b.csv.gz").unlink()
    locked = tmp_path / "data" / "locked"
    locked.mkdir()
    scandir = os.scandir

    def forbidden(path):
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(InvalidInputError, match=r"a folder that can be read, got .*locked': Permission denied"):
        DataFiles(tmp_path / "data")


def test_a_part_of_a_lake_is_no_folder_of_files(table, tmp_path):
    write(table, tmp_path / "lake" / "day=1" / "a.parquet")
    (tmp_path / "lake" / "_delta_log").mkdir()
    for path in ("lake/day=1", "lake/day=1/a.parquet"):
        with pytest.raises(InvalidInputError, match="got 'lake', a Delta, Iceberg or Hudi table"):
            DataFiles(tmp_path / path)


@pytest.mark.parametrize("columns", [None, ["y", "region"]])
def test_a_folders_key_goes_before_a_column_of_its_name(table, tmp_path, columns):
    write(table, tmp_path / "region=east" / "a.parquet")
    (batch,) = DataFiles(tmp_path).batches(columns)
    assert set(batch.rows.column("region").to_pylist()) == {"east"}
    assert batch.rows.schema.names.count("region") == 1


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_values_of_many_parts_are_no_segments_and_no_labels(table, tmp_path, kind):
    small = pa.table(
        {"y": [0, 1], "p": [0.2, 0.7], "parts": [[1], [2]], "half": np.array([0.5, 1.5], dtype=np.float16)}
    )
    write_table = parquet.write_table if kind == "parquet" else feather.write_feather
    write_table(small, tmp_path / f"a.{kind}")
    for how in ({"target": "y", "segments": ["parts"]}, {"target": "parts"}):
        with pytest.raises(InvalidInputError, match="parts must hold single values, got values of type list"):
            scan_statistics(tmp_path, proba="p", **how)
    found = scan_statistics(tmp_path, target="y", proba="p", segments=["half"]).report()
    assert [each.value for each in found.segments] == ["0.5", "1.5"]


def test_arrow_files_are_counted_and_read_by_column(table, tmp_path):
    whole = pa.Table.from_pandas(table)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as out, pa.ipc.new_file(out, whole.schema) as writer:
        writer.write_table(whole, 500)
    files = DataFiles(tmp_path / "a.arrow")
    assert files.exceeds(4_999)
    assert not files.exceeds(5_000)
    read = pa.Table.from_batches([batch.rows for batch in files.batches(["w", "y"])])
    assert read.select(["w", "y"]).equals(whole.select(["w", "y"]))


@pytest.mark.parametrize("weight", [2.0, 0.1, 1e-100])
def test_weights_that_are_all_alike_say_nothing(table, tmp_path, weight):
    data = table.assign(w=np.where(table["w"] == 0, 0.0, weight))
    write(data, tmp_path / "a.parquet")
    kept = data[data["w"] > 0.0]
    expected = reliability_report(kept["y"], kept["p"], segments=kept[["region"]])
    found = scan_statistics(tmp_path, target="y", proba="p", weight="w", segments=["region"]).report()
    assert not found.weighted
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-9)
    for one, other in zip(found.segments, expected.segments, strict=True):
        assert one.metrics == pytest.approx(other.metrics, rel=1e-9)


@pytest.mark.parametrize("seed", [0, 7, 9, 10, 11])  # the last four once had more rows than a number can hold
def test_weights_over_many_powers_of_ten(seed):
    rng = np.random.default_rng(seed)
    p = rng.random(2_000)
    y, weight = (rng.random(2_000) < p).astype(int), np.exp(rng.uniform(0.0, np.log(1e9), 2_000))
    statistics = ReportStatistics().update(y, p.round(2), sample_weight=weight).report()
    rows = reliability_report(y, p.round(2), sample_weight=weight)
    for report in (statistics, rows):
        low, high = report.intervals["aurc"]
        assert 0.0 <= low <= report.metrics["aurc"] <= high <= 1.0
