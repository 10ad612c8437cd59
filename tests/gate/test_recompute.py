"""The report is made again from the rows: what a gate believes of a stored report, and what it finds out."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlflow_caliber._signing import Keyring
from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.evidence import (
    REPORT_SIG,
    DataIdentity,
    Evidence,
    ModelIdentity,
    Rows,
    evidence_signer,
    find_all_evidence,
    identify_model,
    load_evidence,
    load_rows,
    recompute,
    report_like,
)
from mlflow_caliber.exceptions import EvidenceError, SignatureError
from mlflow_caliber.gate import decide, gate_version
from mlflow_caliber.report import reliability_report

MODEL = ModelIdentity(digest="sha256:" + "a" * 64, uri="models:/churn/2")
KEYS = Keyring.parse("ci:" + "k" * 32)
N = 600


def of(rows, **settings):
    """The evidence that an evaluation with these settings writes."""
    report = reliability_report(
        rows.y,
        rows.p,
        raw=rows.raw,
        policy_segment=rows.group,
        segments=rows.segments,
        sample_weight=rows.weight,
        **settings,
    )
    return Evidence(model=MODEL, data=DataIdentity(digest="sha256:" + "1" * 64, n=len(rows.y)), report=report.to_dict())


def written(rows, path):
    rows.write(path)
    return Rows.from_frame(pd.read_parquet(path))


def binary(rng):
    raw = rng.random(N)
    return {"y": (rng.random(N) < raw).astype(np.intp), "p": raw**1.2, "raw": raw}


def of_three(rng):
    p = rng.dirichlet([1.0, 2.0, 3.0], N)
    return {"y": rng.integers(0, 3, N), "p": p, "raw": rng.dirichlet([1.0, 1.0, 1.0], N)}


@pytest.mark.parametrize("make_arrays", [binary, of_three])
@pytest.mark.parametrize("full", [True, False], ids=["everything", "bare"])
def test_a_report_is_made_again_to_the_last_digit(tmp_path, make_arrays, full):
    rng = np.random.default_rng(5)
    arrays = make_arrays(rng)
    extra, settings = {}, {}
    if full:
        region = rng.choice(np.array(["north", None, "a:b", "(missing)"], dtype=object), N)
        extra = {
            "weight": rng.random(N) * (rng.random(N) < 0.9),
            "group": rng.choice(np.array(["new", "old", None], dtype=object), N),
            "segments": {"region": region, "y": rng.choice([1.0, 2.5, np.nan], N), "weight": rng.integers(0, 3, N)},
        }
        policy = AbstainPolicy(0.6, segment_thresholds={"new": 0.8})
        settings = {"policy": policy, "n_bins": 7, "strategy": "uniform", "confidence": 0.9}
    else:
        arrays = {name: arrays[name] for name in ("y", "p")}
    rows = Rows(**arrays, **extra)
    evidence = of(rows, **settings)
    again = recompute(evidence, written(rows, tmp_path / "rows.parquet"))
    assert again == evidence.reliability


def test_no_segment_is_taken_for_another_column(tmp_path):
    names = ["p", "p_0", "raw", "weight", "group", "y", "segment:p"]
    rows = Rows(y=np.array([0, 1]), p=np.array([0.2, 0.7]), segments={name: np.array(["a", "b"]) for name in names})
    again = written(rows, tmp_path / "rows.parquet")
    assert list(again.segments) == names
    assert (again.raw, again.weight, again.group) == (None, None, None)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ({"y": [0.5], "p": [0.5]}, "y whole numbers"),
        ({"y": [0], "p": ["high"]}, "p floats"),
        ({"y": [0], "p": [0.5], "raw_0": [0.1], "raw_1": [0.9]}, r"raw of the shape of p, got \(1, 2\) for \(1,\)"),
        ({"y": [0], "p": [0.5], "raw_1": [0.9]}, "Rows must have the columns"),
        ({"y": [0], "p": [0.5], "segments": ["a"]}, "Rows must have the columns"),
    ],
)
def test_rows_are_read_strictly(frame, sentence):
    with pytest.raises(EvidenceError, match=sentence):
        Rows.from_frame(pd.DataFrame(frame))


# --- what was edited -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sliced():
    rng = np.random.default_rng(2)
    return Rows(**binary(rng), segments={"region": rng.choice(["north", "south"], N)})


def improve(report):
    report["metrics"]["ece_upper"] -= 1e-6


def improve_segment(report):
    report["segments"][0]["metrics"]["brier"] = 0.0


def improve_raw(report):
    report["raw"]["metrics"]["brier"] = 0.5


def grow_segment(report):
    report["segments"][0]["n"] += 1


def invent(report):
    report["metrics"]["classwise_ece"] = 0.0


def rename(report):
    report["segments"][0]["value"] = "west"


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (improve, "got ece_upper 0"),
        (improve_segment, "got brier of region = north 0 for 0"),
        (improve_raw, r"got brier before calibration 0\.5 for 0"),
        (grow_segment, "got n of region = north"),
        (invent, "got classwise_ece 0 for no value"),
        (rename, "got ece of region = west"),
    ],
)
def test_every_number_that_was_edited_is_found(sliced, edit, sentence):
    evidence = of(sliced)
    report = json.loads(json.dumps(evidence.report))
    edit(report)
    with pytest.raises(EvidenceError, match=f"must say what its rows give, {sentence}.*the report was edited"):
        recompute(replace(evidence, report=report), sliced)


def test_the_noise_floor_is_drawn_and_not_compared(sliced):
    report = json.loads(json.dumps(of(sliced).report))
    report["metrics"]["ece_null_p95"] += 0.01
    again = recompute(replace(of(sliced), report=report), sliced)
    assert again.metrics["ece_null_p95"] != report["metrics"]["ece_null_p95"]


def test_other_rows_are_found(sliced):
    with pytest.raises(EvidenceError, match="got 600 binary rows for 599 binary"):
        recompute(of(sliced), sliced.take(np.arange(1, N)))


def test_rows_of_an_earlier_version_are_not_enough(sliced):
    bare = Rows(y=sliced.y, p=sliced.p)
    with pytest.raises(EvidenceError, match=r"got none of: region, the probabilities before calibration\. Earlier"):
        recompute(of(sliced), bare)


def test_rows_of_other_classes_are_no_report_of_them(sliced):
    report = of(sliced).reliability
    with pytest.raises(EvidenceError, match="The report must be one of its rows: "):
        report_like(report, Rows(y=sliced.y, p=np.random.default_rng(0).dirichlet([1, 1, 1], N)))


# --- in a gate -------------------------------------------------------------------------------------------------------


def test_a_decision_rests_on_the_rows_and_not_on_the_report(make, sliced):
    policy = make.policy({"metric": "caliber_brier", "max": 0.19})
    evidence = of(sliced)
    report = json.loads(json.dumps(evidence.report))
    report["metrics"]["brier"] = 0.1
    forged = replace(evidence, report=report)
    assert decide(policy, forged).verdict == "pass"
    with pytest.raises(EvidenceError, match="the report was edited"):
        decide(policy, forged, candidate_rows=lambda: sliced)
    assert (
        decide(policy, evidence, candidate_rows=lambda: sliced).rules[0].got
        == f"{evidence.report['metrics']['brier']:.6g}"
    )


def test_rows_are_loaded_once_and_not_before_they_are_needed(make, sliced):
    loaded = []

    def load():
        loaded.append(1)
        return sliced

    brier = {"metric": "caliber_brier", "max": 0.3}
    decide(make.policy(brier, brier | {"confidence": 0.9}), of(sliced), candidate_rows=load)
    assert loaded == [1]


@pytest.fixture
def evaluated(world, sliced):
    folder = world.model()
    return folder, world.evaluate(folder, sliced)


def test_the_registry_s_gate_always_makes_the_report_again(world, make, sliced, evaluated, tmp_path):
    """Whoever edits the report and writes it as the evaluator would has to invent rows that give it."""
    folder, run_id = evaluated
    evidence = load_evidence(run_id, world.client)
    report = json.loads(json.dumps(evidence.report))
    report["metrics"]["brier"] = 0.1
    (tmp_path / "report.json").write_bytes(replace(evidence, report=report).to_json())
    world.client.log_artifact(run_id, tmp_path / "report.json", "caliber")
    name = world.register(folder)
    with pytest.raises(EvidenceError, match=r"got brier 0\.1 for 0\."):
        gate_version(name, 1, "champion", make.policy({"metric": "caliber_roc_auc", "min": 0.5}))
    assert world.tags(name, 1) == {}


def test_all_rows_come_back_from_a_run(world, sliced, evaluated):
    evidence = load_evidence(evaluated[1], world.client)
    again = load_rows(evidence, evaluated[1], world.client)
    np.testing.assert_array_equal(again.raw, sliced.raw)
    np.testing.assert_array_equal(again.segments["region"], sliced.segments["region"].astype(object))
    assert recompute(evidence, again) == evidence.reliability


def test_every_run_on_a_model_is_found_the_oldest_first(world, sliced, evaluated):
    folder, first = evaluated
    runs = [first, *(world.evaluate(folder, sliced) for _ in range(2))]
    world.evaluate(world.model(), sliced)
    assert find_all_evidence(world.client, identify_model(folder).digest) == tuple(runs)


# --- signatures ------------------------------------------------------------------------------------------------------


def sign(world, run_id, tmp_path, keys, content=None):
    signed = load_evidence(run_id, world.client).to_json() if content is None else content
    (tmp_path / "report.sig").write_text(keys.sign("evidence", signed))
    world.client.log_artifact(run_id, tmp_path / "report.sig", "caliber")


def test_a_signature_names_its_key(world, evaluated, tmp_path):
    run_id = evaluated[1]
    sign(world, run_id, tmp_path, KEYS)
    assert evidence_signer(run_id, load_evidence(run_id, world.client), world.client, KEYS) == "ci"


def test_evidence_without_a_signature(world, evaluated):
    with pytest.raises(EvidenceError, match=f"must hold {REPORT_SIG}"):
        evidence_signer(evaluated[1], load_evidence(evaluated[1], world.client), world.client, KEYS)


def test_a_signature_of_something_else(world, evaluated, tmp_path):
    sign(world, evaluated[1], tmp_path, KEYS, content=b"other")
    with pytest.raises(SignatureError, match="must be of this very content"):
        evidence_signer(evaluated[1], load_evidence(evaluated[1], world.client), world.client, KEYS)


def test_a_policy_can_ask_for_signed_evidence(world, make, evaluated, tmp_path, monkeypatch):
    folder, run_id = evaluated
    name = world.register(folder)
    policy = make.policy({"metric": "caliber_brier", "max": 0.3}, signed_evidence=True)

    def gate():
        return gate_version(name, 1, "champion", policy)

    monkeypatch.delenv("MLFLOW_CALIBER_EVIDENCE_KEYS", raising=False)
    assert gate().verdict == "fail"
    assert "there are no keys to check it with" in gate().reasons[0]
    monkeypatch.setenv("MLFLOW_CALIBER_EVIDENCE_KEYS", "ci:" + "k" * 32)
    assert f"must hold {REPORT_SIG}" in gate().reasons[0]
    sign(world, run_id, tmp_path, KEYS)
    assert (gate().verdict, gate().signer) == ("pass", "ci")
    monkeypatch.setenv("MLFLOW_CALIBER_EVIDENCE_KEYS", "prod:" + "q" * 32)
    assert "must be of a known key (prod), got 'ci'" in gate().reasons[0]
