import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlflow_caliber.config import find_config, json_schema, read_config
from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.gate import ApprovalPolicy, Bound, CertificatePolicy, Comparison, GatePolicy
from mlflow_caliber.metrics import METRIC_PREFIX, METRICS

EXAMPLE = """
gate:
  targets:
    champion:
      min_rows: 500
      max_age_days: 30
      rules:
        - {metric: caliber_ece_upper, max: 0.05}
        - {metric: caliber_roc_auc, min: 0.75}
        - {metric: caliber_ece, segment: worst, max: 0.1}
        - {metric: caliber_brier, versus: champion, max_regression: 0.002, confidence: 0.95}
    production:
      rules: [{metric: caliber_brier, max: 0.2}]
"""
BRIER = {"metric": "caliber_brier", "max": 0.2}
VERSUS = {"metric": "caliber_brier", "versus": "champion", "max_regression": 0.002}
FULL = {
    "min_rows": 500,
    "max_age_days": 30.0,
    "expires_after_days": 90.0,
    "on_expiry": "demote",
    "signed_evidence": True,
    "artifacts": ["caliber/report.html"],
    "certificate": {"max_risk": 0.05},
    "approvals": {"count": 2, "approvers": ["ana", "ben"], "tag": "Approval_Check", "tag_value": "Approved"},
}
FULL_RULES = [
    {"metric": "caliber_ece", "max": 0.05, "confidence": 0.95},
    {"metric": "caliber_brier", "segment": "region=north", "max": 0.2, "confidence": 0.9, "min_rows": 50},
    {**VERSUS, "sequential": True},
    {**VERSUS, "segment": "worst"},
]


def section(*rules, **demands):
    return {"targets": {"champion": {"rules": list(rules), **demands}}}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "caliber.yaml"
    path.write_text(EXAMPLE)
    return path


def test_the_example_is_read(path):
    champion = GatePolicy.load(path).target("champion")
    assert (champion.kind, champion.min_rows, champion.max_age_days, champion.versus) == (
        "alias",
        500,
        30.0,
        "champion",
    )
    assert champion.rules == (
        Bound(metric="caliber_ece_upper", max=0.05),
        Bound(metric="caliber_roc_auc", min=0.75),
        Bound(metric="caliber_ece", segment="worst", max=0.1),
        Comparison(metric="caliber_brier", versus="champion", max_regression=0.002, confidence=0.95),
    )


@pytest.mark.parametrize("name", ["Production", "production", "PRODUCTION"])
def test_stages_are_spelled_in_any_case(path, name):
    target = GatePolicy.load(path).target(name)
    assert (target.target, target.kind) == ("Production", "stage")


def test_an_alias_may_be_named_like_a_stage():
    policy = GatePolicy.from_dict({"targets": {"production": {"kind": "alias", "rules": [BRIER]}}})
    assert (policy.target("production").kind, policy.target("production").target) == ("alias", "production")


def test_the_digest_is_of_what_the_policy_says(path):
    policy = GatePolicy.load(path)
    state = yaml.safe_load(EXAMPLE)["gate"]
    state["targets"]["production"]["min_rows"] = 1  # the default, written out
    state["targets"]["champion"]["max_age_days"] = 30.0
    del state["targets"]["champion"]["rules"][3]["confidence"]
    state["targets"] = dict(reversed(state["targets"].items()))
    assert GatePolicy.from_dict(state).sha256 == policy.sha256
    state["targets"]["champion"]["rules"][0]["max"] = 0.06
    assert GatePolicy.from_dict(state).sha256 != policy.sha256


def test_a_policy_without_the_newer_keys_has_the_digest_that_it_always_had(path):
    """Computed when none of the keys of FULL existed: decisions that name it must still be about this file."""
    assert GatePolicy.load(path).sha256 == "sha256:b588ebe18add63896020cd25a44425ddb971d63495236793a26da3af30118767"


def test_the_newer_defaults_may_be_written_out():
    bare = section(BRIER, VERSUS)
    said = section(BRIER, {**VERSUS, "sequential": False}, on_expiry="tag", signed_evidence=False)
    assert GatePolicy.from_dict(said).sha256 == GatePolicy.from_dict(bare).sha256
    bare = section(BRIER, approvals={}, certificate={"max_risk": 0.1})
    said = section(BRIER, approvals={"count": 1, "not_author": True}, certificate={"max_risk": 0.1, "max_delta": 0.05})
    assert GatePolicy.from_dict(said).sha256 == GatePolicy.from_dict(bare).sha256


