"""The snapshot: the map of one instant, as close as it says, monotone to the last bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_caliber.exceptions import InvalidInputError, StateError
from mlflow_caliber.online import HedgedRecalibrator, RollingRecalibrator, SnapshotMap, backtest

CLOSE = 1e-3
GRID = np.sort(np.concatenate((np.linspace(0, 1, 2000), 10.0 ** -np.arange(1, 14), 1 - 10.0 ** -np.arange(1, 14))))


def gap(recalibrator, segment=None, grid=GRID):
    exact = [recalibrator.predict(p, segment) for p in grid]
    return np.abs(recalibrator.snapshot().predict(grid, segment=segment) - exact).max()


@pytest.mark.parametrize("segment", [None, "north", "south", "west"])
def test_it_is_the_map(trained, segment):
    assert gap(trained, segment) <= CLOSE


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=12)
def test_it_is_the_map_of_any_stream(seed):
    rng = np.random.default_rng(seed)
    p = np.round(rng.beta(*rng.uniform(0.1, 3, 2), 900), rng.integers(1, 9))
    y = (rng.random(900) < 0.5 + 0.5 * np.sin(rng.uniform(1, 20) * p)).astype(int)
    end = backtest(HedgedRecalibrator(), p, y, segments=rng.choice(["a", "b"], 900)).recalibrator
    assert gap(end, "a", np.sort(rng.random(800))) <= CLOSE
    assert gap(end, None, np.sort(rng.random(800) ** 6)) <= CLOSE


@pytest.mark.parametrize("calibrator", ["isotonic", "beta", "segmented", "auto", "venn_abers"])
def test_it_is_the_map_of_a_rolling_fit(calibrator, stream):
    p, y, segments = stream
    rolling = RollingRecalibrator(calibrator)
    assert gap(rolling) <= CLOSE
    end = backtest(rolling, p, y, segments=segments).recalibrator
    # Scores of the window itself may sit on a jump.
    assert gap(end, grid=np.sort(np.random.default_rng(1).random(1500))) <= CLOSE
    assert gap(end, "north", grid=np.sort(np.random.default_rng(2).random(1500))) <= CLOSE


def test_it_never_decreases_to_the_last_bit(trained):
    snapshot = trained.snapshot()
    scores = np.sort(np.random.default_rng(0).random(200_000))
    for segment in (None, "north"):
        assert np.diff(snapshot.predict(scores, segment=segment)).min() >= 0.0


def test_it_is_compact(trained):
    assert len(json.dumps(trained.snapshot().to_dict())) < 25_000
    assert len(json.dumps(HedgedRecalibrator().snapshot().to_dict())) < 8_000


def test_rows_get_the_map_of_their_segment(trained):
    snapshot = trained.snapshot()
    assert snapshot.segments_ == ["north", "south", "west"] or set(snapshot.segments_) == {"north", "south", "west"}
    column = ["north", None, "unknown", "south", float("nan")]
    answers = snapshot.predict([0.4] * 5, segment=column)
    pooled, north = snapshot.predict([0.4])[0], snapshot.predict([0.4], segment="north")[0]
    assert answers[0] == north != pooled
    assert answers[1] == answers[2] == answers[4] == pooled
    assert snapshot.n_samples_ == trained.n_learned


def test_the_saved_form_gives_the_same_bits(trained):
    snapshot = trained.snapshot()
    again = SnapshotMap.from_dict(json.loads(json.dumps(snapshot.to_dict())))
    assert again.to_dict() == snapshot.to_dict()
    assert snapshot.to_dict()["name"] == SnapshotMap.name
    np.testing.assert_array_equal(again.predict(GRID, segment="west"), snapshot.predict(GRID, segment="west"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"logit": [1.0, 0.0], "probability": [0.1, 0.2]}, "'logit' must be increasing knots, one for each"),
        ({"logit": [0.0], "probability": [0.1, 0.2]}, "'logit' must be increasing knots, one for each"),
        ({"logit": [], "probability": []}, "'logit' must be increasing knots, one for each"),
        ({"logit": [0.0, 1.0], "probability": [0.2, 0.1]}, "'probability' must be a list that never decreases"),
        ({"logit": [0.0, 1.0], "probability": [0.2, 1.1]}, r"'probability' must be a number in \[0, 1\], got 1.1"),
        ({"logit": [0.0, 1.0]}, "must hold 'probability', which is missing"),
        (
            {"logit": [0.0], "probability": [0.1], "z": 1},
            r"must hold only .* got also \['z'\]",
        ),
    ],
)
def test_state_that_does_not_fit_is_refused(change, sentence):
    data = HedgedRecalibrator().snapshot().to_dict()
    data["state"]["pooled"] = change
    with pytest.raises(StateError, match=sentence):
        SnapshotMap.from_dict(data)


def test_one_knot_is_a_constant():
    data = HedgedRecalibrator().snapshot().to_dict()
    data["state"]["pooled"] = {"logit": [0.0], "probability": [0.3]}
    assert SnapshotMap.from_dict(data).predict([0.0, 0.5, 1.0]).tolist() == [0.3, 0.3, 0.3]


def test_scores_that_cannot_be_used(trained):
    with pytest.raises(InvalidInputError, match="scores must lie in"):
        trained.snapshot().predict([1.2])
    with pytest.raises(InvalidInputError, match="segment must have one value a row"):
        trained.snapshot().predict([0.2], segment=["a", "b"])
