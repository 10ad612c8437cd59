"""A registered model, held against the decision that a guard signed for it."""

from __future__ import annotations

import re

from mlflow import MlflowClient

from mlflow_caliber._signing import DECISION_KEYS, Keyring
from mlflow_caliber.evidence import identify_model
from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.signed_decision import SignedDecision, verify_version

__all__ = ["verify_model"]

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<place>[^/@]+))")


def verify_model(model_uri: str, target: str | None = None, *, keys: Keyring | None = None) -> SignedDecision:
    """
    Verify that a guard signed a registered model: these files, for this alias, still valid.

    Parameters
    ----------
    model_uri : str
        ``models:/name@alias``, ``models:/name/version`` or ``models:/name/Stage``.
    target : str, optional
        What it must be signed for; by default the alias or stage of the URI, and anything for a version.
    keys : Keyring, optional
        By default those of ``MLFLOW_CALIBER_DECISION_KEYS``.

    Returns
    -------
    SignedDecision

    Raises
    ------
    ConfigError
        If the URI is no registered model's, or if there are no keys.
    SignatureError
        If it is not signed, or if what was signed is not what is there.
    EvidenceError
        If the files cannot be read.
    MlflowException
        If MLflow does not find the version.

    Examples
    --------
    >>> verify_model("models:/churn@champion").status  # doctest: +SKIP
    'passed'
    """
    match = _URI.fullmatch(model_uri)
    if match is None:
        raise ConfigError(f"The model must be models:/name@alias or models:/name/version, got {model_uri!r}.")
    keys = keys or Keyring.from_environment(DECISION_KEYS)
    if keys is None:
        raise ConfigError(f"{DECISION_KEYS} must hold the server's keys, got none.")
    client, name = MlflowClient(), match["name"]
    version, used_as = _resolve(client, name, match["alias"], match["place"])
    digest = identify_model(f"models:/{name}/{version}").digest
    return verify_version(client, name, version, digest, target=target or used_as, keys=keys)


def _resolve(client: MlflowClient, name: str, alias: str | None, place: str | None) -> tuple[str, str | None]:
    """The version, and the alias or stage that the URI named it by."""
    if alias is not None:
        return str(client.get_model_version_by_alias(name, alias).version), alias
    assert place is not None  # one of the two matched
    if place.isdigit():
        return place, None
    from mlflow_caliber.gate.policy import canonical_stage

    stage = canonical_stage(place)
    found = (
        [] if stage is None else [v for v in client.search_model_versions(f"name='{name}'") if v.current_stage == stage]
    )
    if not found:
        raise ConfigError(f"The model must be models:/name@alias or models:/name/version, got {place!r}.")
    return str(max(int(v.version) for v in found)), stage
