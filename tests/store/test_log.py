"""The log: every row exactly once, in one order, and what cannot be taken is kept with its sentence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store import Outcome, Prediction, Receipt, open_store

NOT_SAID = {"seq", "recorded_at"}


def told(stream):
    return [(entry.seq, entry.event) for entry in stream.log()]


def test_what_goes_in_comes_out(stream, said, happened):
    full = said(
        predicted_at=1 / 3,
        abstained=True,
        reason="low confidence",
        segment="eu 'west' \N{SNOWMAN}",
        calibrator_revision="abc",
        probabilities=(0.3, 0.7),
        features={"x": 0.1, "deep": [1, None, {"text": '"; DROP TABLE predictions;--'}]},
    )
    assert stream.record([full, happened()]) == Receipt(recorded=2)
    first, second = stream.log()
    assert (first.seq, second.seq) == (1, 2)
    assert first.event == Prediction(**{**vars(full), "prediction": "1"})
    assert second.event == Outcome(**{**vars(happened()), "outcome": "1"})


def test_predictions_and_outcomes_share_one_dense_sequence(stream, said, happened):
    stream.record_predictions([said("a"), said("b")])
    stream.record_outcomes([happened("b")])
    stream.record([said("c"), happened("a"), said("d")])
    assert [(entry.seq, entry.event.prediction_id) for entry in stream.log()] == [
        *((1, "a"), (2, "b"), (3, "b")),
        *((4, "c"), (5, "a"), (6, "d")),
    ]
    assert [entry.seq for entry in stream.log(after=2, limit=3)] == [3, 4, 5]
    assert stream.log(after=6) == []


def test_streams_are_apart(store, said):
    one, other = store.stream("churn", "1"), store.stream("churn", "2")
    assert one.record([said()]).recorded == other.record([said(probability=0.1)]).recorded == 1
    assert one.log()[0].seq == other.log()[0].seq == 1


def test_known_predictions_are_counted_and_left_alone(stream, said):
    row = said(features={"x": (1, 2)}, probabilities=[0.3, 0.7])
    assert stream.record_predictions([row, row]) == Receipt(recorded=1, duplicates=1)
    assert stream.record_predictions([row]) == Receipt(duplicates=1)
    assert len(stream.log()) == 1


@pytest.mark.parametrize("together", [True, False])
def test_another_content_under_a_known_id_is_refused_and_kept(stream, said, together):
    first, second = said(), said(probability=0.2)
    receipt = stream.record([first, second]) if together else stream.record([first]) + stream.record([second])
    assert receipt.recorded == 1
    (refusal,) = receipt.refused
    assert refusal.kind == "conflict"
    assert refusal.sentence == (
        "A prediction with the id 'a' was recorded with another probability: 0.7, now came 0.2."
    )
    assert stream.log()[0].event.probability == 0.7
    ((kept, content),) = stream.refusals()
    assert kept == refusal
    assert content["probability"] == 0.2


def test_outcomes_may_come_first_and_are_corrected(stream, said, happened):
    stream.record_outcomes([happened(outcome=0)])
    assert stream.counts().unmatched == 1
    stream.record_predictions([said()])
    assert stream.record_outcomes([happened(outcome=0, observed_at=300.0)]) == Receipt(duplicates=1)
    assert stream.record_outcomes([happened(outcome=1, observed_at=400.0)]) == Receipt(recorded=1, corrections=1)
    table = stream.rows()
    assert (table["outcome"].item(), table["observed_at"].item()) == ("1", 400.0)
    counts = stream.counts()
    assert (counts.outcomes, counts.corrections, counts.unmatched, counts.unlabelled) == (2, 1, 0, 0)


def test_a_message_that_comes_again_does_not_take_a_correction_back(stream, happened):
    messages = [happened(outcome=1), happened(outcome=0, observed_at=300.0)]
    stream.record_outcomes(messages)
    assert stream.record_outcomes(messages) == Receipt(duplicates=2)
    assert stream.record_outcomes([happened(outcome=1, observed_at=400.0)]).corrections == 1


@pytest.mark.parametrize("outcome", [1, 1.0, True, "1", np.int64(1), np.float32(1), np.bool_(True)])
def test_a_label_is_spelled_as_the_classes_spell_it(stream, happened, outcome):
    stream.record_outcomes([happened(outcome=outcome)])
    assert stream.log()[0].event.outcome == "1"


def test_labels_of_other_classes(store, happened):
    truths = store.stream("truths", "1", classes=[False, True])
    free = store.stream("free", "1")
    for stream, wanted in ((truths, "True"), (free, "1")):
        stream.record_outcomes([happened(outcome=label, prediction_id=repr(label)) for label in (1, 1.0, True)])
        assert {entry.event.outcome for entry in stream.log()} == {wanted}
    assert "'1.0'" in truths.record_outcomes([happened("x", "1.0")]).refused[0].sentence


NAN = float("nan")
REFUSED = [
    ({"raw_probability": NAN}, "raw_probability must be a number in [0, 1], got nan."),
    ({"probability": 1.5}, "probability must be a number in [0, 1], got 1.5."),
    ({"confidence": None}, "confidence must be a number in [0, 1], got None."),
    ({"base_probability": True}, "base_probability must be a number in [0, 1], got True."),
    ({"predicted_at": math.inf}, "predicted_at must be a finite number, got inf."),
    ({"predicted_at": 1.7e12}, "predicted_at must be seconds since 1970 (UTC), got 1700000000000."),
    ({"prediction": "maybe"}, "prediction must be one of the classes '0', '1', got 'maybe'."),
    ({"prediction": NAN}, "prediction must be a label (text, a number or a truth value), got nan."),
    ({"abstained": 1}, "abstained must be True or False, got 1."),
    ({"reason": "a\0b"}, "reason must not hold the character NUL, got 'a\\x00b'."),
    ({"segment": "\ud800"}, "segment must be text that UTF-8 can hold, got '\\ud800'."),
    ({"segment": 3}, "segment must be text, got 3."),
    ({"reason": "x" * 2001}, "reason must have at most 2000 characters, got 2001."),
    ({"prediction_id": ""}, "prediction_id must not be empty."),
    ({"prediction_id": "x" * 201}, "prediction_id must have at most 200 characters, got 201."),
    ({"prediction_id": "\0"}, "prediction_id must not hold the character NUL, got '\\x00'."),
    ({"prediction_id": None}, "prediction_id must be text, got None."),
    ({"probabilities": [0.5]}, "probabilities must have one number a class, 2, got 1."),
    ({"probabilities": [0.5, 0.6]}, "probabilities must sum to 1, got 1.1."),
    ({"probabilities": "half"}, "probabilities must be a list of numbers, got 'half'."),
    ({"features": [1]}, "features must map names to values, got [1]."),
    ({"features": {"x": {1, 2}}}, "features must be plain JSON values, got {'x': {1, 2}}."),
    ({"features": {"x": "y" * 1_000_001}}, "features must be at most 1000000 characters of JSON, got 1000010."),
]


@pytest.mark.parametrize(("changed", "sentence"), REFUSED, ids=[sentence[:30] for _, sentence in REFUSED])
def test_a_prediction_that_cannot_be_taken_is_refused_alone(stream, said, changed, sentence):
    receipt = stream.record_predictions([said("before"), said(**changed), said("after")])
    assert receipt.recorded == 2
    assert [refusal.sentence for refusal in receipt.refused] == [sentence]
    ((kept, content),) = stream.refusals()
    assert (kept, content["confidence"]) == (receipt.refused[0], changed.get("confidence", 0.7))
    assert stream.counts().refused == 1
    assert [entry.seq for entry in stream.log()] == [1, 2]


class Evil:
    """A value that cannot even be shown."""

    def __repr__(self):
        raise RuntimeError("no")


class Broken(float):
    """A number that cannot be read."""

    def __float__(self):
        raise RuntimeError("no")


class Nul:
    """A value that shows what PostgreSQL cannot hold."""

    def __repr__(self):
        return "a\0b\ud800" + "x" * 5_000


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return {"x": value}


STRANGE = {
    "10**400": 10**400,
    "-10**400": -(10**400),
    "10**5000": 10**5_000,
    "evil": Evil(),
    "list of evil": [Evil(), Evil()],
    "broken": Broken(0.5),
    "nul": Nul(),
    "no dimension": np.array(0.5),
    "huge list": [10**400, 0.5],
    "huge id": {"x": 10**5_000},
    "bytes": b"\0",
    **{f"{depth} deep": nested(depth) for depth in (101, 900, 5_000, 100_000)},
}
FIELDS = ["prediction_id", "predicted_at", "confidence", "prediction", "abstained", "reason", "segment"]


@pytest.mark.parametrize("name", [*FIELDS, "raw_probability", "probabilities", "features"])
def test_no_value_whatever_costs_the_others(stream, said, name):
    bad = [
        said(f"bad {key}", **{name: value}) if name != "prediction_id" else said(value)
        for key, value in STRANGE.items()
    ]
    receipt = stream.record([said("before"), *bad, said("after")])
    assert (receipt.recorded, len(receipt.refused)) == (2, len(bad))
    for refusal in receipt.refused:
        assert name in refusal.sentence or (name == "probabilities" and "probabilities" in refusal.sentence)
        assert len(refusal.sentence) <= 1_000
    kept = stream.refusals()
    assert [refusal for refusal, _ in kept][::-1] == list(receipt.refused)
    assert all(name in content for _, content in kept)


@pytest.mark.parametrize("name", ["prediction_id", "outcome", "observed_at", "source"])
@pytest.mark.parametrize("classes", [[0, 1], None])
def test_no_outcome_whatever_costs_the_others(store, happened, name, classes):
    stream = store.stream("any", "1", classes=classes)
    # Without classes 0.5 is a label, however it is wrapped.
    bad = [happened(**{"prediction_id": key, name: value}) for key, value in STRANGE.items()]
    receipt = stream.record([happened("before"), *bad, happened("after")])
    assert (receipt.recorded, len(receipt.refused)) == (2, len(bad))
    assert all(name in refusal.sentence for refusal in receipt.refused)
    assert len(stream.refusals()) == len(bad)


def test_what_is_not_too_deep_is_kept(stream, said):
    assert stream.record([said(features=nested(99))]).recorded == 1
    assert stream.log()[0].event.features == nested(99)


def test_sentences_name_what_is_wrong(stream, said, happened):
    rows = [
        said(predicted_at=10**400),
        said(confidence=10**400),
        said(probabilities=np.array(0.5)),
        happened(outcome=10**400),
    ]
    starts = [refusal.sentence.partition(", got ")[0] for refusal in stream.record(rows).refused]
    assert starts == [
        "predicted_at must be seconds since 1970 (UTC)",
        "confidence must be a number in [0, 1]",
        "probabilities must be a list of numbers",
        "outcome must be a label (text, a number or a truth value)",
    ]


def test_outcomes_that_cannot_be_taken(stream, happened):
    rows = [happened(outcome=2), happened(source="rumour"), happened(observed_at=-1.0), happened(outcome=None)]
    sentences = [refusal.sentence for refusal in stream.record_outcomes(rows).refused]
    assert sentences[0] == "outcome must be one of the classes '0', '1', got 2."
    assert sentences[1].startswith("source must be one of observed, review, audit, got 'rumour'.")
    assert sentences[2] == "observed_at must be seconds since 1970 (UTC), got -1."
    assert sentences[3] == "outcome must be a label (text, a number or a truth value), got None."
    assert stream.log() == []


def test_hostile_text_is_only_text(stream, said):
    hostile = {"features": {"a\0b": "\0 \ud800", "big": 1 << 80, "nan": NAN, "np": np.float64(0.5)}}
    stream.record_predictions([said("' OR 1=1 --\N{PILE OF POO}", segment="%s {} \\", **hostile)])
    event = stream.log()[0].event
    assert event.prediction_id == "' OR 1=1 --\N{PILE OF POO}"
    assert event.features == {"a\0b": "\0 \ud800", "big": 1 << 80, "nan": None, "np": 0.5}


def test_rows_of_another_kind_are_the_callers_mistake(stream, said):
    with pytest.raises(InvalidInputError, match="Each row must be a Outcome, got a Prediction"):
        stream.record_outcomes([said()])
    with pytest.raises(InvalidInputError, match="limit must be a whole number >= 1, got 0"):
        stream.log(limit=0)
    assert stream.record([]) == Receipt()


def test_a_clock_that_goes_backwards_does_not_reorder(stream, clock, said):
    for now, prediction_id in ((1_000.0, "a"), (500.0, "b"), (1_001.0, "c")):
        clock.now = now
        stream.record_predictions([said(prediction_id)])
    assert [entry.recorded_at for entry in stream.log()] == [1_000.0, 1_000.0, 1_001.0]


def test_rows_are_a_window(stream, clock, said, happened):
    for now, prediction_id in ((1_000.0, "a"), (2_000.0, "b"), (3_000.0, "c")):
        clock.now = now
        stream.record([said(prediction_id), happened(prediction_id, outcome=0)])
    assert list(stream.rows()["prediction_id"]) == ["a", "b", "c"]
    assert list(stream.rows(since=2_000.0)["prediction_id"]) == ["b", "c"]
    assert list(stream.rows(until=2_000.0)["prediction_id"]) == ["a"]
    assert list(stream.rows(limit=2)["prediction_id"]) == ["b", "c"]
    table = stream.rows(since=9_000.0)
    assert len(table) == 0
    assert table["probability"].dtype == stream.rows()["probability"].dtype == np.float64


def test_counts(stream, clock, said, happened):
    empty = stream.counts()
    assert (empty.predictions, empty.last_prediction_at, empty.last_outcome_at) == (0, None, None)
    stream.record_predictions([said("a"), said("b"), said("c", probability=2)])
    clock.now = 1_500.0
    stream.record_outcomes([happened("a"), happened("a", outcome=0, observed_at=9.0), happened("z")])
    assert vars(stream.counts()) == {
        **{"predictions": 2, "outcomes": 3, "unmatched": 1, "unlabelled": 1, "corrections": 1, "refused": 1},
        **{"compacted": 0, "last_prediction_at": 1_000.0, "last_outcome_at": 1_500.0},
    }


def test_large_batches(stream, said, happened):
    ids = [f"id-{number}" for number in range(2_500)]
    batch = [said(prediction_id) for prediction_id in ids]
    assert stream.record_predictions(batch).recorded == stream.record_predictions(batch).duplicates == 2_500
    assert stream.record_outcomes([happened(prediction_id) for prediction_id in ids]).recorded == 2_500
    assert [entry.seq for entry in stream.log(limit=9_999)] == list(range(1, 5_001))


@pytest.fixture
def streams(new_uri):
    with open_store(new_uri("store")) as store:
        yield (store.stream("any", str(number), classes=[0, 1]) for number in range(1_000_000))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.integers(0, 11), max_size=8), max_size=8))
def test_any_order_and_repetition_gives_the_same_rows(streams, said, happened, batches):
    ids = "abcdef"
    events = [
        *(said(i, probability=n / 10) for n, i in enumerate(ids)),
        *(happened(i, n % 2) for n, i in enumerate(ids)),
    ]
    stream = next(streams)
    for batch in [*batches, range(12)]:
        receipt = stream.record([events[number] for number in batch])
        assert receipt.recorded + receipt.duplicates == len(batch)
        assert not receipt.refused
    entries = stream.log()
    assert [entry.seq for entry in entries] == list(range(1, 13))
    probabilities = {e.event.prediction_id: e.event.probability for e in entries if isinstance(e.event, Prediction)}
    outcomes = {e.event.prediction_id: e.event.outcome for e in entries if isinstance(e.event, Outcome)}
    assert probabilities == {i: n / 10 for n, i in enumerate(ids)}
    assert outcomes == {i: str(n % 2) for n, i in enumerate(ids)}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outcomes=st.lists(st.integers(0, 1), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 6), max_size=4),
)
def test_corrections_that_come_again_change_nothing(streams, happened, outcomes, cuts):
    stream = next(streams)
    messages = [happened("a", outcome, float(number)) for number, outcome in enumerate(outcomes)]
    stream.record_outcomes(messages)
    before = told(stream)
    recorded = [entry.event for entry in stream.log()]
    for cut in cuts:
        assert stream.record_outcomes(recorded[:cut]).recorded == 0
    assert told(stream) == before
    assert before[-1][1].outcome == str(outcomes[-1])


@pytest.mark.parametrize("value", [10**309, -(10**309), [1, {"deep": 10**400}]])
def test_whole_numbers_that_no_float_holds_are_refused(stream, said, value):
    fine = {"digits": "1" * 400, "large": 10**300}
    receipt = stream.record([said("a", features={"age": value}), said("b", features=fine)])
    assert [each.sentence for each in receipt.refused] == [
        "features must hold numbers that a float can hold, got one of over 308 digits."
    ]
    (row,) = stream.rows().to_dict("records")
    assert row["features"] == fine
