import json
import re
from datetime import UTC, datetime, timedelta

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from mlflow_caliber.evidence import Rows, identify_model, load_evidence
from mlflow_caliber.exceptions import ConfigError, EvidenceError, PromotionError
from mlflow_caliber.gate import gate_version, promote, registry, rollback

# SQLAlchemy 2.1 warns of how MLflow 3.17 queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

PASSES = {"metric": "caliber_brier", "max": 0.3}
FAILS = {"metric": "caliber_brier", "max": 0.01}
VERSUS = {"metric": "caliber_brier", "versus": "champion", "max_regression": 0.002}


@pytest.fixture
def evaluated(world, rows):
    """A model folder with evidence."""
    folder = world.model()
    return folder, world.evaluate(folder, rows)


# --- gate ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "demands", "status"),
    [(PASSES, {}, "passed"), (FAILS, {}, "failed"), (PASSES, {"min_rows": 5000}, "inconclusive")],
)
def test_the_verdict_and_what_it_rests_on_are_tags_of_the_version(world, make, evaluated, rule, demands, status):
    folder, run_id = evaluated
    name = world.register(folder)
    policy = make.policy(rule, **demands)
    decision = gate_version(name, 1, "champion", policy)
    assert world.tags(name, 1) == {
        "caliber_gate_status": status,
        "caliber_policy_sha256": policy.sha256,
        "caliber_evidence_run_id": run_id,
        "caliber_evidence_sha256": load_evidence(run_id, world.client).sha256,
        "caliber_model_digest": identify_model(folder).digest,
    }
    assert decision.evidence_run_id == run_id
    assert world.aliases(name) == {}


def test_a_policy_may_be_a_file(world, evaluated, tmp_path):
    (tmp_path / "caliber.yaml").write_text("gate: {targets: {champion: {rules: [{metric: caliber_brier, max: 0.3}]}}}")
    name = world.register(evaluated[0])
    assert gate_version(name, 1, "champion", tmp_path / "caliber.yaml").verdict == "pass"


def test_evidence_about_another_model_is_refused_and_nothing_is_tagged(world, make, rows, evaluated):
    other = world.model()
    foreign = world.evaluate(other, rows)
    name = world.register(evaluated[0])
    ours, theirs = (identify_model(f).digest.removeprefix("sha256:")[:12] for f in (evaluated[0], other))
    with pytest.raises(EvidenceError, match=rf"must be about its model \({ours}\), got run {foreign}, .* \({theirs}\)"):
        gate_version(name, 1, "champion", make.policy(PASSES), evidence_run=foreign)
    assert world.tags(name, 1) == {}


def test_a_run_that_only_claims_the_digest_is_passed_over(world, make, rows, evaluated):
    other = world.model()
    world.client.set_tag(world.evaluate(other, rows), "caliber_model_digest", identify_model(evaluated[0]).digest)
    name = world.register(evaluated[0])
    assert gate_version(name, 1, "champion", make.policy(PASSES)).evidence_run_id == evaluated[1]


def test_tags_of_the_version_are_never_believed(world, make, rows, evaluated):
    name = world.register(world.model())
    for key, value in {
        "caliber_gate_status": "passed",
        "caliber_model_digest": identify_model(evaluated[0]).digest,
        "caliber_evidence_run_id": evaluated[1],
    }.items():
        world.client.set_model_version_tag(name, "1", key, value)
    with pytest.raises(EvidenceError, match="must have evidence, got no run that evaluated its model"):
        promote(name, 1, "champion", make.policy(PASSES))
    assert world.aliases(name) == {}


def test_a_model_that_was_changed_after_its_evaluation_has_no_evidence(world, make, rows, evaluated):
    name = world.register(evaluated[0])
    (evaluated[0] / "weights.txt").write_text("other weights")
    with pytest.raises(EvidenceError, match="got no run that evaluated its model"):
        gate_version(name, 1, "champion", make.policy(PASSES))


def test_stale_evidence_fails(world, make, evaluated):
    name = world.register(evaluated[0])
    policy = make.policy(PASSES, max_age_days=30)
    later = datetime.now(UTC) + timedelta(days=31)
    assert gate_version(name, 1, "champion", policy).verdict == "pass"
    assert gate_version(name, 1, "champion", policy, now=later).verdict == "fail"
    assert world.tags(name, 1)["caliber_gate_status"] == "failed"


