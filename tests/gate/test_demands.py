"""What a policy demands beside its rules: artifacts, signature, certificate, approvals, an end."""

import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.evidence import DataIdentity, Evidence, ModelIdentity, Rows
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.gate import decide
from mlflow_caliber.report import reliability_report

MODEL = ModelIdentity(digest="sha256:" + "a" * 64, uri="models:/churn/2")
BRIER = {"metric": "caliber_brier", "max": 0.3}
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def evidence(make, rows):
    return make.evidence(rows, MODEL)


def demand(make, evidence, given=None, **demands):
    """The decision, and the outcome of its one demand."""
    decision = decide(make.policy(BRIER, **demands), evidence, **(given or {}))
    first, *_ = decision.rules
    return decision, first


# --- artifacts and signature -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "verdict"),
    [({"caliber/report.html", "x"}, "pass"), ({"report.html"}, "fail"), (set(), "fail"), (None, "inconclusive")],
)
def test_the_run_must_hold_what_the_policy_names(make, evidence, held, verdict):
    decision, outcome = demand(make, evidence, {"artifacts": held}, artifacts=["caliber/report.html"])
    assert decision.verdict == outcome.verdict == verdict
    assert outcome.sentence.startswith("The run with the evidence must hold caliber/report.html, got ")


def test_every_artifact_is_asked_for(make, evidence):
    decision, _ = demand(make, evidence, {"artifacts": {"a"}}, artifacts=["a", "b"])
    assert [outcome.verdict for outcome in decision.rules[:2]] == ["pass", "fail"]


def test_a_signature_is_asked_for(make, evidence):
    decision, outcome = demand(make, evidence, {"signer": "ci"}, signed_evidence=True)
    assert (decision.verdict, decision.signer) == ("pass", "ci")
    assert outcome.sentence == ("The evidence must have a signature of a trusted evaluator, got the signature of ci.")
    decision, outcome = demand(make, evidence, {"no_signature": "The run holds none."}, signed_evidence=True)
    assert (decision.verdict, decision.signer) == ("fail", None)
    assert outcome.sentence.endswith("got no signature that can be checked: The run holds none.")


# --- the certificate -------------------------------------------------------------------------------------------------

ONE_CERTIFICATE = {"certificate": {"max_risk": 0.1, "max_delta": 0.05}}


def cases(n, error, seed=0):
    """Rows answered with confidence .95 of which a share is wrong, and as many that nobody should answer."""
    rng = np.random.default_rng(seed)
    p = np.concatenate([np.full(n, 0.95), np.full(n, 0.55)])
    return Rows(y=(rng.random(2 * n) > np.repeat([error, 0.45], n)).astype(np.intp), p=p)


def certify(rows, **settings):
    correct = (rows.p > 0.5) == rows.y
    return AbstainPolicy.certify(np.maximum(rows.p, 1 - rows.p), correct, **settings)


def with_policy(rows, policy):
    report = reliability_report(rows.y, rows.p, policy=policy)
    return Evidence(model=MODEL, data=DataIdentity(digest="sha256:" + "1" * 64, n=len(rows.y)), report=report.to_dict())


def checked(make, policy, rows, wanted=ONE_CERTIFICATE):
    _, outcome = demand(make, with_policy(rows, policy), {"candidate_rows": lambda: rows}, **wanted)
    return outcome


@pytest.fixture(scope="module")
def certified():
    return certify(cases(1500, 0.05), max_risk=0.1)


def test_a_certificate_that_these_rows_bear_out_passes(make, certified):
    assert certified.certificate.granted
    outcome = checked(make, certified, cases(1500, 0.05, seed=1))
    assert outcome.verdict == "pass"
    assert "got 0.1 at 0.05; here " in outcome.sentence
    assert "of 1500 answered rows are wrong, between 0.0" in outcome.sentence


def test_a_certificate_that_these_rows_refute_fails(make, certified):
    outcome = checked(make, certified, cases(1500, 0.2, seed=1))
    assert outcome.verdict == "fail"
    assert "which these rows refute: " in outcome.sentence
    assert outcome.interval[0] > 0.1


def test_a_little_over_the_limit_by_chance_is_no_refutation(make, certified):
    rows = Rows(y=np.array([1] * 44 + [0] * 6), p=np.full(50, 0.95))  # .12 wrong
    assert checked(make, certified, rows).verdict == "pass"


def test_rows_of_which_none_is_answered_check_nothing(make, certified):
    rows = Rows(y=np.array([0, 1] * 30), p=np.full(60, 0.55))
    outcome = checked(make, certified, rows)
    assert outcome.verdict == "inconclusive"
    assert "which these rows cannot check: none of them is answered" in outcome.sentence


def test_without_rows_it_cannot_be_checked(make, certified):
    _, outcome = demand(make, with_policy(cases(100, 0.05), certified), **ONE_CERTIFICATE)
    assert outcome.verdict == "inconclusive"
    assert "cannot be checked without the rows" in outcome.sentence


@pytest.mark.parametrize(
    ("policy", "got"),
    [
        (None, "got no certificate."),
        (AbstainPolicy(0.9), "got no certificate."),
        (certify(cases(20, 0.3), max_risk=0.1), "got one that was not granted: "),
        (certify(cases(1500, 0.05), max_risk=0.1).suspended("drift"), "got one that is suspended: drift."),
        (certify(cases(1500, 0.05), max_risk=0.2), "got 0.2 at 0.05."),
        (certify(cases(1500, 0.05), max_risk=0.1, delta=0.1), "got 0.1 at 0.1."),
    ],
    ids=["no policy", "no certificate", "not granted", "suspended", "too lax", "too unsure"],
)
def test_what_is_no_such_certificate_fails(make, policy, got):
    outcome = checked(make, policy, cases(200, 0.05))
    assert outcome.verdict == "fail"
    assert got in outcome.sentence


