"""What a guard signed: this very version may hold this target, on this policy and this evidence, until then.

The guarding server writes it to the version's tags in the transaction that moves the alias. Tags can be copied and
forged; a signature over the version's identity cannot, so CI and serving hosts verify it without asking the server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from mlflow_caliber._signing import Keyring
from mlflow_caliber.exceptions import SignatureError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["TAG_DECISION", "TAG_SIGNATURE", "SignedDecision", "tags_of", "verify_version"]

# Each followed by the target: a version may hold several, each by a decision of its own.
TAG_DECISION = "caliber_decision_"
TAG_SIGNATURE = "caliber_signature_"

_PURPOSE = "decision"
_FORMAT = 1


def tags_of(target: str) -> tuple[str, str]:
    """
    The tags of a version that hold the decision for a target, and its signature.

    Examples
    --------
    >>> tags_of("pre-prod")
    ('caliber_decision_pre_prod', 'caliber_signature_pre_prod')
    """
    # Unity Catalog rejects hyphens in the keys of tags.
    name = target.lower().replace("-", "_")
    return TAG_DECISION + name, TAG_SIGNATURE + name


@dataclass(frozen=True, kw_only=True)
class SignedDecision:
    """
    The content of the tag ``caliber_decision_<target>``.

    Parameters
    ----------
    name, version : str
        The registered model and the version's number.
    created_at : int
        When the version was created, in milliseconds: names and numbers can be used again, this can not.
    model_digest : str
        Of the version's files.
    target : str
        The alias or stage.
    status : {"passed", "overridden"}
        Whether the gate passed, or somebody answered for it.
    policy_sha256, evidence_sha256, evidence_run_id : str
        What was decided on.
    decided_at : str
        ISO 8601, with its zone.
    expires_at : str or None
        Until when it holds.

    Examples
    --------
    >>> decision = SignedDecision(
    ...     name="churn", version="2", created_at=1767225600000, model_digest="sha256:" + "0" * 64, target="champion",
    ...     status="passed", policy_sha256="sha256:" + "1" * 64, evidence_sha256="sha256:" + "2" * 64,
    ...     evidence_run_id="7f", decided_at="2026-01-01T00:00:00+00:00", expires_at=None,
    ... )
    >>> keys = Keyring.parse("2026:" + "k" * 32)
    >>> SignedDecision.from_tags(decision.to_tags(keys), "champion", keys) == decision
    True
    """

    name: str
    version: str
    created_at: int
    model_digest: str
    target: str
    status: str
    policy_sha256: str
    evidence_sha256: str
    evidence_run_id: str
    decided_at: str
    expires_at: str | None

    def to_tags(self, keys: Keyring | None) -> dict[str, str]:
        """The tags that hold it; without keys there is no signature among them."""
        content = json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True, separators=(",", ":"))
        decision, signature = tags_of(self.target)
        return {decision: content} | ({} if keys is None else {signature: keys.sign(_PURPOSE, content.encode())})

    @classmethod
    def from_tags(cls, tags: Mapping[str, str], target: str, keys: Keyring) -> Self:
        """
        Read the decision for a target in a version's tags, after its signature was verified.

        Raises
        ------
        SignatureError
            If there is no decision, no signature, a forged one, or one of a key that is not known.
        """
        content, signature = (tags.get(key) for key in tags_of(target))
        if content is None or signature is None:
            missing = tags_of(target)[0 if content is None else 1]
            raise SignatureError(f"The version must carry a signed decision for {target}, got no tag {missing!r}.")
        keys.verify(_PURPOSE, content.encode(), signature)
        state: dict[str, Any] = json.loads(content)
        if state.pop("format", None) != _FORMAT or set(state) != {field.name for field in fields(cls)}:
            raise SignatureError(f"The signed decision must have format {_FORMAT}: another mlflow-caliber wrote it.")
        return cls(**state)

    def check(self, *, name: str, version: str, created_at: int, model_digest: str, target: str, now: datetime) -> None:
        """
        Hold the decision against the version that it is found on.

        Parameters
        ----------
        name, version, created_at, model_digest
            The version as the registry and its files show it.
        target : str
            The alias or stage that it is used for.
        now : datetime
            The time, with its zone.

        Raises
        ------
        SignatureError
            If it is about another version, other files or another target, or if it has expired.
        """
        here = {"name": name, "version": version, "created_at": created_at, "model_digest": model_digest}
        here["target"] = target
        for field, found in here.items():
            signed = getattr(self, field)
            if signed != found:
                raise SignatureError(f"The signed decision must be about {field} {found!r}, got one about {signed!r}.")
        if self.expires_at is not None and now >= datetime.fromisoformat(self.expires_at):
            raise SignatureError(f"The signed decision must hold now, got one that expired at {self.expires_at}.")


def verify_version(
    client: MlflowClient, name: str, version: str, model_digest: str, *, target: str | None, keys: Keyring
) -> SignedDecision:
    """
    The decision that a version carries, verified against its row in the registry and the files at hand.

    Parameters
    ----------
    client : MlflowClient
        Of the registry.
    name, version : str
        The version.
    model_digest : str
        Of the files that are about to be used.
    target : str or None
        The alias or stage that it is used as, which it must hold; None if any will do.
    keys : Keyring
        The server's keys, old ones included.

    Raises
    ------
    SignatureError
        If the decision is missing, forged, expired, or about something else.
    MlflowException
        If MLflow does not find the version.
    """
    row = client.get_model_version(name, version)
    held = [*(row.aliases or ()), row.current_stage]
    if target is not None and target not in held:
        raise SignatureError(f"Version {version} of {name!r} must be {target} to be used as that, got one that is not.")
    wanted = [target] if target is not None else [each for each in held if tags_of(each)[0] in row.tags]
    problem = SignatureError(f"Version {version} of {name!r} must hold a target that it was signed for, got none.")
    for each in wanted:
        try:
            decision = SignedDecision.from_tags(row.tags, each, keys)
            decision.check(
                name=name,
                version=version,
                created_at=int(row.creation_timestamp),
                model_digest=model_digest,
                target=each,
                now=datetime.now(UTC),
            )
        except SignatureError as error:
            problem = error
        else:
            return decision
    raise problem