def test_a_version_that_is_not_there(world, make):
    with pytest.raises(MlflowException, match="not found"):
        gate_version("nobody", 1, "champion", make.policy(PASSES))


def test_a_target_that_the_policy_does_not_name_is_seen_before_mlflow_is_asked(make):
    with pytest.raises(ConfigError, match="unknown key 'challenger'"):
        gate_version("nobody", 1, "challenger", make.policy(PASSES))


# --- promote ---------------------------------------------------------------------------------------------------------


def test_the_first_champion(world, make, evaluated):
    name = world.register(evaluated[0])
    move = promote(name, 1, "champion", make.policy(PASSES, VERSUS))
    assert (move.changed, move.version, move.former) == (True, "1", None)
    assert move.sentence == f"Version 1 of {name!r} is now champion."
    assert move.decision.verdict == "pass"
    assert world.aliases(name) == {"champion": "1"}
    assert "caliber_previous_champion" not in world.tags(name, 1)


def test_the_former_champion_is_kept(world, make, evaluated):
    name = world.register(evaluated[0], evaluated[0])
    policy = make.policy(PASSES)
    promote(name, 1, "champion", policy)
    move = promote(name, 2, "champion", policy)
    assert move.sentence == f"Version 2 of {name!r} is now champion, instead of version 1."
    assert world.aliases(name) == {"champion": "2", "previous": "1"}
    assert world.tags(name, 2)["caliber_previous_champion"] == "1"


def test_a_failing_version_is_refused_with_rule_wanted_and_got(world, make, evaluated):
    name = world.register(evaluated[0])
    got = load_evidence(evaluated[1], world.client).report["metrics"]["brier"]
    sentence = (
        f"Version 1 of {name!r} does not become champion: failed. caliber_brier must be at most 0.01, got {got:.6g}."
    )
    with pytest.raises(PromotionError, match=re.escape(sentence)) as caught:
        promote(name, 1, "champion", make.policy(FAILS))
    assert caught.value.decision.verdict == "fail"
    assert world.aliases(name) == {}
    assert world.tags(name, 1)["caliber_gate_status"] == "failed"


def test_a_status_that_passed_before_is_not_believed(world, make, evaluated):
    name = world.register(evaluated[0])
    gate_version(name, 1, "champion", make.policy(PASSES))
    with pytest.raises(PromotionError, match="failed"):
        promote(name, 1, "champion", make.policy(FAILS))


def test_a_copy_does_not_carry_its_verdict_into_a_promotion(world, make, evaluated):
    name = world.register(evaluated[0])
    gate_version(name, 1, "champion", make.policy(PASSES))
    copy = world.client.copy_model_version(f"models:/{name}/1", name + "-copy")
    assert world.tags(copy.name, copy.version)["caliber_gate_status"] == "passed"
    with pytest.raises(PromotionError, match="failed"):
        promote(copy.name, copy.version, "champion", make.policy(FAILS))


def test_promoting_the_champion_changes_nothing_and_says_so(world, make, evaluated):
    name = world.register(evaluated[0], evaluated[0])
    policy = make.policy(PASSES)
    promote(name, 1, "champion", policy)
    promote(name, 2, "champion", policy)
    before = world.aliases(name), world.tags(name, 2)
    move = promote(name, 2, "champion", policy)
    assert not move.changed
    assert move.sentence == f"Version 2 of {name!r} is champion already; nothing was changed."
    assert (world.aliases(name), world.tags(name, 2)) == before


def test_a_challenger_does_not_disturb_the_champion_s_past(world, make, evaluated):
    name = world.register(*[evaluated[0]] * 3)
    for version in (1, 2):
        promote(name, version, "champion", make.policy(PASSES))
    for version in (2, 3):
        promote(name, version, "eu-challenger", make.policy(PASSES, target="eu-challenger"))
    assert world.aliases(name) == {
        "champion": "2",
        "previous": "1",
        "eu-challenger": "3",
        "previous_eu-challenger": "2",
    }
    assert world.tags(name, 3)["caliber_previous_eu_challenger"] == "2"


