"""Files in and out."""

from __future__ import annotations

import json

import pytest

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store import export_events, import_article_buffer, import_events


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_log_survives_the_journey(store, tmp_path, said, happened, suffix):
    source = store.stream("churn", "3", classes=["no", "yes"], positive="no")
    label = {"prediction": "yes"}
    source.record([said("a", probabilities=[0.3, 0.7], features={"x": [1, None], "t": "\N{SNOWMAN}"}, **label)])
    source.record([happened("b", "no"), said("b", segment="eu", abstained=True, reason="r", **label)])
    source.record([happened("b", "yes", 300.0, "audit")])
    file = tmp_path / f"log.{suffix}"
    assert export_events(source, file) == 4
    assert import_events(store, file).receipt.duplicates == 4
    report = import_events(store, file, model="copy", version="1")
    assert (report.receipt.recorded, report.receipt.corrections, report.bad_lines) == (4, 1, ())
    copy = store.stream("copy", "1")
    assert (copy.classes, copy.positive) == (("no", "yes"), "no")
    assert [entry.event for entry in copy.log()] == [entry.event for entry in source.log()]
    assert len(copy.open_reviews()) == 1


def test_bad_lines_are_reported_and_the_rest_goes_on(stream, store, tmp_path, said):
    stream.record_predictions([said("a"), said("b")])
    file = tmp_path / "log.jsonl"
    export_events(stream, file)
    lines = file.read_text().splitlines()
    lines[2:2] = ["{", "[1]", '{"kind": "rumour"}', '{"kind": "outcome", "outcome": 1}', ""]
    file.write_text("\n".join(lines))
    report = import_events(store, file)
    assert report.receipt.recorded == 2
    assert [(line.number, line.sentence) for line in report.bad_lines] == [
        (3, "The line must be a JSON object, got b'{\\n'."),
        (4, "The line must be a JSON object, got [1]."),
        (5, "kind must be one of prediction, outcome, got 'rumour'."),
        (
            6,
            "The outcome must have prediction_id, outcome, observed_at, source, "
            "and lacks prediction_id, observed_at, source.",
        ),
    ]


def test_files_that_are_something_else(store, tmp_path):
    for name, content, sentence in (
        ("log.csv", b"", "must end in .parquet or .jsonl, got 'log.csv'"),
        ("log.jsonl", b"", "must be a JSON object, got b''"),
        ("log.jsonl", b'{"format": "other"}', r"must be caliber-events of version 1, got \('other', None\)"),
        ("log.parquet", b"PAR?", "cannot be read as Parquet"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInputError, match=sentence):
            import_events(store, tmp_path / name)
    with pytest.raises(InvalidInputError, match="cannot be read: No such file or directory"):
        import_events(store, tmp_path / "nothing.jsonl")
    assert store.streams() == ()


def test_the_articles_buffer(store, tmp_path):
    good = [{"sport": "nba", "pred": 0.71, "outcome": 1, "ts": 1_700_000_000}]
    good += [{"sport": "nfl", "pred": 0.2, "outcome": False, "ts": "2026-01-02T03:04:05Z"}] * 2
    bad = ["nonsense", '{"sport": "nba", "pred": NaN, "outcome": 1, "ts": 1}']
    bad += [json.dumps({**good[0], "outcome": 2}), json.dumps({**good[0], "ts": "soon"})]
    file = tmp_path / "buffer.jsonl"
    file.write_text("\n".join([*map(json.dumps, good), *bad]))
    report = import_article_buffer(store, file, "wins", "1")
    assert report.receipt.recorded == 6  # equal lines are different games
    assert [(line.number, line.sentence) for line in report.bad_lines] == [
        (4, "The line must be a JSON object, got b'nonsense\\n'."),
        (5, "pred must be a number in [0, 1], got nan."),
        (6, "outcome must be one of the classes '0', '1', got 2."),
        (7, "ts must be seconds since 1970 or ISO 8601, got 'soon'."),
    ]
    table = store.stream("wins", "1").rows()
    assert list(table["segment"]) == ["nba", "nfl", "nfl"]
    assert list(table["prediction"]) == ["1", "0", "0"]
    assert list(table["outcome"]) == ["1", "0", "0"]
    assert list(table["predicted_at"]) == [1_700_000_000.0, 1_767_323_045.0, 1_767_323_045.0]
    file.write_text(file.read_text() + "\n" + json.dumps(good[0]))
    again = import_article_buffer(store, file, "wins", "1").receipt
    assert (again.recorded, again.duplicates) == (2, 6)


def test_numbers_that_no_float_can_hold(store, tmp_path, said, happened):
    good = {"sport": "nba", "pred": 0.71, "outcome": 1, "ts": 1_700_000_000}
    file = tmp_path / "buffer.jsonl"
    huge = [{**good, key: 10**400} for key in ("ts", "pred", "outcome", "sport")]
    lines = [good, *huge, {**good, "ts": "0001-01-01T00:00:00+23:59"}, good]
    file.write_text("\n".join([*map(json.dumps, lines), '{"ts": 1' + "0" * 5_000 + "}"]))
    report = import_article_buffer(store, file, "wins", "1")
    assert report.receipt.recorded == 4
    assert [line.number for line in report.bad_lines] == [2, 3, 4, 5, 6, 8]
    stream = store.stream("churn", "1", classes=[0, 1])
    stream.record([said("a"), happened("a"), said("b")])
    file = tmp_path / "log.jsonl"
    export_events(stream, file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["predicted_at"] = rows[2]["observed_at"] = 10**400
    file.write_text("\n".join(map(json.dumps, rows)))
    receipt = import_events(store, file, "copy", "1").receipt
    assert (receipt.recorded, len(receipt.refused)) == (1, 2)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_place_that_cannot_be_written(stream, tmp_path, suffix):
    with pytest.raises(InvalidInputError, match="cannot be written: "):
        export_events(stream, tmp_path / "nope" / f"x.{suffix}")


def test_a_header_that_does_not_fit(store, tmp_path):
    header = {"format": "caliber-events", "format_version": 1, "model": "churn", "version": "1"}
    for changed, sentence in (
        ({"classes": 5}, "classes must name at least two classes, got 5"),
        ({"model": 5}, "model must be text, got 5"),
    ):
        (tmp_path / "log.jsonl").write_text(json.dumps({**header, **changed}))
        with pytest.raises(InvalidInputError, match=sentence):
            import_events(store, tmp_path / "log.jsonl")
