"""The two commands, where they cannot work."""

from __future__ import annotations

import gc

import pytest

from commands import run


@pytest.fixture(autouse=True)
def same_collector():
    """The commands set it for their whole process, which is ours here."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


KAFKA = ("--bootstrap", "127.0.0.1:1", "--starting", "0.2")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "A store must be named by --store"),
        (("--store", "sqlite:///x.db"), "Kafka at 127.0.0.1:1 does not answer: "),
        (("--store", "mysql://x"), "A store's URI must look like"),
        (("--store", "sqlite:///x.db", "--property", "group.id=x"), "The property group.id is set by mlflow-caliber"),
        (("--store", "sqlite:///x.db", "--property", "x"), "--property number 1 does not"),
        (("--store", "sqlite:///x.db", "--property", "acks=many"), "Kafka's properties cannot be used: "),
        (("--store", "sqlite:///x.db", "--dead-letters", "inference-events"), "dead_letters must be another topic"),
        (("--batch", "0"), "--batch"),
    ],
)
def test_consume_says_what_is_wrong(options, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("consume", *KAFKA, *options)
    assert result.exit_code == 2
    assert why in result.stderr


def test_score_says_what_is_wrong(tmp_path):
    result = run("score", *KAFKA, "--model-uri", tmp_path / "nothing")
    assert result.exit_code == 2
    assert "nothing" in result.stderr


def test_without_the_library_it_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", None)
    result = run("consume", *KAFKA, "--store", f"sqlite:///{tmp_path}/x.db")
    assert result.exit_code == 2
    assert "pip install 'mlflow-caliber[kafka]'" in result.stderr
