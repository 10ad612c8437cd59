"""What a decision needs from MLflow beside the evidence: its signature, artifacts, and the past of two versions.

Everything is returned as arguments of :func:`~mlflow_caliber.gate.decide`; nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from mlflow import MlflowClient

from mlflow_caliber._signing import Keyring
from mlflow_caliber.evidence import (
    Evidence,
    evidence_signer,
    load_rows,
    short_digest,
)
from mlflow_caliber.exceptions import CaliberError, EvidenceError
from mlflow_caliber.gate._comparison import PairedRows
from mlflow_caliber.gate._decision import GateDecision
from mlflow_caliber.gate._finder import EvidenceFinder
from mlflow_caliber.gate.policy import TargetPolicy

TAG_SEQUENTIAL = "caliber_sequential"
"""Tag of a version: what its sequential comparisons have used so far, so that nothing of it can be left out later."""


def evidence_facts(
    client: MlflowClient, policy: TargetPolicy, evidence: Evidence, run_id: str, keys: Keyring | None
) -> dict[str, Any]:
    """The arguments ``signer``, ``no_signature`` and ``artifacts``, as far as the policy or the keys ask for them."""
    facts: dict[str, Any] = {}
    if keys is not None:
        try:
            facts["signer"] = evidence_signer(run_id, evidence, client, keys)
        except CaliberError as error:
            facts["no_signature"] = str(error)
    elif policy.signed_evidence:
        facts["no_signature"] = "there are no keys to check it with"
    if policy.artifacts:
        facts["artifacts"] = frozenset(_artifacts(client, run_id, None))
    return facts


def _artifacts(client: MlflowClient, run_id: str, folder: str | None) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _artifacts(client, run_id, entry.path)
        else:
            yield entry.path


# --- what two versions went through together -------------------------------------------------------------------------


def paired_history(
    finder: EvidenceFinder, candidate: str, champion: str, *, used: Iterable[str] = ()
) -> tuple[PairedRows, ...]:
    """
    Every data set on which both models were evaluated, by the time of the candidate's first evaluation on it.

    Parameters
    ----------
    finder : EvidenceFinder
        Finds evidence.
    candidate, champion : str
        The digests of the two models.
    used : iterable of str
        Short digests of the data sets that an earlier judgement used; see :func:`used_before`.

    Returns
    -------
    tuple of PairedRows
        The argument of ``decide(history=...)``, once called.

    Raises
    ------
    EvidenceError
        If a data set that was used before is not there any more.
    """
    ours, theirs = _by_data(finder, candidate), _by_data(finder, champion)
    both = [digest for digest in ours if digest in theirs]
    gone = sorted(set(used) - {short_digest(digest) for digest in both})
    if gone:
        raise EvidenceError(
            "A sequential comparison must have every data set that it was judged on before, got none of: "
            f"{', '.join(gone)}. A run with evidence was deleted or changed; what was seen cannot be left out."
        )
    return tuple(
        PairedRows(
            digest,
            *(load_rows(evidence, run_id, finder.client) for run_id, evidence in (ours[digest], theirs[digest])),
        )
        for digest in both
    )


def _by_data(finder: EvidenceFinder, digest: str) -> dict[str, tuple[str, Evidence]]:
    """The first evidence on each data set, in the order in which it was made."""
    found = finder.all(digest)
    found.sort(key=lambda entry: datetime.fromisoformat(entry[1].created_at))
    first: dict[str, tuple[str, Evidence]] = {}
    for run_id, evidence in found:
        first.setdefault(evidence.data.digest, (run_id, evidence))
    return first


def used_before(tags: Mapping[str, str], champion: str) -> tuple[str, ...]:
    """
    The data sets that the version's tag says were used in its comparison with this champion.

    Raises
    ------
    EvidenceError
        If the tag is not as the gate wrote it.
    """
    if TAG_SEQUENTIAL not in tags:
        return ()
    try:
        state = json.loads(tags[TAG_SEQUENTIAL])
        return tuple(map(str, state["data"])) if state["champion"] == champion else ()
    except (ValueError, TypeError, KeyError) as error:
        raise EvidenceError(
            f"The tag {TAG_SEQUENTIAL} must be as the gate wrote it, got {tags[TAG_SEQUENTIAL]!r:.80}."
        ) from error


def sequential_tag(decision: GateDecision, champion: str) -> dict[str, str]:
    """The tag that keeps the state of a decision's sequential comparisons; nothing when it has none."""
    tested = {outcome.rule: outcome.sequential for outcome in decision.rules if outcome.sequential is not None}
    if not tested:
        return {}
    data = [short_digest(digest) for digest in next(iter(tested.values()))["data"]]
    rules = {rule: {key: found[key] for key in ("e_value", "e_value_against", "n")} for rule, found in tested.items()}
    state = {"champion": champion, "data": data, "rules": rules}
    return {TAG_SEQUENTIAL: json.dumps(state, separators=(",", ":"), allow_nan=False)}
