"""Evidence that is not the version's own, not as it was written, too old, not signed, or gone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mlflow_caliber._signing import Keyring
from mlflow_caliber.evidence import (
    TAG_DATA_DIGEST,
    TAG_MODEL_DIGEST,
    DataIdentity,
    Evidence,
    data_digest,
    identify_model,
)
from registry_world import make_evidence

from ._attempt import Attempts, holds
from ._site import BAD, GOOD, UNKNOWN, scores
from ._target import Target

EVIDENCE = Attempts("evidence")
FOREIGN_KEYS = Keyring.parse("evaluator:" + "f" * 40)


def _digest(target: Target, version: str) -> str:
    return identify_model(target.site.folders[version]).digest


def _claim(target: Target, run_id: str, digest: str) -> None:
    """Let a run say that it evaluated a model."""
    target.client.set_tag(run_id, TAG_MODEL_DIGEST, digest)


def _edited(report: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A report with something else in it, written as canonically as the evaluator would."""
    state = json.loads(report)
    change(state)
    return Evidence.from_dict(state).to_json()


def _about(digest: str, run_id: str) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        state["model"]["digest"] = digest
        state["run_id"] = run_id

    return change


def _new_run(target: Target, digest: str, **files: bytes) -> str:
    """A run of one's own with some files, which claims to be about a model."""
    run_id = str(target.client.create_run(target.site.experiment).info.run_id)
    for name, content in files.items():
        target.site.put(run_id, {"report": "report.json", "rows": "rows.parquet", "sig": "report.sig"}[name], content)
    _claim(target, run_id, digest)
    target.client.set_tag(run_id, TAG_DATA_DIGEST, "sha256:" + "0" * 64)
    return run_id


# --- another model's -------------------------------------------------------------------------------------------------


@EVIDENCE.of("a run's tag names our model", holds("4"), quick=True)
def _tag_of_a_run(target: Target) -> None:
    folder = target.site.model()
    version = target.register(target.site.upload(folder))
    run_id = target.site.evaluate(target.site.model())
    _claim(target, run_id, identify_model(folder).digest)
    target.alias(version)


@EVIDENCE.of("a run with nothing but tags and metrics", holds("4"), quick=True)
def _metrics(target: Target) -> None:
    folder = target.site.model()
    version = target.register(target.site.upload(folder))
    run_id = _new_run(target, identify_model(folder).digest)
    for metric in ("caliber_brier", "caliber_ece", "caliber_log_loss"):
        target.client.log_metric(run_id, metric, 0.0)
    target.alias(version)


@EVIDENCE.of("metrics logged over those of the evaluation", holds("4"))
def _better_metrics(target: Target) -> None:
    _, version, run_id = target.fresh(good=False)
    target.client.set_tag(run_id, "caliber_gate_status", "passed")
    target.site.client.create_run(target.site.experiment)
    for metric in ("caliber_brier", "brier"):
        target.client.log_metric(target.site.run_id, f"{metric}_{version}", 0.0)
    target.alias(version)


@EVIDENCE.of("a good run's report and rows in a run of ours", holds("4"))
def _whole_run(target: Target) -> None:
    folder = target.site.model()
    version = target.register(target.site.upload(folder))
    good = target.site.evidence[GOOD]
    _new_run(target, identify_model(folder).digest, report=target.site.report(good), rows=target.site.rows(good))
    target.alias(version)


@EVIDENCE.of("a good report in the run of the bad", holds("4"), quick=True)
def _good_report_in_bad_run(target: Target) -> None:
    _, version, run_id = target.fresh(good=False)
    good = target.site.evidence[GOOD]
    target.site.put(run_id, "report.json", target.site.report(good))
    target.site.put(run_id, "rows.parquet", target.site.rows(good))
    target.alias(version)


# --- not as it was written -------------------------------------------------------------------------------------------


@EVIDENCE.of("a better number in the report", holds("4"), quick=True)
def _better_number(target: Target) -> None:
    _, version, run_id = target.fresh(good=False)
    report = target.site.report(run_id)
    value = json.loads(report)["report"]["metrics"]["brier"]
    target.site.put(run_id, "report.json", report.replace(json.dumps(value).encode(), b"0.01"))
    target.alias(version)


@EVIDENCE.of("a good report with our digest, rows as they were", holds("4"))
def _other_rows(target: Target) -> None:
    folder, version, run_id = target.fresh(good=False)
    good = target.site.report(target.site.evidence[GOOD])
    about = _about(identify_model(folder).digest, run_id)
    target.site.put(run_id, "report.json", _edited(good, about))
    target.alias(version)


@EVIDENCE.of("a good report over the digest of bad rows", holds("4"))
def _report_of_others(target: Target) -> None:
    folder, version, run_id = target.fresh(good=False)
    theirs = json.loads(target.site.report(run_id))

    def change(state: dict[str, Any]) -> None:
        _about(identify_model(folder).digest, run_id)(state)
        state["rows_sha256"] = theirs["rows_sha256"]

    target.site.put(run_id, "report.json", _edited(target.site.report(target.site.evidence[GOOD]), change))
    target.alias(version)