def test_a_policy_of_everything():
    policy = GatePolicy.from_dict(section(*FULL_RULES, **FULL))
    target = policy.target("champion")
    assert (target.expires_after_days, target.on_expiry, target.signed_evidence) == (90.0, "demote", True)
    assert target.artifacts == ("caliber/report.html",)
    assert target.certificate == CertificatePolicy(max_risk=0.05, max_delta=0.05)
    assert target.approvals == ApprovalPolicy(
        count=2, approvers=("ana", "ben"), tag="Approval_Check", tag_value="Approved"
    )
    assert [str(rule) for rule in target.rules] == [
        "caliber_ece max 0.05 with confidence 0.95",
        "caliber_brier in region = north max 0.2 with confidence 0.9",
        "caliber_brier versus champion max_regression 0.002 sequential",
        "caliber_brier in the worst segment versus champion max_regression 0.002",
    ]
    assert GatePolicy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy
    assert valid(json_schema(), {"gate": section(*FULL_RULES, **FULL)})


def test_every_comparison_in_pairs_can_be_made_sequential():
    auc = {"metric": "caliber_roc_auc", "versus": "champion", "max_regression": 0.01}
    policy = GatePolicy.from_dict(section(BRIER, VERSUS, auc, {**VERSUS, "segment": "worst"}))
    rules = policy.sequential().target("champion").rules
    assert [getattr(rule, "sequential", None) for rule in rules] == [None, True, False, False]
    assert policy.sequential().sha256 != policy.sha256


def test_the_canonical_form_reads_back(path):
    policy = GatePolicy.load(path)
    assert GatePolicy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


WRONG = [
    (section(BRIER) | {"target": {}}, "gate: unknown key 'target'. Did you mean 'targets'?"),
    (section(BRIER, min_row=5), "gate.targets.champion: unknown key 'min_row'. Did you mean 'min_rows'?"),
    (section({"metric": "caliber_brier", "maximum": 1}), "rules[0]: unknown key 'maximum'. Did you mean 'max'?"),
    (section({"metric": "caliber_breir", "max": 1}), "got 'caliber_breir'. Did you mean 'caliber_brier'?"),
    (section({"metric": "brier", "max": 1}), "Did you mean 'caliber_brier'?"),
    (section({"metric": "caliber_brier"}), "rules[0] must have the key 'min' or 'max', got metric."),
    (section({"max": 1}), "rules[0] must have the key 'metric', got max."),
    (section({**BRIER, "versus": "champion"}), "rules[0]: unknown key 'max'."),
    (section({"metric": "caliber_brier", "versus": "champion"}), "must have the key 'max_regression'"),
    (section({**BRIER, "max": "low"}), "rules[0].max must be a number, got 'low'."),
    (section({**BRIER, "max": True}), "rules[0].max must be a number, got True."),
    (section({**BRIER, "max": float("nan")}), "rules[0].max must be a number, got nan."),
    (section({**BRIER, "max": float("inf")}), "rules[0].max must be a number, got inf."),
    (section({**BRIER, "segment": "best"}), "segment must match (worst|[^=]+=.+), got 'best'."),
    (section(BRIER, min_rows=0), "min_rows must be a whole number of at least 1, got 0."),
    (section(BRIER, min_rows=1.5), "min_rows must be a whole number of at least 1, got 1.5."),
    (section(BRIER, max_age_days=0), "max_age_days must be a number above 0, got 0."),
    (section(), "rules must be a list with at least one entry, got []."),
    ({"targets": {}}, "gate.targets must name at least one entry, got none."),
    ({"targets": {"a b": {"rules": [BRIER]}}}, "must match [A-Za-z0-9_-]+, got 'a b'."),
    ({"targets": {"champion\n": {"rules": [BRIER]}}}, "must match [A-Za-z0-9_-]+, got 'champion\\n'."),
    (5, "gate must be a mapping of keys to values, got 5."),
    (
        section({"metric": "caliber_brier", "versus": "champion", "max_regression": 0.1, "confidence": 1.0}),
        "confidence must be a number above 0.5 below 1, got 1.0.",
    ),
    (section({**BRIER, "confidence": 0.5}), "confidence must be a number above 0.5 below 1, got 0.5."),
    (section(BRIER, expires_after_days=0), "expires_after_days must be a number above 0, got 0."),
    (section(BRIER, on_expiry="delete"), "on_expiry must be one of tag, demote, got 'delete'."),
    (section(BRIER, signed_evidence="yes"), "signed_evidence must be true or false, got 'yes'."),
    (section(BRIER, artifacts=[]), "artifacts must be a list with at least one entry, got []."),
    (section(BRIER, artifacts=[" "]), "artifacts[0] must match"),
    (section(BRIER, certificate={}), "certificate must have the key 'max_risk', got no key."),
    (section(BRIER, certificate={"max_risk": 0.5}), "max_risk must be a number above 0 below 0.5, got 0.5."),
    (section(BRIER, approvals={"count": 0}), "approvals.count must be a whole number of at least 1, got 0."),
    (section(BRIER, approvals={"counts": 2}), "approvals: unknown key 'counts'. Did you mean 'count'?"),
    (section(BRIER, approvals={"approvers": "ana"}), "approvers must be a list with at least one entry, got 'ana'."),
    (
        section({"metric": "caliber_prevalence", "versus": "champion", "max_regression": 0.1}),
        "rules[0].metric must be one of",
    ),
]
# Demands that JSON Schema cannot say.
WRONG_IN_SUM = [
    (section({**BRIER, "min": 0.3}), "The rule 'caliber_brier min 0.3 max 0.2' must have min at most max"),
    (
        section({"metric": "caliber_ece_upper", "max": 0.1, "confidence": 0.9}),
        "The rule 'caliber_ece_upper max 0.1 with confidence 0.9' must be on a metric with an interval (caliber_ece,",
    ),
    (
        section({"metric": "caliber_ece", "versus": "champion", "max_regression": 0.1, "sequential": True}),
        "must be on caliber_brier or caliber_log_loss to be sequential or by segment.",
    ),
    (
        section({**VERSUS, "sequential": True, "segment": "worst"}),
        "must be on all rows to be sequential, got segment 'worst'.",
    ),
    (section({**VERSUS, "min_rows": 5}), "must have a segment when it has min_rows, got none."),
    (section(BRIER, on_expiry="demote"), "must have expires_after_days to demote on expiry, got none."),
    (section(BRIER, approvals={"tag": "Approval_Check"}), "must have tag and tag_value together, got tag alone."),
    (
        section(BRIER, approvals={"count": 2, "approvers": ["ana"]}),
        "must name at least as many approvers as its count 2, got 1.",
    ),
    (section({**BRIER, "min_rows": 5}), "must have a segment when it has min_rows, got none."),
    ({"targets": {"Production": {"rules": [BRIER]}, "production": {"rules": [BRIER]}}}, "got 'Production' twice."),
    ({"targets": {"challenger": {"kind": "stage", "rules": [BRIER]}}}, "must be Staging or Production to be a stage"),
    ({"targets": {"latest": {"rules": [BRIER]}}}, "MLflow reserves 'latest'"),
    ({"targets": {"v3": {"rules": [BRIER]}}}, "MLflow reserves 'v3'"),
    (
        section(
            {"metric": "caliber_brier", "versus": "champion", "max_regression": 0},
            {"metric": "caliber_brier", "versus": "shadow", "max_regression": 0},
        ),
        "must compare with one version, got champion, shadow.",
    ),
]