# --- versus champion -------------------------------------------------------------------------------------------------


def test_a_worse_version_does_not_replace_the_champion(world, make):
    good, worse = world.model(), world.model()
    world.evaluate(good, make.rows(4000))
    world.evaluate(worse, make.rows(4000, temperature=0.4))
    name = world.register(good, worse)
    policy = make.policy(VERSUS)
    assert promote(name, 1, "champion", policy).changed
    with pytest.raises(PromotionError, match=r"caliber_brier must be at most 0.002 worse than champion, got \+0\.0"):
        promote(name, 2, "champion", policy)
    assert world.aliases(name) == {"champion": "1"}


def test_a_champion_that_saw_other_data_leaves_it_open(world, make, rows):
    first, second = world.model(), world.model()
    world.evaluate(first, make.rows(seed=1))
    world.evaluate(second, rows)
    name = world.register(first, second)
    promote(name, 1, "champion", make.policy(VERSUS))
    decision = gate_version(name, 2, "champion", make.policy(VERSUS))
    assert decision.verdict == "inconclusive"
    assert "champion is version 1, which was never evaluated on the same data (outcomes)" in decision.reasons[0]
    world.evaluate(first, rows)
    assert gate_version(name, 2, "champion", make.policy(VERSUS)).verdict == "pass"


def test_rows_that_were_exchanged_are_refused(world, make, evaluated, tmp_path):
    name = world.register(evaluated[0], evaluated[0])
    promote(name, 1, "champion", make.policy(VERSUS))
    perfect = make.rows()
    Rows(y=perfect.y, p=perfect.y * 1.0).write(tmp_path / "rows.parquet")
    world.client.log_artifact(evaluated[1], tmp_path / "rows.parquet", "caliber")
    with pytest.raises(EvidenceError, match="must have the digest that its evidence names"):
        gate_version(name, 2, "champion", make.policy(VERSUS))


# --- sequential comparisons ------------------------------------------------------------------------------------------

SEQUENTIAL = VERSUS | {"sequential": True}


@pytest.fixture
def duel(world, make):
    """A champion and a better candidate, both evaluated on the data of some days."""
    old, new = world.model(), world.model()
    name = world.register(old, new)

    def evaluate(*days, n=500):
        return [world.evaluate(old, make.rows(n, seed=day, temperature=0.5)) for day in days], [
            world.evaluate(new, make.rows(n, seed=day)) for day in days
        ]

    evaluate(0)
    promote(name, 1, "champion", make.policy(PASSES))
    return name, evaluate


def state(world, name):
    return json.loads(world.tags(name, 2)["caliber_sequential"])


def test_evidence_of_every_day_adds_up_and_is_kept_with_the_version(world, make, duel):
    name, evaluate = duel
    policy = make.policy(SEQUENTIAL)
    first = gate_version(name, 2, "champion", policy)
    assert (first.verdict, state(world, name)["rules"][str(policy.target("champion").rules[0])]["n"]) == (
        "inconclusive",
        500,
    )
    evaluate(1)
    second = gate_version(name, 2, "champion", policy)
    outcome = second.rules[0].sequential
    assert outcome["n"] == 1000
    assert outcome["e_value"] > first.rules[0].sequential["e_value"]
    kept = state(world, name)
    assert kept["champion"] == identify_model(f"models:/{name}/1").digest
    assert kept["data"] == [digest.removeprefix("sha256:")[:12] for digest in outcome["data"]]
    assert outcome["data"][0] == first.data_digest  # by the time of the evaluation
    evaluate(*range(2, 9))
    assert gate_version(name, 2, "champion", policy).verdict == "pass"


def test_data_that_only_one_was_evaluated_on_do_not_count(world, make, duel):
    name, _ = duel
    folder = world.model()
    world.evaluate(folder, make.rows(500, seed=7))
    world.client.create_model_version(name, source=folder.as_uri())
    decision = gate_version(name, 3, "champion", make.policy(SEQUENTIAL))
    assert decision.verdict == "inconclusive"
    assert "champion is version 1, which was never evaluated on the same data (outcomes)" in decision.reasons[0]