@EVIDENCE.of("other rows behind the report", holds("4"), quick=True)
def _swapped_rows(target: Target) -> None:
    _, version, run_id = target.fresh(good=False)
    target.site.put(run_id, "rows.parquet", target.site.rows(target.site.evidence[GOOD]))
    target.alias(version)


@EVIDENCE.of("better rows, named by the report", holds("4"))
def _named_rows(target: Target) -> None:
    _, version, run_id = target.fresh(good=False)
    good = json.loads(target.site.report(target.site.evidence[GOOD]))

    def change(state: dict[str, Any]) -> None:
        state["rows_sha256"] = good["rows_sha256"]

    target.site.put(run_id, "rows.parquet", target.site.rows(target.site.evidence[GOOD]))
    target.site.put(run_id, "report.json", _edited(target.site.report(run_id), change))
    target.alias(version)


@EVIDENCE.of("no rows at all", holds("4"))
def _no_rows(target: Target) -> None:
    folder = target.site.model()
    version = target.register(target.site.upload(folder))
    about = _about(identify_model(folder).digest, "x")
    run_id = _new_run(target, identify_model(folder).digest)
    report = _edited(target.site.report(target.site.evidence[GOOD]), about).replace(b'"x"', f'"{run_id}"'.encode())
    target.site.put(run_id, "report.json", report)
    target.alias(version)


@EVIDENCE.of("fewer rows than it says", holds("4"))
def _fewer_rows(target: Target) -> None:
    folder, version, run_id = target.fresh(good=False)
    rows = scores(good=True)
    path = target.site.scratch / run_id / "few.parquet"
    few = rows.take(rows.y == (rows.p > 0.5))
    digest = few.write(path)
    evidence = make_evidence(few, identify_model(folder), run_id=run_id, rows_sha256=digest)
    said = replace(evidence, data=DataIdentity(digest=data_digest(None, rows.y), n=len(rows.y)))
    target.site.put(run_id, "rows.parquet", path.read_bytes())
    target.site.put(run_id, "report.json", said.to_json())
    target.alias(version)


@EVIDENCE.of("a report without a model", holds("4"))
def _no_model(target: Target) -> None:
    _, version, run_id = target.fresh(good=False)

    def change(state: dict[str, Any]) -> None:
        state["model"] = None

    target.site.put(run_id, "report.json", _edited(target.site.report(run_id), change))
    target.alias(version)


@EVIDENCE.of("a report with further fields", holds("4"))
def _further_fields(target: Target) -> None:
    _, version, run_id = target.fresh(good=False)
    state = json.loads(target.site.report(run_id)) | {"verdict": "pass"}
    target.site.put(run_id, "report.json", json.dumps(state, sort_keys=True, separators=(",", ":")).encode())
    target.alias(version)


@EVIDENCE.of("a report that is no JSON", holds("4"))
def _no_json(target: Target) -> None:
    _, version, run_id = target.fresh(good=False)
    target.site.put(run_id, "report.json", b"{" * 100_000)
    target.alias(version)


@EVIDENCE.of("rows that are no parquet", holds("4"))
def _no_parquet(target: Target) -> None:
    _, version, run_id = target.fresh(good=False)

    def change(state: dict[str, Any]) -> None:
        state["rows_sha256"] = f"sha256:{hashlib.sha256(b'PAR1 no').hexdigest()}"

    target.site.put(run_id, "rows.parquet", b"PAR1 no")
    target.site.put(run_id, "report.json", _edited(target.site.report(run_id), change))
    target.alias(version)


# --- too old, or gone ------------------------------------------------------------------------------------------------


