"""Streams and their classes, and the audit trail."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store import open_store
from mlflow_caliber.store._schema import streams


def test_a_stream_is_found_again(uri):
    with open_store(uri) as store:
        created = store.stream("churn", "3", classes=["no", "yes"], positive="no")
        store.stream("churn", "4")
    with open_store(uri) as store:
        assert [(s.model, s.version, s.classes, s.positive) for s in store.streams()] == [
            ("churn", "3", ("no", "yes"), "no"),
            ("churn", "4", None, None),
        ]
        assert store.stream("churn", "3").classes == created.classes
        assert store.stream("churn", "3", ["no", "yes"], "no").positive == "no"


@pytest.mark.parametrize(
    ("classes", "positive", "sentence"),
    [
        (["yes", "no"], None, "has the classes 'no', 'yes' with 'yes' positive, got 'yes', 'no' with 'no' positive"),
        (["no", "yes"], "no", "got 'no', 'yes' with 'no' positive"),
        (["no", "yes", "maybe"], None, "got 'no', 'yes', 'maybe'"),
        (["no"], None, r"classes must name at least two classes, got \['no'\]"),
        ("no", None, "classes must name at least two classes, got 'no'"),
        ([1, "1"], None, "classes must be distinct as text, got 1, 1"),
        (["no", ""], None, "each of classes must not be empty"),
        (None, "yes", "positive must come with classes, got 'yes' alone"),
        (["no", "yes"], "maybe", "positive must be one of the classes 'no', 'yes', got 'maybe'"),
        (["a", "b", "c"], "a", "positive is for two classes, got 'a' and 3 classes"),
    ],
)
def test_classes_that_do_not_fit(store, classes, positive, sentence):
    store.stream("churn", "3", classes=["no", "yes"])
    with pytest.raises(InvalidInputError, match=sentence):
        store.stream("churn", "3", classes, positive)


def test_classes_may_come_later_if_they_name_what_was_recorded(store, said, happened):
    stream = store.stream("churn", "3")
    stream.record([said(prediction="yes"), happened(outcome="no")])
    with pytest.raises(InvalidInputError, match="has recorded the label 'no', which is not among 'yes', 'maybe'"):
        store.stream("churn", "3", classes=["yes", "maybe"])
    store.stream("churn", "3", classes=["no", "yes"])
    assert stream.record_outcomes([happened(outcome="maybe")]).refused, "who opened it before knows them, too"


@pytest.mark.parametrize("name", ["", "a\0b", 3, "x" * 201, "a/b", "/", ".", ".."])
def test_names_that_cannot_be(store, name):
    with pytest.raises(InvalidInputError, match="model must"):
        store.stream(name, "1")
    with pytest.raises(InvalidInputError, match="version must"):
        store.stream("churn", name)
    assert store.streams() == ()


def test_names_that_once_could_be_are_read_on(store, said):
    store.stream("old", "1", classes=["no", "yes"])
    with store._database.write() as connection:
        connection.execute(sa.update(streams).values(model="a/b", version=".."))
    assert store.stream("a/b", "..", classes=["no", "yes"]).record([said(prediction="yes")]).recorded == 1
    assert store.find_stream("a/b", "..").log_end() == 1


def test_the_audit_trail_only_grows(store):
    for number in range(3):
        store.audit("mia", "export", "churn/3", {"rows": number})
    assert [entry.detail["rows"] for entry in store.audit_trail(limit=2)] == [2, 1]
    assert store.audit_trail()[0].at == 1_000.0
    with pytest.raises(InvalidInputError, match="actor must not be empty"):
        store.audit("", "export", "churn/3", {})