def test_an_inconvenient_run_cannot_be_left_out(world, make, duel):
    name, evaluate = duel
    _, (run_id,) = evaluate(1)
    policy = make.policy(SEQUENTIAL)
    digest = gate_version(name, 2, "champion", policy).data_digest.removeprefix("sha256:")[:12]
    before = world.tags(name, 2)
    world.client.delete_run(run_id)
    with pytest.raises(EvidenceError, match=f"that it was judged on before, got none of: {digest}. A run with evid"):
        gate_version(name, 2, "champion", policy)
    assert world.tags(name, 2) == before


def test_a_second_evaluation_on_the_same_data_changes_nothing(world, make, duel):
    name, evaluate = duel
    policy = make.policy(SEQUENTIAL)
    first = gate_version(name, 2, "champion", policy).rules[0].sequential
    evaluate(0)
    assert gate_version(name, 2, "champion", policy).rules[0].sequential == first


def test_a_new_champion_begins_anew(world, make, duel):
    name, evaluate = duel
    policy = make.policy(SEQUENTIAL)
    gate_version(name, 2, "champion", policy)
    other = world.model()
    world.client.create_model_version(name, source=other.as_uri())
    world.evaluate(other, make.rows(500, seed=5))
    world.client.set_registered_model_alias(name, "champion", "3")
    evaluate(5)
    assert gate_version(name, 2, "champion", policy).rules[0].sequential["n"] == 500


def test_a_state_that_nobody_can_read_is_refused(world, make, duel):
    world.client.set_model_version_tag(duel[0], "2", "caliber_sequential", "{}")
    with pytest.raises(EvidenceError, match=r"The tag caliber_sequential must be as the gate wrote it, got '\{\}'"):
        gate_version(duel[0], 2, "champion", make.policy(SEQUENTIAL))


def test_a_run_that_lies_about_its_model_is_passed_over(world, make, rows, duel):
    name, _ = duel
    policy = make.policy(SEQUENTIAL)
    before = gate_version(name, 2, "champion", policy).rules[-1].sequential
    run_id = world.evaluate(world.model(), rows)
    world.client.set_tag(run_id, "caliber_model_digest", identify_model(f"models:/{name}/1").digest)
    assert gate_version(name, 2, "champion", policy).rules[-1].sequential == before


# --- demands ---------------------------------------------------------------------------------------------------------


def test_the_artifacts_of_the_run_are_looked_up(world, make, evaluated):
    name = world.register(evaluated[0])
    for wanted, verdict in (("caliber/rows.parquet", "pass"), ("caliber/report.html", "fail")):
        assert gate_version(name, 1, "champion", make.policy(PASSES, artifacts=[wanted])).verdict == verdict


def test_an_approval_may_be_a_tag_of_the_version(world, make, evaluated):
    name = world.register(evaluated[0])
    policy = make.policy(PASSES, approvals={"tag": "Approval_Check", "tag_value": "Approved"})
    assert gate_version(name, 1, "champion", policy).verdict == "inconclusive"
    world.client.set_model_version_tag(name, "1", "Approval_Check", "Approved")
    decision = gate_version(name, 1, "champion", policy)
    assert (decision.verdict, decision.approvals) == ("pass", ("Approval_Check=Approved",))


# --- roll back -------------------------------------------------------------------------------------------------------


def test_a_rollback_goes_one_promotion_further_back_each_time_and_never_forward(world, make, evaluated):
    name = world.register(*[evaluated[0]] * 3)
    for version in (1, 2, 3):
        promote(name, version, "champion", make.policy(PASSES))
    move = rollback(name)
    assert (move.version, move.former) == ("2", "3")
    assert move.sentence == f"Version 2 of {name!r} is champion again, instead of version 3."
    assert world.aliases(name) == {"champion": "2", "previous": "1"}
    assert rollback(name, "champion").version == "1"
    assert world.aliases(name) == {"champion": "1"}
    with pytest.raises(PromotionError, match="must know the champion before version 1, got no alias 'previous'"):
        rollback(name)
    assert world.aliases(name) == {"champion": "1"}