def _dated(days: float) -> dict[str, str]:
    return {"created_at": (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds")}


EVIDENCE.add("40 days old", lambda t: t.alias(t.fresh(**_dated(-40))[1]), holds("4"), quick=True)
EVIDENCE.add("of next month", lambda t: t.alias(t.fresh(**_dated(30))[1]), holds("4"))


@EVIDENCE.of("a new run with an old report", holds("4"))
def _old_report_in_new_run(target: Target) -> None:
    folder, version, run_id = target.fresh(**_dated(-40))
    later = _new_run(target, identify_model(folder).digest, rows=target.site.rows(run_id))
    target.site.put(later, "report.json", target.site.report(run_id))
    target.alias(version)


@EVIDENCE.of("deleted after it was gated", holds("4"), quick=True)
def _deleted(target: Target) -> None:
    _, version, run_id = target.fresh()
    if target.site.guarded:
        assert target.call("caliber/gate", version=version, target="champion").body["status"] == "passed"
    target.client.delete_run(run_id)
    target.alias(version)


@EVIDENCE.of("overwritten after it was gated", holds("4"))
def _overwritten(target: Target) -> None:
    folder, version, run_id = target.fresh()
    if target.site.guarded:
        assert target.call("caliber/gate", version=version, target="champion").body["status"] == "passed"
    worse = target.site.evaluate(folder, good=False)
    for name, content in (("report.json", target.site.report(worse)), ("rows.parquet", target.site.rows(worse))):
        target.site.put(run_id, name, content)
    target.alias(version)


@EVIDENCE.of("a worse evaluation came after the better one", holds("4"))
def _newer_and_worse(target: Target) -> None:
    folder, version, _ = target.fresh()
    target.site.evaluate(folder, good=False)
    target.alias(version)


# --- signatures ------------------------------------------------------------------------------------------------------


@EVIDENCE.of("not signed", holds("4", "signed"), quick=True)
def _unsigned(target: Target) -> None:
    target.alias(target.fresh(signed=False)[1], "signed")


@EVIDENCE.of("signed with a key of ours", holds("4", "signed"))
def _own_key(target: Target) -> None:
    _, version, run_id = target.fresh(signed=False)
    target.site.sign(run_id, FOREIGN_KEYS)
    target.alias(version, "signed")


@EVIDENCE.of("the signature of another report", holds("4", "signed"), quick=True)
def _other_signature(target: Target) -> None:
    _, version, run_id = target.fresh(signed=False)
    other = (target.site.scratch / target.site.evidence[GOOD] / "report.json").read_bytes()
    _trusted(target, run_id, other)
    target.alias(version, "signed")


@EVIDENCE.of("a decision's signature for evidence", holds("4", "signed"))
def _other_purpose(target: Target) -> None:
    from ._site import EVIDENCE_KEYS

    _, version, run_id = target.fresh(signed=False)
    target.site.sign(run_id, Keyring.parse(EVIDENCE_KEYS), purpose="decision")
    target.alias(version, "signed")


@EVIDENCE.of("forged as a whole", holds("4", "signed"), quick=True)
def _forged(target: Target) -> None:
    folder = target.site.model()
    version = target.register(target.site.upload(folder))
    target.site.evaluate(folder, signed=False)  # of rows that somebody made up
    target.alias(version, "signed")


@EVIDENCE.of("forged, with the signature of a good one", holds("4", "signed"))
def _forged_and_signed(target: Target) -> None:
    folder = target.site.model()
    version = target.register(target.site.upload(folder))
    run_id = target.site.evaluate(folder, signed=False)
    _trusted(target, run_id, target.site.report(target.site.evidence[GOOD]))
    target.alias(version, "signed")


@EVIDENCE.of("signed, and then edited to name our digest", holds("4", "signed"))
def _edited_after_signing(target: Target) -> None:
    folder = target.site.model()
    version = target.register(target.site.upload(folder))
    run_id = target.site.evaluate(target.site.model())
    digest = identify_model(folder).digest
    target.site.put(run_id, "report.json", _edited(target.site.report(run_id), _about(digest, run_id)))
    _claim(target, run_id, digest)
    target.alias(version, "signed")


@EVIDENCE.of("a signed good report in another run", holds("4", "signed"))
def _signed_elsewhere(target: Target) -> None:
    folder = target.site.model()
    version = target.register(target.site.upload(folder))
    good = target.site.evidence[GOOD]
    run_id = _new_run(
        target, identify_model(folder).digest, report=target.site.report(good), rows=target.site.rows(good)
    )
    _trusted(target, run_id, target.site.report(good))
    target.alias(version, "signed")


for _name, _signature in {"empty": b"", "of ones": b"v1,evaluator," + b"1" * 64, "binary": bytes(range(256))}.items():

    def _strange(target: Target, signature: bytes = _signature) -> None:
        _, version, run_id = target.fresh(signed=False)
        target.site.put(run_id, "report.sig", signature)
        target.alias(version, "signed")

    EVIDENCE.add(f"a signature that is {_name}", _strange, holds("4", "signed"))


@EVIDENCE.of("the holder's, forged to be worse than ours", holds("5", "signed"))
def _forged_opponent(target: Target) -> None:
    best, holder, _ = target.fresh()
    target.alias(holder, "signed")
    assert target.holder("signed") == holder
    folder, rows = target.site.model(), scores(good=True)
    target.site.evaluate(folder, rows=replace(rows, p=0.3 + 0.4 * rows.p))
    version = target.register(target.site.upload(folder))
    target.site.evaluate(best, rows=replace(rows, p=1.0 - rows.p), signed=False)
    target.alias(version, "signed")


def _trusted(target: Target, run_id: str, content: bytes) -> None:
    from ._site import EVIDENCE_KEYS

    target.site.sign(run_id, Keyring.parse(EVIDENCE_KEYS), content=content)


EVIDENCE.add("none, by another target", lambda t: t.alias(UNKNOWN, "signed"), holds(UNKNOWN, "signed"))
EVIDENCE.add("that fails, by another target", lambda t: t.alias(BAD, "signed"), holds(BAD, "signed"))


@EVIDENCE.of("the champion's own, taken away before the duel", holds(BAD, "challenged"))
def _no_opponent(target: Target) -> None:
    """The comparison asks for the champion's evidence on the same data."""
    _, version, run_id = target.fresh()
    target.alias(version, "challenged")
    assert target.holder("challenged") == version
    target.client.delete_run(run_id)
    target.alias(BAD, "challenged")