def test_a_certificate_for_each_class_is_checked_in_each(make):
    """Overall the error rate is fine; among those predicted 0 it is not."""
    rng = np.random.default_rng(3)

    def draw(n, wrong_zero, wrong_one):
        p = np.repeat([0.04, 0.96], n)
        return Rows(y=((p > 0.5) != (rng.random(2 * n) < np.repeat([wrong_zero, wrong_one], n))).astype(np.intp), p=p)

    rows = draw(1500, 0.03, 0.03)
    predicted = np.where(rows.p > 0.5, "1", "0")
    policy = certify(rows, max_risk=0.1, predicted=predicted)
    assert set(policy.certificate.classes) == {"0", "1"}
    assert checked(make, policy, draw(1500, 0.03, 0.03)).verdict == "pass"
    outcome = checked(make, policy, draw(1500, 0.15, 0.0))
    assert outcome.verdict == "fail"
    assert "answered rows predicted '0' are wrong" in outcome.sentence


# --- approvals -------------------------------------------------------------------------------------------------------


def approved(make, evidence, policy, **given):
    return demand(make, evidence, {"authors": ["Ana"], **given}, approvals=policy)


def test_missing_approvals_are_inconclusive_and_say_what_is_missing(make, evidence):
    decision, outcome = approved(make, evidence, {"count": 2}, approvals=["ben"])
    assert (decision.verdict, decision.approvals) == ("inconclusive", ("ben",))
    assert outcome.sentence == (
        "The version must have the approvals of 2 people, got 1 (ben): 1 more is missing. "
        "Ana may not approve: the version is theirs."
    )
    decision, outcome = approved(make, evidence, {"count": 2}, approvals=["ben", "cleo"])
    assert (decision.verdict, decision.approvals) == ("pass", ("ben", "cleo"))
    assert outcome.sentence == "The version must have the approvals of 2 people, got 2 (ben, cleo)."


@pytest.mark.parametrize(
    ("policy", "given", "counted"),
    [
        ({}, {"approvals": ["ana"]}, ()),
        ({}, {"approvals": [" ANA "]}, ()),
        ({"not_author": False}, {"approvals": ["ana"]}, ("ana",)),
        ({}, {"approvals": ["ben", "Ben"]}, ("ben",)),
        ({"approvers": ["Ben", "cleo"]}, {"approvals": ["ben", "dan"]}, ("ben",)),
        ({}, {"approvals": ["ben"], "authors": []}, ()),
        ({"not_author": False}, {"approvals": ["ben"], "authors": []}, ("ben",)),
        ({"tag": "Approval", "tag_value": "Yes"}, {"tags": {"Approval": "Yes"}}, ("Approval=Yes",)),
        ({"tag": "Approval", "tag_value": "Yes"}, {"tags": {"Approval": "yes"}}, ()),
        ({"tag": "Approval", "tag_value": "Yes"}, {"tags": {"Approval": "Yes"}, "authors": []}, ("Approval=Yes",)),
    ],
)
def test_who_counts(make, evidence, policy, given, counted):
    decision, _ = approved(make, evidence, policy, **given)
    assert decision.approvals == counted
    assert decision.verdict == ("pass" if counted else "inconclusive")


def test_the_sentence_says_who_may(make, evidence):
    policy = {"count": 2, "approvers": ["ben", "cleo"], "tag": "Approval", "tag_value": "Yes"}
    _, outcome = approved(make, evidence, policy)
    assert outcome.sentence.endswith(
        "got 0: 2 more are missing. Only ben, cleo may approve. Ana may not approve: the version is theirs. "
        "The tag Approval = Yes counts as one."
    )
    _, outcome = approved(make, evidence, {"count": 1}, authors=[], approvals=["ben"])
    assert outcome.sentence.endswith("Nobody can approve before the author is known, who may not.")


def test_without_the_demand_nobody_is_counted(make, evidence):
    assert decide(make.policy(BRIER), evidence, approvals=["ben"], authors=["ana"]).approvals == ()


# --- the end of a pass -----------------------------------------------------------------------------------------------


def test_a_pass_ends_when_the_policy_says(make, evidence):
    policy = make.policy(BRIER, expires_after_days=90.5)
    east = NOW.astimezone(timezone(timedelta(hours=9)))
    assert decide(policy, evidence, now=east).expires_at == "2027-02-21T00:00:00+00:00"
    assert decide(make.policy(BRIER), evidence, now=NOW).expires_at is None


def test_only_a_pass_has_an_end(make, evidence):
    policy = make.policy({"metric": "caliber_brier", "max": 0.01}, expires_after_days=90)
    assert decide(policy, evidence, now=NOW).expires_at is None


def test_an_end_needs_a_time_with_its_zone(make, evidence):
    with pytest.raises(InvalidInputError, match="now must be a time with its zone, as a pass expires, got None"):
        decide(make.policy(BRIER, expires_after_days=90), evidence)


def test_a_decision_is_json(make, evidence):
    decision, _ = approved(make, evidence, {"count": 1}, approvals=["ben"], signer="ci")
    state = json.loads(json.dumps(decision.to_dict()))
    assert (state["approvals"], state["signer"], state["expires_at"]) == (["ben"], "ci", None)
    assert len(state["rules"][1]["interval"]) == 2
