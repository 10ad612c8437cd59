"""The record itself: identities and report, read back strictly, written canonically."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlflow_caliber._version import __version__
from mlflow_caliber.evidence._digests import sha256
from mlflow_caliber.exceptions import EvidenceError, StateError
from mlflow_caliber.report import ReliabilityReport

FORMAT_VERSION = 1

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """
    Which model was evaluated: ``digest`` says it, the rest helps to find it.

    Examples
    --------
    >>> ModelIdentity(digest="sha256:" + "0" * 64, uri="models:/churn/1").model_id is None
    True
    """

    digest: str
    uri: str
    model_id: str | None = None
    model_uuid: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataIdentity:
    """
    On which rows it was evaluated: ``digest`` of features, labels and weights, a ``name`` for people, ``n`` rows.

    Examples
    --------
    >>> DataIdentity(digest="sha256:" + "0" * 64, name="acs-2016", n=5000).n
    5000
    """

    digest: str
    name: str | None = None
    n: int


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """
    The report of one model on one data set, bound to both by digests; the content of ``caliber/report.json``.

    Parameters
    ----------
    model : ModelIdentity or None
        The model's digest and where it lies; None for predictions that came without a model, which pass no gate.
    data : DataIdentity
        The data set's digest, name and number of rows.
    report : dict
        ``ReliabilityReport.to_dict()``.
    drift : dict, optional
        ``DriftReport.to_dict()``, when a reference was given.
    run_id : str, optional
        The MLflow run that holds the artifacts.
    rows_sha256 : str, optional
        The digest of ``caliber/rows.parquet``.
    policy_sha256 : str, optional
        The digest of the policy that it was made for. A gate with another policy refuses it.
    format_version, caliber_version, created_at
        Written by default: 1, this package's version, and the time in UTC as ISO 8601.

    Examples
    --------
    >>> evidence = Evidence(
    ...     model=ModelIdentity(digest="sha256:" + "0" * 64, uri="models:/churn/1"),
    ...     data=DataIdentity(digest="sha256:" + "1" * 64, n=2),
    ...     report={"metrics": {"brier": 0.25}, "not_computed": {}},
    ... )
    >>> Evidence.from_dict(evidence.to_dict()) == evidence
    True
    """

    model: ModelIdentity | None
    data: DataIdentity
    report: dict[str, Any]
    drift: dict[str, Any] | None = None
    run_id: str | None = None
    rows_sha256: str | None = None
    policy_sha256: str | None = None
    format_version: int = FORMAT_VERSION
    caliber_version: str = __version__
    created_at: str = field(default_factory=_now)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        model = None if self.model is None else dict(vars(self.model))
        state = {**vars(self), "model": model, "data": dict(vars(self.data))}
        if self.policy_sha256 is None:  # as it was before there was such a field
            del state["policy_sha256"]
        return state

    def to_json(self) -> bytes:
        """Canonical JSON: keys sorted, no blanks, UTF-8; the bytes of ``caliber/report.json``."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    @property
    def sha256(self) -> str:
        """The digest of :meth:`to_json`, so of the file."""
        return sha256(self.to_json())

    @property
    def reliability(self) -> ReliabilityReport:
        """The report as a value; an :class:`EvidenceError` if it is none."""
        try:
            return ReliabilityReport.from_dict(self.report)
        except StateError as error:
            raise EvidenceError(f"evidence.report must be a reliability report: {error}") from error

    @classmethod
    def from_dict(cls, state: Any) -> Evidence:
        """
        Read :meth:`to_dict` back.

        Raises
        ------
        EvidenceError
            If a field is missing, unknown or of the wrong kind, or if the format is another one.
        """
        if isinstance(state, Mapping) and state.get("format_version") != FORMAT_VERSION:
            raise EvidenceError(
                f"Evidence must have format_version {FORMAT_VERSION}, got {state.get('format_version')!r}: it was "
                f"written by mlflow-caliber {state.get('caliber_version')!r}, this is {__version__}."
            )
        if isinstance(state, Mapping):
            state = {"policy_sha256": None, **state}
        fields = _read(state, _EVIDENCE_FIELDS, "evidence")
        known = fields.pop("model")
        model = None if known is None else ModelIdentity(**_read(known, _MODEL_FIELDS, "evidence.model"))
        data = DataIdentity(**_read(fields.pop("data"), _DATA_FIELDS, "evidence.data"))
        return cls(model=model, data=data, **fields)


Check = Callable[[Any], bool]


def _is(*kinds: type) -> Check:
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_instant(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


_TEXT = (_is(str), "text")
_TEXT_OR_NULL = (_or_none(_is(str)), "text or null")
_A_DIGEST = (_is_digest, "'sha256:' and 64 hexadecimal digits")
_OBJECT = (_is(dict), "an object")
Fields = Mapping[str, tuple[Check, str]]
_MODEL_FIELDS: Fields = {"digest": _A_DIGEST, "uri": _TEXT, "model_id": _TEXT_OR_NULL, "model_uuid": _TEXT_OR_NULL}
_DATA_FIELDS: Fields = {
    "digest": _A_DIGEST,
    "name": _TEXT_OR_NULL,
    "n": (lambda value: _is(int)(value) and value > 0, "a positive whole number"),
}
_EVIDENCE_FIELDS: Fields = {
    "format_version": (_is(int), "a whole number"),
    "caliber_version": _TEXT,
    "created_at": (_is_instant, "a time with its zone, in ISO 8601"),
    "model": (_or_none(_is(dict)), "an object or null"),
    "data": _OBJECT,
    "report": _OBJECT,
    "drift": (_or_none(_is(dict)), "an object or null"),
    "run_id": _TEXT_OR_NULL,
    "rows_sha256": (_or_none(_is_digest), f"{_A_DIGEST[1]}, or null"),
    "policy_sha256": (_or_none(_is_digest), f"{_A_DIGEST[1]}, or null"),
}


def _read(state: Any, fields: Fields, where: str) -> dict[str, Any]:
    """The fields of ``state``, exactly those that are wanted and each of its kind."""
    if not isinstance(state, Mapping):
        raise EvidenceError(f"{where} must be an object, got a {type(state).__name__}.")
    if set(state) != set(fields):
        raise EvidenceError(f"{where} must have the fields {', '.join(fields)}, got {', '.join(map(str, state))}.")
    for name, (check, wanted) in fields.items():
        if not check(state[name]):
            raise EvidenceError(f"{where}.{name} must be {wanted}, got {state[name]!r}.")
    return dict(state)
