"""The backtest: who knows what when, and what is measured."""

from __future__ import annotations

import numpy as np
import pytest

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import log_loss, roc_auc
from mlflow_caliber.online import HedgedRecalibrator, backtest


class Diary:
    """A recalibrator that only writes down what happens to it."""

    def __init__(self):
        self.lines = []
        self.n = 0

    def forecast(self, p, segment):
        self.n += 1
        self.lines.append(("forecast", self.n - 1, segment))
        return type("One", (), {"served": p, "number": self.n - 1})

    def update(self, forecast, y):
        self.lines.append(("outcome", forecast.number, y))


def diary(n, **options):
    lines = backtest(Diary(), np.full(n, 0.5), np.arange(n) % 2, **options).recalibrator.lines
    return "".join(f"{'f' if kind == 'forecast' else 'o'}{number} " for kind, number, _ in lines).strip()


@pytest.mark.parametrize(
    ("delay", "order"),
    [
        (0, "f0 o0 f1 o1 f2 o2 f3 o3"),
        (1, "f0 f1 o0 f2 o1 f3 o2"),
        (np.array([3, 0, 1, 0]), "f0 f1 o1 f2 f3 o0 o2 o3"),
        ([2, 1, 0, 7], "f0 f1 f2 o0 o1 o2 f3"),
        ([-1, np.nan, np.inf, 0], "f0 f1 f2 f3 o3"),
        (10**15, "f0 f1 f2 f3"),
    ],
)
def test_outcomes_come_when_they_are_due(delay, order):
    assert diary(4, delay=delay) == order


def test_labels_and_segments_reach_their_rows():
    end = backtest(Diary(), [0.1, 0.9], [1, 0], segments=["a", None]).recalibrator
    assert end.lines == [("forecast", 0, "a"), ("outcome", 0, 1), ("forecast", 1, None), ("outcome", 1, 0)]
    end = backtest(Diary(), [0.1, 0.9], [1, 0], segments="all").recalibrator
    assert end.lines[0] == ("forecast", 0, "all")


def test_the_recalibrator_that_was_handed_in_stays_as_it_was(recalibrator):
    before = recalibrator.to_dict()
    result = backtest(recalibrator, [0.2, 0.8] * 100, [0, 1] * 100)
    assert recalibrator.to_dict() == before
    assert result.recalibrator.n_learned == 200


def test_what_is_measured(stream):
    p, y, segments = stream
    result = backtest(HedgedRecalibrator(), p, y, segments=segments)
    assert result.metrics["raw"]["log_loss"] == log_loss(y, p)
    assert result.metrics["served"]["roc_auc"] == roc_auc(y, result.served)
    assert set(result.metrics["served"]) == {"log_loss", "brier", "ece", "roc_auc"}
    total = y.size * (result.metrics["served"]["log_loss"] - result.metrics["raw"]["log_loss"])
    assert result.cumulative_excess[-1] == pytest.approx(total)
    assert result.cumulative_excess[-1] == pytest.approx(result.recalibrator.excess_loss)
    assert result.moments[-1] == 700
    assert set(result.weights) == {*HedgedRecalibrator.EXPERTS, "passive"}
    assert all(weights.shape == result.moments.shape for weights in result.weights.values())
    assert result.weights["isotonic"][-1] == result.recalibrator.weights["isotonic"]


def test_each_answer_is_made_before_its_outcome_is_known(stream):
    p, y, _ = stream
    whole = backtest(HedgedRecalibrator(), p, y).served
    flipped = np.append(y[:400], 1 - y[400:])
    np.testing.assert_array_equal(backtest(HedgedRecalibrator(), p, flipped).served[:401], whole[:401])


def test_one_class_has_no_auc(recalibrator):
    result = backtest(recalibrator, [0.5, 0.6], [1, 1])
    assert set(result.metrics["raw"]) == {"log_loss", "brier", "ece"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"delay": 0.5}, "delay must be a whole number of forecasts, got 0.5"),
        ({"delay": [1, 2]}, "delay must be one number, or one for each of 3 rows"),
        ({"delay": "late"}, "delay must be one number, or one for each of 3 rows, got 'late'"),
        ({"segments": ["a"]}, "segment must have one value a row, got 1 values for 3 rows"),
    ],
)
def test_input_that_cannot_be_used(options, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        backtest(HedgedRecalibrator(), [0.1, 0.2, 0.3], [0, 1, 0], **options)


def test_arrays_that_cannot_be_used():
    with pytest.raises(InvalidInputError, match="same length"):
        backtest(HedgedRecalibrator(), [0.1, 0.2], [0])
    with pytest.raises(InvalidInputError, match="y_true must hold only 0 and 1"):
        backtest(HedgedRecalibrator(), [0.1, 0.2], [0, 2])