@pytest.mark.parametrize(("state", "sentence"), WRONG + WRONG_IN_SUM)
def test_a_wrong_policy_is_refused_with_a_sentence(state, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        GatePolicy.from_dict(state)


def test_an_unknown_target_names_the_nearest(path):
    with pytest.raises(ConfigError, match=r"unknown key 'champoin'\. Did you mean 'champion'"):
        GatePolicy.load(path).target("champoin")


# --- the file --------------------------------------------------------------------------------------------------------


def test_an_unknown_section_names_the_nearest(path):
    path.write_text("gates: {}")
    with pytest.raises(ConfigError, match=r"caliber\.yaml: unknown key 'gates'\. Did you mean 'gate'"):
        read_config(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("gate: [", "must be YAML"),
        (b"\xff\xfe\xff", "must be YAML"),
        ("gate: {targets: {}, targets: {}}", "the key 'targets' comes twice"),
        ("!!python/object/apply:os.getcwd []", "must be YAML: could not determine a constructor"),
        ("[]", "caliber.yaml must be a mapping"),
        ("", "must have a gate section to gate with, got none"),
    ],
)
def test_a_file_that_is_no_configuration(path, content, sentence):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=sentence):
        GatePolicy.load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="must be a file that can be read: No such file"):
        GatePolicy.load(tmp_path / "none.yaml")


