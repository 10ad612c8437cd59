"""``caliber.yaml``: where it is found, what may stand in it, and its JSON Schema.

The file's shape is written down once, in :data:`SHAPE`. The loader, the published schema and the reference page are all
made from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from mlflow_caliber._validation import check_choice, check_known_keys
from mlflow_caliber.exceptions import ConfigError, InvalidInputError
from mlflow_caliber.metrics import METRIC_PREFIX, METRICS

__all__ = ["ENVIRONMENT_VARIABLE", "FILE_NAME", "SHAPE", "check_section", "find_config", "json_schema", "read_config"]

FILE_NAME = "caliber.yaml"
ENVIRONMENT_VARIABLE = "CALIBER_CONFIG"


# --- the kinds of values ---------------------------------------------------------------------------------------------


class Shape(Protocol):
    """A kind of value: ``check`` returns it with its defaults filled in, ``schema`` says the same in JSON Schema."""

    @property
    def about(self) -> str: ...
    def check(self, value: Any, where: str) -> Any: ...
    def schema(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Number:
    """A finite number, with closed or (``above``, ``below``) open ends."""

    about: str
    at_least: float | None = None
    above: float | None = None
    below: float | None = None
    default: float | None = None

    def check(self, value: Any, where: str) -> float:
        """The number as a float."""
        # The last comparison is false for NaN; an infinite bound would be no bound.
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise ConfigError(f"{where} must be a number{self._range}, got {value!r}.")
        low, above, below = self.at_least, self.above, self.below
        too_low = (low is not None and value < low) or (above is not None and value <= above)
        if too_low or (below is not None and value >= below):
            raise ConfigError(f"{where} must be a number{self._range}, got {value!r}.")
        return float(value)

    @property
    def _range(self) -> str:
        ends = {"at least": self.at_least, "above": self.above, "below": self.below}
        return "".join(f" {name} {end:g}" for name, end in ends.items() if end is not None)

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        ends = {"minimum": self.at_least, "exclusiveMinimum": self.above, "exclusiveMaximum": self.below}
        return {"type": "number", **_given(ends), **_given({"default": self.default})}


@dataclass(frozen=True)
class Count:
    """A whole number, at least ``at_least``."""

    about: str
    at_least: int = 0
    default: int | None = None

    def check(self, value: Any, where: str) -> int:
        """The number itself."""
        if isinstance(value, bool) or not isinstance(value, int) or value < self.at_least:
            raise ConfigError(f"{where} must be a whole number of at least {self.at_least}, got {value!r}.")
        return value

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"type": "integer", "minimum": self.at_least, **_given({"default": self.default})}


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    about: str
    choices: tuple[str, ...]
    default: str | None = None

    def check(self, value: Any, where: str) -> str:
        """The word itself."""
        try:
            return check_choice(value, where, self.choices)
        except InvalidInputError as error:
            raise ConfigError(str(error)) from None

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"enum": list(self.choices), **_given({"default": self.default})}


@dataclass(frozen=True)
class Flag:
    """Yes or no."""

    about: str
    default: bool | None = None

    def check(self, value: Any, where: str) -> bool:
        """The answer itself."""
        if not isinstance(value, bool):
            raise ConfigError(f"{where} must be true or false, got {value!r}.")
        return value

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"type": "boolean", **_given({"default": self.default})}


@dataclass(frozen=True)
class Word:
    """A text that matches a pattern from end to end."""

    about: str
    pattern: str
    default: str | None = None

    def check(self, value: Any, where: str) -> str:
        """The text itself."""
        if not isinstance(value, str) or re.fullmatch(self.pattern, value) is None:
            raise ConfigError(f"{where} must match {self.pattern}, got {value!r}.")
        return value

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"type": "string", "pattern": f"^{self.pattern}$", **_given({"default": self.default})}


@dataclass(frozen=True)
class ListOf:
    """A list with at least one entry."""

    about: str
    of: Shape
    default: None = None

    def check(self, value: Any, where: str) -> list[Any]:
        """The checked entries."""
        if not isinstance(value, list) or not value:
            raise ConfigError(f"{where} must be a list with at least one entry, got {value!r}.")
        return [self.of.check(entry, f"{where}[{i}]") for i, entry in enumerate(value)]

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        return {"type": "array", "minItems": 1, "items": self.of.schema()}


@dataclass(frozen=True)
class Keys:
    """A mapping with known keys: ``required`` ones, and at least one of ``any_of`` when that is given."""

    about: str
    keys: Mapping[str, Any]
    required: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    default: None = None

    def check(self, value: Any, where: str) -> dict[str, Any]:
        """The checked values, with defaults for those that were left out."""
        given = _mapping(value, where)
        check_known_keys(given, self.keys, where)
        for key in self.required:
            if key not in given:
                raise ConfigError(f"{where} must have the key {key!r}, got {_listed(given)}.")
        if self.any_of and not set(self.any_of) & set(given):
            raise ConfigError(f"{where} must have the key {' or '.join(map(repr, self.any_of))}, got {_listed(given)}.")
        checked = {key: self.keys[key].check(entry, _inside(where, key)) for key, entry in given.items()}
        defaults = {key: shape.default for key, shape in self.keys.items() if shape.default is not None}
        return {**defaults, **checked}

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        described = {key: {"description": shape.about, **shape.schema()} for key, shape in self.keys.items()}
        schema = {"type": "object", "additionalProperties": False, "properties": described}
        if self.required:
            schema["required"] = list(self.required)
        if self.any_of:
            schema["anyOf"] = [{"required": [key]} for key in self.any_of]
        return schema


@dataclass(frozen=True)
class Named:
    """A mapping with free names as keys: at least one."""

    about: str
    name: Word
    of: Shape
    default: None = None

    def check(self, value: Any, where: str) -> dict[str, Any]:
        """The checked values under their names."""
        given = _mapping(value, where)
        if not given:
            raise ConfigError(f"{where} must name at least one entry, got none.")
        names = [self.name.check(name, f"A name in {where}") for name in given]
        return {name: self.of.check(given[name], f"{where}.{name}") for name in names}

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        names = {"pattern": f"^{self.name.pattern}$"}
        return {"type": "object", "minProperties": 1, "propertyNames": names, "additionalProperties": self.of.schema()}


@dataclass(frozen=True)
class Either:
    """One of two mappings, told apart by whether ``key`` is there."""

    about: str
    key: str
    there: Keys
    absent: Keys
    default: None = None

    def check(self, value: Any, where: str) -> dict[str, Any]:
        """The checked mapping."""
        shape = self.there if self.key in _mapping(value, where) else self.absent
        return shape.check(value, where)

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        both = (self.absent, self.there)
        return {"oneOf": [{"description": shape.about, **shape.schema()} for shape in both]}


def _given(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a mapping of keys to values, got {value!r}.")
    return value


def _inside(where: str, key: str) -> str:
    return key if where == FILE_NAME else f"{where}.{key}"


def _listed(keys: Any) -> str:
    return ", ".join(map(str, keys)) or "no key"


# --- the file --------------------------------------------------------------------------------------------------------

_METRIC = Choice("The metric, as MLflow names it.", tuple(METRIC_PREFIX + key for key in METRICS))
_DIRECTED = tuple(METRIC_PREFIX + key for key, metric in METRICS.items() if metric.greater_is_better is not None)
_ALIAS = Word("The alias or stage of the version to compare with.", "[A-Za-z0-9_-]+")
_SEGMENT = Word(
    "`worst`: every segment of the evaluation has to keep it; or one segment, as `<column>=<value>`.",
    "(worst|[^=]+=.+)",
)

_BOUND = Keys(
    "A bound on one metric.",
    {
        "metric": _METRIC,
        "min": Number("The least value that passes."),
        "max": Number("The largest value that passes."),
        "segment": _SEGMENT,
        "min_rows": Count("With `segment`: smaller segments are passed over.", at_least=1),
        "confidence": Number(
            "Hold the bound against the interval, each end a one-sided bound of this level, and not against the value.",
            above=0.5,
            below=1.0,
        ),
    },
    required=("metric",),
    any_of=("min", "max"),
)
_COMPARISON = Keys(
    "A comparison with the version that another alias points to, on the same rows.",
    {
        "metric": Choice("The metric, as MLflow names it; it must be one that can be better or worse.", _DIRECTED),
        "versus": _ALIAS,
        "max_regression": Number("By how much it may be worse. Negative: by how much it must be better."),
        "confidence": Number("Of each one-sided bound on the paired difference.", above=0.5, below=1.0, default=0.95),
        "segment": _SEGMENT,
        "min_rows": Count("With `segment`: smaller segments are passed over.", at_least=1),
        "sequential": Flag(
            "Judge all data sets on which both were evaluated, as they come: may be looked at after each (Brier score "
            "and log loss).",
            default=False,
        ),
    },
    required=("metric", "versus", "max_regression"),
)
_CERTIFICATE = Keys(
    "The certificate that the abstain policy must carry.",
    {
        "max_risk": Number("The largest error rate of answered cases that it may promise.", above=0.0, below=0.5),
        "max_delta": Number("The largest chance of being wrong about that.", above=0.0, below=0.5, default=0.05),
    },
    required=("max_risk",),
)
_NAME = r"\S(.*\S)?"
_APPROVALS = Keys(
    "Who has to approve.",
    {
        "count": Count("So many different people.", at_least=1, default=1),
        "not_author": Flag("Whether whoever made the version may not approve it.", default=True),
        "approvers": ListOf("Only these people count; by default everybody does.", Word("A user's name.", _NAME)),
        "tag": Word("A tag of the version that counts as one approval", _NAME),
        "tag_value": Word("when it has this value.", _NAME),
    },
)
_TARGET = Keys(
    "What a version must show to become this target.",
    {
        "kind": Choice("`stage` for a legacy stage; by default Staging and Production are stages.", ("alias", "stage")),
        "min_rows": Count("The least number of evaluated rows; fewer decide nothing.", at_least=1, default=1),
        "max_age_days": Number("The greatest age of the evidence, in days.", above=0.0),
        "expires_after_days": Number("How long a pass holds, in days.", above=0.0),
        "on_expiry": Choice(
            "When it ends: `tag` says so on the version, `demote` takes the target away too.",
            ("tag", "demote"),
            default="tag",
        ),
        "signed_evidence": Flag("Whether a trusted evaluator must have signed the evidence.", default=False),
        "artifacts": ListOf("What the run with the evidence must hold.", Word("The path of an artifact.", _NAME)),
        "certificate": _CERTIFICATE,
        "approvals": _APPROVALS,
        "rules": ListOf("The rules; all of them have to pass.", Either("A rule.", "versus", _COMPARISON, _BOUND)),
    },
    required=("rules",),
)
_VARIABLE = "[A-Za-z_][A-Za-z0-9_]*"
_ALERTS = Keys(
    "Who is told of alarms. Secrets stay in the environment: only the names of their variables stand here.",
    {
        "log": Flag("Whether the log of the process gets every alert.", default=True),
        "webhook": Keys(
            "An address that gets each alert as signed JSON.",
            {
                "url": Word("Where to.", r"https?://\S+"),
                "secret_env": Word("The environment variable with the secret, `whsec_...`.", _VARIABLE),
            },
            required=("url", "secret_env"),
        ),
        "slack": Keys(
            "A Slack channel.",
            {"url_env": Word("The environment variable with the URL of the incoming webhook.", _VARIABLE)},
            required=("url_env",),
        ),
    },
)
_LIVE = Keys(
    "Watching live models.",
    {
        "window_days": Number("The monitor looks at the predictions of so many days,", above=0.0, default=7.0),
        "max_rows": Count("of which it reads the last so many.", at_least=1, default=100_000),
        "min_rows": Count("Fewer rows decide nothing.", at_least=1, default=100),
        "drift_share": Number("The share of drifted features that is an alarm.", above=0.0, default=0.3),
        "silence_outcomes_days": Number("No outcome for longer is an alarm.", above=0.0, default=3.0),
        "silence_predictions_days": Number("No prediction for longer is an alarm.", above=0.0, default=1.0),
        "silence_replicas_minutes": Number("No word of any serving process for longer is one.", above=0.0, default=5.0),
        "lag_minutes": Number("What is recorded has to be learned within this time.", above=0.0, default=15.0),
        "cooldown_hours": Number("An alarm that stays open is told again after so long.", above=0.0, default=24.0),
        "resolve_after_minutes": Number("An alarm without a cause for so long is over.", at_least=0.0, default=10.0),
        "monitor_every_seconds": Number("How often the monitor looks.", at_least=1.0, default=60.0),
        "alerts": _ALERTS,
    },
)
SHAPE = Keys(
    "caliber.yaml",
    {
        "gate": Keys(
            "Promotion gates.",
            {
                "targets": Named(
                    "Per alias (or legacy stage), what a version must show to get it.",
                    Word("An alias or a legacy stage.", _ALIAS.pattern),
                    _TARGET,
                )
            },
            required=("targets",),
        ),
        "live": _LIVE,
        "retention": Keys(
            "How long the store keeps what: by default for ever.",
            {
                "raw_days": Number("Rows are deleted after so long; what they add up to stays.", above=0.0),
                "hourly_days": Number("Rollups by hour are kept so long; days stay.", at_least=14.0),
                "daily_days": Number("Rollups by day are kept so long; months stay.", at_least=62.0),
            },
        ),
    },
)
"""The shape of ``caliber.yaml``: every key, its kind, its default and what it is for."""


def check_section(name: str, value: Any) -> dict[str, Any]:
    """
    One section of ``caliber.yaml``, checked, with its defaults filled in.

    Raises
    ------
    ConfigError
        With the place, what was wanted and what came; for an unknown key also the nearest known one.

    Examples
    --------
    >>> rule = {"metric": "caliber_brier", "max": 0.2}
    >>> check_section("gate", {"targets": {"champion": {"rules": [rule]}}})["targets"]["champion"]["min_rows"]
    1
    >>> check_section("gate", {"target": {}})
    Traceback (most recent call last):
    mlflow_caliber.exceptions.ConfigError: gate: unknown key 'target'. Did you mean 'targets'? Known keys: targets.
    """
    section: dict[str, Any] = SHAPE.keys[name].check(value, name)
    return section


def find_config(path: str | Path | None = None) -> Path:
    """
    The configuration file: ``path``, else the environment variable ``CALIBER_CONFIG``, else ``./caliber.yaml``.

    Raises
    ------
    ConfigError
        If there is no such file; the sentence says where it was looked for.
    """
    named = path or os.environ.get(ENVIRONMENT_VARIABLE)
    found = Path(named or FILE_NAME)
    if found.is_file():
        return found
    origin = "--config" if path else ENVIRONMENT_VARIABLE if named else "no --config, no CALIBER_CONFIG"
    raise ConfigError(f"The configuration must be a file ({origin}), got {str(found)!r}, which is none.")


def read_config(path: str | Path) -> dict[str, Any]:
    """
    The checked content of a ``caliber.yaml``, with defaults filled in.

    Raises
    ------
    ConfigError
        If it is no YAML, or does not have the shape of a configuration.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "caliber.yaml"
    >>> _ = file.write_text("gate: {targets: {champion: {rules: [{metric: caliber_brier, max: 0.2}]}}}")
    >>> list(read_config(file)["gate"]["targets"])
    ['champion']
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be YAML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} must be a file that can be read: {error.strerror}.") from error
    return SHAPE.check({} if content is None else content, FILE_NAME)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML as usual, but a key that comes twice is an error: the last one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


def json_schema() -> dict[str, Any]:
    """
    The JSON Schema (2020-12) of ``caliber.yaml``; published as ``docs/reference/caliber.schema.json``.

    Examples
    --------
    >>> json_schema()["properties"]["gate"]["required"]
    ['targets']
    """
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "caliber.yaml"}
    return head | SHAPE.schema()