def test_a_rollback_finds_the_tag_when_the_alias_was_deleted(world, make, evaluated):
    name = world.register(evaluated[0], evaluated[0])
    for version in (1, 2):
        promote(name, version, "champion", make.policy(PASSES))
    world.client.delete_registered_model_alias(name, "previous")
    assert rollback(name).version == "1"


def test_a_version_can_be_promoted_again_after_a_rollback(world, make, evaluated):
    name = world.register(evaluated[0], evaluated[0])
    for version in (1, 2):
        promote(name, version, "champion", make.policy(PASSES))
    rollback(name)
    promote(name, 2, "champion", make.policy(PASSES))
    assert world.aliases(name) == {"champion": "2", "previous": "1"}


def test_there_is_nothing_to_roll_back(world, evaluated):
    name = world.register(evaluated[0])
    with pytest.raises(PromotionError, match="must find a champion to roll back from, got none"):
        rollback(name)
    with pytest.raises(MlflowException, match="not found"):
        rollback("nobody")


# --- stages ----------------------------------------------------------------------------------------------------------


def stages(world, name):
    return {v.version: v.current_stage for v in world.client.search_model_versions(f"name = '{name}'")}


def test_a_legacy_stage_is_moved_and_rolled_back_without_a_warning(world, make, evaluated):
    name = world.register(evaluated[0], evaluated[0])
    policy = make.policy(PASSES, target="production")
    promote(name, 1, "production", policy)
    move = promote(name, 2, "PRODUCTION", policy)
    assert (move.target, move.former) == ("Production", "1")
    assert {str(k): v for k, v in stages(world, name).items()} == {"1": "Archived", "2": "Production"}
    assert world.aliases(name) == {"previous_production": "1"}
    assert not promote(name, 2, "Production", policy).changed
    rollback(name, "production")
    assert {str(k): v for k, v in stages(world, name).items()} == {"1": "Production", "2": "Archived"}


def test_an_alias_named_like_a_stage(world, make, evaluated):
    from mlflow_caliber.gate import GatePolicy

    name = world.register(evaluated[0], evaluated[0])
    policy = GatePolicy.from_dict({"targets": {"production": {"kind": "alias", "rules": [PASSES]}}})
    for version in (1, 2):
        promote(name, version, "production", policy)
    assert world.aliases(name) == {"production": "2", "previous_production": "1"}
    assert set(stages(world, name).values()) == {"None"}
    assert rollback(name, "production", kind="alias").version == "1"


# --- races -----------------------------------------------------------------------------------------------------------


def test_a_champion_that_moved_while_the_gate_ran_is_a_conflict_before_anything_is_written(
    world, make, evaluated, monkeypatch
):
    name = world.register(*[evaluated[0]] * 3)
    promote(name, 1, "champion", make.policy(PASSES))
    gate = registry.gate_version

    def gate_while_another_promotes(*args, **kwargs):
        decision = gate(*args, **kwargs)
        world.client.set_registered_model_alias(name, "champion", "3")
        return decision

    monkeypatch.setattr(registry, "gate_version", gate_while_another_promotes)
    with pytest.raises(PromotionError, match=r"must still be version 1, got version 3: .* Nothing was changed"):
        promote(name, 2, "champion", make.policy(PASSES))
    assert world.aliases(name) == {"champion": "3"}
    assert "caliber_previous_champion" not in world.tags(name, 2)


@pytest.mark.parametrize(
    "act", [lambda name, policy: promote(name, 2, "champion", policy), lambda name, _: rollback(name)]
)
def test_a_promoter_at_the_same_moment_is_seen_by_looking_again(world, make, evaluated, monkeypatch, act):
    name = world.register(*[evaluated[0]] * 3)
    promote(name, 3, "champion", make.policy(PASSES))
    promote(name, 1, "champion", make.policy(PASSES))
    set_alias = mlflow.MlflowClient.set_registered_model_alias

    def set_and_be_overtaken(self, name, alias, version):
        set_alias(self, name, alias, version)
        if alias == "champion":
            set_alias(self, name, alias, "1" if version == "3" else "3")

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", set_and_be_overtaken)
    with pytest.raises(PromotionError, match=r"must be version \d after it was set, got version \d: somebody else"):
        act(name, make.policy(PASSES))