def test_the_file_is_found_by_option_then_environment_then_folder(tmp_path, monkeypatch):
    for name in ("option.yaml", "environment.yaml", "caliber.yaml"):
        (tmp_path / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIBER_CONFIG", raising=False)
    assert find_config() == Path("caliber.yaml")
    monkeypatch.setenv("CALIBER_CONFIG", "environment.yaml")
    assert find_config() == Path("environment.yaml")
    assert find_config("option.yaml") == Path("option.yaml")


def test_a_named_file_that_is_missing_is_an_error_and_no_other_is_taken(tmp_path, monkeypatch):
    (tmp_path / "caliber.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALIBER_CONFIG", "gone.yaml")
    with pytest.raises(ConfigError, match=r"must be a file \(CALIBER_CONFIG\), got 'gone.yaml'"):
        find_config()


# --- the schema ------------------------------------------------------------------------------------------------------

SCHEMA = Path(__file__).parents[2] / "docs" / "reference" / "caliber.schema.json"


def test_the_published_schema_is_the_loader_s():
    assert SCHEMA.read_text() == json.dumps(json_schema(), indent=2) + "\n", (
        "write it anew: python -c 'import json; from mlflow_caliber.config import json_schema; "
        f"print(json.dumps(json_schema(), indent=2))' > {SCHEMA.name}"
    )


def valid(schema, value):
    """A small reader of the part of JSON Schema that ours uses; an unknown keyword is a KeyError."""
    checks = {
        "type": lambda want: _is_type(want, value),
        "enum": lambda want: value in want,
        "pattern": lambda want: not isinstance(value, str) or re.search(want.replace("$", r"\Z"), value) is not None,
        "minimum": lambda want: _no_number(value) or value >= want,
        "exclusiveMinimum": lambda want: _no_number(value) or value > want,
        "exclusiveMaximum": lambda want: _no_number(value) or value < want,
        "minItems": lambda want: not isinstance(value, list) or len(value) >= want,
        "items": lambda want: not isinstance(value, list) or all(valid(want, entry) for entry in value),
        "minProperties": lambda want: not isinstance(value, dict) or len(value) >= want,
        "required": lambda want: not isinstance(value, dict) or all(key in value for key in want),
        "properties": lambda want: (
            not isinstance(value, dict) or all(valid(want[key], entry) for key, entry in value.items() if key in want)
        ),
        "additionalProperties": lambda want: not isinstance(value, dict) or _others_valid(schema, want, value),
        "propertyNames": lambda want: not isinstance(value, dict) or all(valid(want, key) for key in value),
        "anyOf": lambda want: any(valid(entry, value) for entry in want),
        "oneOf": lambda want: sum(valid(entry, value) for entry in want) == 1,
    }
    silent = {"$schema", "title", "description", "default"}
    return all(checks[keyword](want) for keyword, want in schema.items() if keyword not in silent)


def _no_number(value):
    return isinstance(value, bool) or not isinstance(value, int | float)


def _is_type(want, value):
    if want == "boolean":
        return isinstance(value, bool)
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int}
    # JSON has neither NaN nor infinity.
    finite = not isinstance(value, float) or abs(value) < float("inf")
    return isinstance(value, kinds[want]) and (want == "string" or not isinstance(value, bool)) and finite


def _others_valid(schema, want, value):
    others = [entry for key, entry in value.items() if key not in schema.get("properties", {})]
    return not others if want is False else all(valid(want, entry) for entry in others)


def test_the_schema_takes_the_example():
    assert valid(json_schema(), yaml.safe_load(EXAMPLE))


@pytest.mark.parametrize("state", [state for state, _ in WRONG])
def test_the_schema_refuses_what_the_loader_refuses(state):
    assert not valid(json_schema(), {"gate": state})


numbers = st.one_of(st.floats(-2, 2), st.integers(-2, 2), st.booleans(), st.none())
anything_like_a_rule = st.fixed_dictionaries(
    {},
    optional={
        "metric": st.sampled_from([METRIC_PREFIX + key for key in METRICS] + ["ece"]),
        "min": numbers,
        "max": numbers,
        "segment": st.sampled_from(["worst", "best", "region=north", "region="]),
        "min_rows": numbers,
        "sequential": st.sampled_from([True, False, "yes"]),
        "versus": st.sampled_from(["champion", "a b"]),
        "max_regression": numbers,
        "confidence": numbers,
    },
)


@given(rule=anything_like_a_rule)
def test_schema_and_loader_agree_on_any_rule(rule):
    from mlflow_caliber.config import check_section

    try:
        check_section("gate", section(rule))
        loads = True
    except ConfigError:
        loads = False
    assert valid(json_schema(), {"gate": section(rule)}) is loads


def test_every_key_is_on_the_reference_page():
    page = (SCHEMA.parent / "config.md").read_text()
    text = json.dumps(json_schema())
    keys = set(re.findall(r'"([a-z_]+)": {"description"', text))
    assert {"targets", "min_rows", "max_age_days", "versus", "confidence"} <= keys
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []
