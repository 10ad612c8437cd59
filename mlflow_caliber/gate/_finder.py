"""Which evidence a gate believes: its own file, about these very files and, where the policy asks for it, signed.

Anybody who may write runs can tag one as an evaluation of any model. Runs that cannot be believed are passed over, so
that a stranger's run neither helps a version nor stands in its way.
"""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_caliber._signing import Keyring
from mlflow_caliber.evidence import Evidence, evidence_signer, find_all_evidence, load_evidence, short_digest
from mlflow_caliber.exceptions import CaliberError, EvidenceError

__all__ = ["EvidenceFinder"]

_LOOKED_AT = 100


class EvidenceFinder:
    """
    Looks for evidence on a model.

    Parameters
    ----------
    client : MlflowClient
        Reads runs and their artifacts.
    keys : Keyring or None
        Verify signatures.
    demanded : bool
        Whether unsigned evidence is worth nothing.
    """

    def __init__(self, client: MlflowClient, keys: Keyring | None, *, demanded: bool) -> None:
        self.client = client
        self._keys = keys
        self._demanded = demanded

    def bound(self, run_id: str, digest: str, who: str) -> Evidence:
        """The evidence of a run, if it is on the files with this digest."""
        if not self._is_there(run_id):
            raise EvidenceError(f"Evidence for {who} must be of a run that is there, got {run_id!r:.50}.")
        evidence = load_evidence(run_id, self.client)
        if evidence.model is None or evidence.model.digest != digest:
            about = "none" if evidence.model is None else f"another one ({short_digest(evidence.model.digest)})"
            raise EvidenceError(
                f"Evidence for {who} must be about its model ({short_digest(digest)}), got run {run_id}, "
                f"which is about {about}."
            )
        return evidence

    def _is_there(self, run_id: str) -> bool:
        """MLflow still gives runs that were deleted."""
        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException:
            return False

    def newest(
        self, digest: str, who: str, *, data_digest: str | None = None, strict: bool = False
    ) -> tuple[str, Evidence] | None:
        """
        The newest evidence that can be believed, and its run.

        Unless it is ``strict``, evidence that only lacks a signature is given when there is nothing better: the rule
        that demands one then says so.

        Raises
        ------
        EvidenceError
            If there are runs but none can be believed: why not the newest one.
        """
        unsigned, problem = None, None
        runs = find_all_evidence(self.client, digest, data_digest=data_digest)
        for run_id in runs[: -_LOOKED_AT - 1 : -1]:
            try:
                evidence = self.bound(run_id, digest, who)
            except CaliberError as error:
                problem = problem or error
                continue
            if data_digest is not None and evidence.data.digest != data_digest:
                continue
            if self.is_signed(run_id, evidence):
                return run_id, evidence
            unsigned = unsigned or (run_id, evidence)
        if unsigned is None and problem is not None and not strict:
            raise problem
        return None if strict else unsigned

    def all(self, digest: str) -> list[tuple[str, Evidence]]:
        """Everything that can be believed of a model."""
        found = []
        for run_id in find_all_evidence(self.client, digest):
            try:
                evidence = self.bound(run_id, digest, "the model")
            except CaliberError:
                continue
            if self.is_signed(run_id, evidence):
                found.append((run_id, evidence))
        return found

    def is_signed(self, run_id: str, evidence: Evidence) -> bool:
        """Whether a trusted evaluator signed it, or nobody asks for that."""
        if not self._demanded:
            return True
        try:
            return self._keys is not None and bool(evidence_signer(run_id, evidence, self.client, self._keys))
        except CaliberError:
            return False
