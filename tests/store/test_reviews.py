"""The review queue: whose turn it is, who is at a case, and what the answers come to."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from mlflow_caliber.exceptions import ConfigError, ConflictError, InvalidInputError, NotFoundError
from mlflow_caliber.store import ReviewSettings, StreamSettings, open_store, review_queue

DAY = 86_400.0
_numbers = itertools.count()


@pytest.fixture
def case(said):
    """A prediction that is withheld."""

    def case(prediction_id="a", p=0.7, **changed):
        served = {"probability": p, "prediction": int(p >= 0.5), "confidence": max(p, 1.0 - p)}
        return said(prediction_id, **{**served, "abstained": True, "reason": "low_confidence", **changed})

    return case


@pytest.fixture
def told(stream):
    """Change the review settings of the stream."""

    def told(**review):
        stream.change_settings(StreamSettings(review=ReviewSettings(**review)), "admin")
        return stream

    return told


def ids(queue):
    return [review.prediction_id for review in queue.reviews]


def waiting(stream, reviewer=None, **asked):
    return ids(review_queue([stream], reviewer=reviewer, **asked))


def outcomes_of(stream):
    return [
        (e.event.prediction_id, e.event.outcome, e.event.source) for e in stream.log() if hasattr(e.event, "source")
    ]


# --- whose turn it is -------------------------------------------------------------------------------------------------


def test_the_least_confident_comes_first_and_a_case_without_a_score_before_all(stream, case):
    stream.record([case("sure", 0.9), case("unsure", 0.45), case("so so", 0.7)])
    stream.record([case("unknown", 0.99, reason="unscorable_row")])
    assert waiting(stream) == ["unknown", "unsure", "so so", "sure"]
    assert waiting(stream, limit=2) == ["unknown", "unsure"]
    assert waiting(stream, order="oldest") == ["so so", "sure", "unknown", "unsure"]
    review = stream.review("unknown")
    assert (review.confidence, review.expected_cost) == (None, None)
    assert waiting(stream, order="cost")[0] == "unknown"


def test_no_case_starves(stream, clock, case):
    stream.record([case("old", 0.99)])
    for day in range(1, 8):
        clock.now = 1_000.0 + day * DAY
        stream.record([case(f"new {day}", 0.51)])
    assert waiting(stream).index("old") == 3, "half a week outweighs the half between 0.5 and 1"
    clock.now += DAY
    stream.record([case("new 8", reason="unscorable_row")])
    assert waiting(stream).index("old") < waiting(stream).index("new 8"), "a week outweighs all"


def test_what_an_error_is_expected_to_cost(store, case):
    stream = store.stream("digits", "1", classes=["a", "b", "c"])
    review = ReviewSettings(costs={"c": 10.0}, order="cost")
    stream.change_settings(StreamSettings(review=review), "admin")
    three = {"prediction": "a", "confidence": 0.6, "probability": 0.6}
    stream.record(
        [
            case("c likely", **three, probabilities=[0.6, 0.1, 0.3]),
            case("b likely", **three, probabilities=[0.6, 0.35, 0.05]),
            case("not told", **three),
            case("unsure", prediction="c", confidence=0.4, probability=0.4, probabilities=[0.3, 0.3, 0.4]),
        ]
    )
    cost = {r.prediction_id: r.expected_cost for r in stream.open_reviews()}
    expected = {"c likely": 3.1, "b likely": 0.85, "not told": 0.4 * 5.5, "unsure": 0.6}
    assert cost == pytest.approx(expected)
    assert waiting(stream) == ["c likely", "not told", "b likely", "unsure"]
    assert waiting(stream, order="uncertain")[0] == "unsure"


def test_the_first_of_many_are_the_first_of_all(store, clock, case):
    """A few cases must be the first of what reading everything gives, whatever happens meanwhile."""
    rng = np.random.default_rng(3)
    stream = store.stream("churn", "1", classes=[0, 1])
    names = (f"c{number}" for number in itertools.count())
    review = ReviewSettings(costs={"1": 5.0, "0": 0.5}, answers=2)
    stream.change_settings(StreamSettings(review=review), "admin")
    for step in range(16):
        clock.now += float(rng.choice([0.0, 1.0, 3_600.0]))
        stream.record([case(next(names), float(rng.uniform(0.05, 0.95))) for _ in range(rng.integers(0, 12))])
        for order in ("uncertain", "cost", "oldest"):
            everything = waiting(stream, "mia", order=order, limit=10_000)
            for limit in (1, 7):
                assert waiting(stream, "mia", order=order, limit=limit) == everything[:limit], (step, order)
        for name in everything[: int(rng.integers(0, 4))]:
            act = rng.integers(0, 4)
            if act == 0:
                stream.claim_review(name, "mia")
            elif act == 1:
                stream.release_review(stream.claim_review(name, "mia").prediction_id, "mia")
            else:
                stream.answer_review(name, str(rng.choice(["mia", "max"])), "confirm" if act == 2 else "cant_judge")
        if step == 12:
            assert stream.compact(clock.now - 3_600.0) > 0


def test_the_queue_over_streams(store, case):
    streams = [store.stream("churn", str(number), classes=[0, 1]) for number in range(3)]
    streams[0].record([case("a", 0.9), case("b", 0.6)])
    streams[1].record([case("a", 0.7)])
    queue = review_queue(streams)
    assert [(r.version, r.prediction_id) for r in queue.reviews] == [("0", "b"), ("1", "a"), ("0", "a")]
    assert (queue.waiting, queue.capacity, queue.left) == (3, None, None)
    assert review_queue([]).waiting == 0
    with pytest.raises(InvalidInputError, match="order must be one of uncertain, oldest, cost, got 'new'"):
        review_queue(streams, order="new")
    with pytest.raises(InvalidInputError, match="status must be one of waiting, mine, escalated, done, got 'all'"):
        review_queue(streams, status="all")


def test_audited_cases_say_so_and_are_outcomes_of_an_audit(told, said):
    stream = told(audit_share=1.0)
    stream.record([said("a", probability=0.9, confidence=0.9)])
    assert stream.review("a").origin == "audit"
    stream.answer_review("a", "mia", "confirm")
    assert outcomes_of(stream) == [("a", "1", "audit")]


# --- who is at a case -------------------------------------------------------------------------------------------------


def test_a_lease_runs_out(told, clock, case):
    stream = told(lease_minutes=10.0)
    stream.record([case()])
    assert stream.claim_review("a", "mia").lease_expires_at == clock.now + 600.0
    assert waiting(stream) == []
    assert waiting(stream, "mia", status="mine") == ["a"]
    clock.now += 300.0
    assert stream.claim_review("a", "mia").lease_expires_at == clock.now + 600.0, "claiming again renews"
    clock.now += 599.0
    with pytest.raises(ConflictError, match="claimed by 'mia'"):
        stream.answer_review("a", "max", "confirm")
    clock.now += 1.0
    assert waiting(stream, "max") == ["a"]
    assert (stream.review("a").status, stream.review("a").claimed_by) == ("open", None)
    assert stream.claim_review("a", "max").claimed_by == "max"
    with pytest.raises(ConflictError, match="claimed by 'max'"):
        stream.release_review("a", "mia")
    assert stream.release_review("a", "max").status == "open"
    assert stream.release_review("a", "max").status == "open"
    assert waiting(stream, "mia") == ["a"]


def test_nobody_can_claim_what_is_not_there(stream):
    with pytest.raises(NotFoundError, match="has no review of 'a'"):
        stream.claim_review("a", "mia")
    with pytest.raises(InvalidInputError, match="reviewer must not be empty"):
        stream.claim_review("a", "")


def test_the_day_has_a_capacity(told, clock, case):
    stream = told(capacity_per_day=2, answers=1)
    stream.record([case(name) for name in "abcd"])
    stream.answer_review("a", "mia", "confirm")
    queue = review_queue([stream])
    assert (queue.decided, queue.capacity, queue.left, queue.waiting) == (1, 2, 1, 3)
    stream.claim_review("b", "mia")
    assert review_queue([stream]).left == 0
    stream.claim_review("b", "mia")
    with pytest.raises(
        ConflictError, match=r"capacity of 2 cases a day \(UTC\), and today 1 are decided and 1 are being"
    ):
        stream.claim_review("c", "max")
    stream.answer_review("c", "max", "escalate", note="a friend of mine")
    assert stream.claim_review("c", "mia").claimed_by == "mia", "escalated cases are free of it"
    clock.now += DAY
    assert review_queue([stream]).left == 2
    assert stream.claim_review("d", "max").status == "claimed"
    assert told().claim_review("b", "max").claimed_by == "max"


def race(uri, clock, names, work):
    """Let reviewers work at the same moment, half of them with a store of their own."""
    barrier = threading.Barrier(len(names))
    results, errors = [], []

    def run(name, store):
        try:
            stream = store.streams()[-1]
            barrier.wait()
            results.extend(work(stream, name))
        except BaseException as error:  # a thread must not swallow it
            errors.append(error)

    with open_store(uri, clock=clock) as one, open_store(uri, clock=clock) as other:
        threads = [
            threading.Thread(target=run, args=(name, (one, other)[number % 2])) for number, name in enumerate(names)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    return results


@pytest.mark.parametrize("claiming", [True, False], ids=["claim", "decide at once"])
def test_twenty_cases_and_eight_reviewers(uri, clock, case, claiming):
    with open_store(uri, clock=clock) as store:
        store.stream("churn", "1", classes=[0, 1]).record([case(f"c{number}") for number in range(20)])
    sentences = []

    def work(stream, name):
        for number in range(20):
            try:
                if claiming:
                    stream.claim_review(f"c{number}", name)
                stream.answer_review(f"c{number}", name, "confirm")
                yield f"c{number}", name
            except ConflictError as error:
                sentences.append(str(error))

    won = race(uri, clock, [f"r{number}" for number in range(8)], work)
    assert sorted(name for name, _ in won) == sorted(f"c{number}" for number in range(20))
    assert len(sentences) == 7 * 20
    assert all("is claimed by 'r" in sentence or "is done, by 'r" in sentence for sentence in sentences)
    with open_store(uri, clock=clock) as store:
        stream = store.streams()[0]
        assert len(outcomes_of(stream)) == 20
        assert {stream.review(name).reviewer for name, _ in won} == {reviewer for _, reviewer in won}
        assert all(stream.review(name).reviewer == reviewer for name, reviewer in won)


def test_two_at_the_same_moment(uri, clock, case):
    with open_store(uri, clock=clock) as store:
        store.stream("churn", "1", classes=[0, 1]).record([case("a")])

    def work(stream, name):
        try:
            return [stream.claim_review("a", name).claimed_by]
        except ConflictError as error:
            return [str(error)]

    for turn in range(5):
        clock.now += 3_600.0
        one, two = sorted(race(uri, clock, [f"mia {turn}", f"max {turn}"], work), key=len)
        assert two == f"The review of 'a' is claimed by {one!r}."


def test_a_second_of_two_needed_is_one_of_many(uri, clock, case):
    with open_store(uri, clock=clock) as store:
        stream = store.stream("churn", "1", classes=[0, 1])
        stream.change_settings(StreamSettings(review=ReviewSettings(answers=3)), "admin")
        stream.record([case(f"c{number}") for number in range(5)])

    def work(stream, name):
        for number in range(5):
            try:
                yield stream.answer_review(f"c{number}", name, "confirm").recorded
            except ConflictError:
                yield None

    won = race(uri, clock, [f"r{number}" for number in range(8)], work)
    assert (won.count(True), won.count(False), won.count(None)) == (5, 10, 25)


# --- what the answers come to -----------------------------------------------------------------------------------------


def test_two_must_agree(told, clock, case):
    stream = told(answers=2)
    stream.record([case("a", 0.55), case("b", 0.95)])
    first = stream.answer_review("b", "mia", "confirm")
    assert (first.review.status, first.review.n_answers, first.recorded) == ("open", 1, False)
    assert waiting(stream, "mia") == ["a"], "never offered again to those who answered"
    assert waiting(stream, "max") == ["a", "b"]
    with pytest.raises(ConflictError, match="'mia' has answered the review of 'b'"):
        stream.claim_review("b", "mia")
    second = stream.answer_review("b", "max", "correct", 0).review
    assert (second.status, second.disputed, second.n_answers) == ("open", True, 2)
    for order in ("uncertain", "oldest", "cost"):
        assert waiting(stream, "eve", order=order) == ["b", "a"], "a dispute goes first"
    clock.now += 1.0
    third = stream.answer_review("b", "eve", "correct", "0", "called them")
    assert (third.review.status, third.review.outcome, third.review.reviewer) == ("done", "0", "eve")
    assert third.recorded
    assert outcomes_of(stream) == [("b", "0", "review")]
    assert waiting(stream, "ann", status="done") == ["b"]
    said = [(each.reviewer, each.answer, each.label) for each in stream.review_answers("b")]
    assert sorted(said) == [("eve", "correct", "0"), ("max", "correct", "0"), ("mia", "confirm", "1")]


def test_an_answer_can_be_changed_until_the_case_is_decided(told, case):
    stream = told(answers=2)
    stream.record([case()])
    stream.answer_review("a", "mia", "confirm")
    stream.answer_review("a", "mia", "correct", 0)
    stream.answer_review("a", "mia", "cant_judge")
    review = stream.answer_review("a", "mia", "confirm").review
    assert (review.n_answers, review.disputed, review.status) == (1, False, "open")


def test_who_took_part_may_correct(stream, store, clock, case):
    stream.record([case()])
    stream.answer_review("a", "mia", "confirm")
    clock.now += 1.0
    assert not stream.answer_review("a", "mia", "confirm").recorded, "a message that comes again"
    corrected = stream.answer_review("a", "mia", "correct", 0, "the letter was older")
    assert (corrected.review.outcome, corrected.recorded, corrected.known.outcome) == ("0", True, "1")
    assert corrected.review.status == "done"
    with pytest.raises(ConflictError, match="is done, by 'mia'"):
        stream.answer_review("a", "mia", "cant_judge")
    assert [outcome for _, outcome, _ in outcomes_of(stream)] == ["1", "0"]


def test_what_was_observed_later_is_overruled_again_by_those_who_may(stream, clock, case, happened):
    """What counts is the outcome in force, and not what the case says of itself."""

    def says(who, **more):
        clock.now += 1.0
        return stream.answer_review("a", who, "confirm", **more)

    stream.record([case()])
    says("mia")
    stream.record([happened("a", 0)])
    again = says("mia")
    assert (again.recorded, again.known.outcome, again.known.source) == (True, "0", "observed")
    stream.record([happened("a", 0, observed_at=clock.now)])
    with pytest.raises(ConflictError, match=r"is done, by 'mia'\. Only a correction changes it"):
        says("eve")
    assert says("eve", correction=True).recorded
    assert not says("eve", correction=True).recorded
    assert [outcome for _, outcome, _ in outcomes_of(stream)] == ["1", "0", "1", "0", "1"]
    stream.record([happened("a", 0, observed_at=clock.now)])
    agreed = stream.answer_review("a", "mia", "correct", 0)
    assert (agreed.review.outcome, agreed.recorded, agreed.known.outcome) == ("0", False, "0")


def test_where_fewer_answers_are_asked_for_than_were_given(store, case):
    stream = store.stream("topics", "1", classes=["a", "b", "c"])

    def ask(answers):
        stream.change_settings(StreamSettings(review=ReviewSettings(answers=answers)), "admin")

    ask(3)
    stream.record([case(name, prediction="a", probability=0.5, confidence=0.5) for name in "xy"])
    for name in "xy":
        stream.answer_review(name, "mia", "confirm")
        stream.answer_review(name, "max", "correct", "b")
    ask(1)
    for who, answer, *label in (
        ("eve", "correct", "c"),
        ("eve", "escalate"),
        ("eve", "cant_judge"),
        ("mia", "confirm"),
    ):
        review = stream.answer_review("x", who, answer, *label, note="they disagree").review
        assert (review.status, review.outcome) == ("open", None), "nothing leads"
    done = stream.answer_review("x", "ann", "correct", "b").review
    assert (done.status, done.outcome, done.reviewer) == ("done", "b", "ann")
    ask(3)
    stream.answer_review("y", "leo", "confirm")
    ask(2)
    assert stream.answer_review("y", "eve", "correct", "c").review.status == "open", "eve does not decide for a"
    done = stream.answer_review("y", "max", "confirm").review
    assert (done.outcome, done.reviewer) == ("a", "max")


def test_every_act_leaves_its_mark(uri, clock, case, happened):
    with open_store(uri, clock=clock) as store:
        stream = store.stream("churn", "1", classes=[0, 1])
        stream.change_settings(StreamSettings(review=ReviewSettings(answers=2)), "admin")
        stream.record([case()])
        stream.answer_review("a", "mia", "confirm")
        stream.answer_review("a", "max", "confirm")
        clock.now += 1.0
        stream.answer_review("a", "eve", "correct", 0, correction=True)
        stream.record([happened("a", 1, observed_at=clock.now)])
        clock.now += 1.0
        stream.answer_review("a", "eve", "correct", 0)
        acts = [(act.actor, act.action, act.detail) for act in store.audit_trail()[:4]][::-1]
    said = {"prediction_id": "a", "answer": "confirm", "label": "1"}
    assert acts[:2] == [("mia", "answer_review", said), ("max", "decide_review", said)]
    corrected = {"prediction_id": "a", "answer": "correct", "label": "0", "before": "1"}
    assert acts[2:] == [("eve", "correct_review", corrected)] * 2


def test_nobody_can_judge(told, clock, case):
    stream = told(answers=2)
    stream.record([case()])
    stream.answer_review("a", "mia", "cant_judge")
    assert stream.answer_review("a", "max", "cant_judge").review.status == "declined"
    assert outcomes_of(stream) == []
    assert waiting(stream, "eve") == []
    assert stream.open_reviews() == ()
    assert waiting(stream, status="done") == ["a"]
    with pytest.raises(ConflictError, match="is closed: nobody could judge it"):
        stream.claim_review("a", "eve")
    decided = stream.review("a").decided_at, stream.review("a").reviewer
    clock.now += 1.0
    stream.answer_review("a", "eve", "confirm")
    assert (stream.review("a").decided_at, stream.review("a").reviewer) == decided
    assert stream.answer_review("a", "ann", "confirm").review.status == "done", "whoever knows after all may say so"
    assert review_queue([stream]).decided == 1, "a case takes of the day once"


def test_the_same_answer_again_changes_nothing(told, clock, case):
    stream = told(capacity_per_day=2)
    stream.record([case("a"), case("b")])
    stream.answer_review("a", "mia", "cant_judge", note="blurred")
    before = stream.review("a")
    for _ in range(3):
        clock.now += 1.0
        assert stream.answer_review("a", "mia", "cant_judge").review == before
    assert (review_queue([stream]).decided, stream.claim_review("b", "max").status) == (1, "claimed")
    stream.answer_review("a", "mia", "cant_judge", note="torn")
    assert (review_queue([stream]).decided, stream.review_answers("a")[0].note) == (1, "torn")


def test_a_case_is_passed_on(stream, case):
    stream.record([case("a"), case("b")])
    with pytest.raises(InvalidInputError, match="note must say why 'a' is escalated"):
        stream.answer_review("a", "mia", "escalate")
    stream.claim_review("a", "mia")
    review = stream.answer_review("a", "mia", "escalate", note="a friend of mine").review
    assert (review.status, review.escalated, review.note) == ("open", True, "a friend of mine")
    assert waiting(stream, "max") == ["b"]
    assert waiting(stream, "max", status="escalated") == ["a"]
    decided = stream.answer_review("a", "max", "correct", 0)
    assert (decided.review.status, decided.recorded) == ("done", True)
    assert waiting(stream, status="escalated") == []


def test_answers_that_cannot_be(stream, store, case, clock):
    stream.record([case()])
    for answer, label, sentence in (
        ("maybe", None, "answer must be one of confirm, correct, cant_judge, escalate, got 'maybe'"),
        ("correct", None, "label must say what is right when the answer is 'correct', got none"),
        ("correct", 1, "label must differ from the prediction '1': 'confirm' agrees with it"),
        ("correct", "x", "label must be one of the classes '0', '1', got 'x'"),
        ("confirm", 0, "'confirm' agrees with the prediction '1', got '0'"),
        ("cant_judge", 0, "label must be left out when the answer is 'cant_judge', got 0"),
    ):
        with pytest.raises(InvalidInputError, match=sentence):
            stream.answer_review("a", "mia", answer, label)
    with pytest.raises(InvalidInputError, match="at must be seconds since 1970"):
        stream.answer_review("a", "mia", "confirm", at=-1.0)
    assert stream.review("a").n_answers == 0


def test_any_label_where_a_stream_has_no_classes(store, case):
    stream = store.stream("topics", "1")
    stream.record([case(prediction="sports")])
    assert stream.answer_review("a", "mia", "correct", "politics").review.outcome == "politics"


def test_an_outcome_that_came_meanwhile(stream, clock, case, happened):
    stream.record([case("a"), case("b"), happened("a", 1), happened("b", 1)])
    agreed = stream.answer_review("a", "mia", "confirm")
    assert (agreed.recorded, agreed.known.outcome, agreed.known.source) == (True, "1", "observed")
    assert stream.log()[-1].event.source == "review"  # so that the reviewed cases are not only those of disagreement
    assert stream.record([happened("a", 1)]).duplicates == 1
    replaced = stream.answer_review("b", "mia", "correct", 0)
    assert (replaced.recorded, replaced.known.outcome) == (True, "1")
    assert stream.log()[-1].correction


def test_an_answer_given_elsewhere_has_its_own_time(stream, clock, case):
    stream.record([case()])
    stream.answer_review("a", "mia", "confirm", at=500.0)
    assert stream.log()[-1].event.observed_at == 500.0
    assert stream.review_answers("a")[0].at == 500.0
    assert stream.review("a").decided_at == clock.now


def test_compaction_takes_the_answers_along(stream, clock, case):
    stream.record([case()])
    stream.answer_review("a", "mia", "confirm")
    assert stream.compact(clock.now + 1.0) == 1
    clock.now += 10.0
    stream.record([case()])
    assert stream.review_answers("a") == ()
    assert waiting(stream, "mia") == ["a"]


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match="review: unknown key 'order_by'"):
        StreamSettings.from_dict({"review": {"order_by": "oldest"}})


def test_costs_are_of_labels_that_the_model_has(store):
    stream = store.stream("churn", "9", classes=["stays", "leaves"])
    before = stream.settings()
    with pytest.raises(InvalidInputError, match="each label of costs must be one of"):
        stream.change_settings(StreamSettings(review=ReviewSettings(costs={"goes": 5.0})), "admin")
    assert stream.settings() == before
    stream.change_settings(StreamSettings(review=ReviewSettings(costs={"leaves": 5.0})), "admin")
    assert stream.settings().review.costs == {"leaves": 5.0}
