"""What the pages are made of: entries in words, the ledger read onwards, the registry listed in few questions."""

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from mlflow_caliber.gate import Governance
from mlflow_caliber.guard._catalog import Catalog
from mlflow_caliber.guard._chronicle import Chronicle
from mlflow_caliber.guard._measured import Measured
from mlflow_caliber.guard._overview import pages
from mlflow_caliber.guard._words import age, in_words, instant, moment, said_more, shown
from mlflow_caliber.ledger import ACTIONS, Entry


def entry(action, detail=None, **values):
    known = {"version": "3", "target": "champion", "seq": 1, "actor": "mia", "model": "churn", **values}
    at = "2026-11-22T12:00:00.000000+00:00"
    zeros = "0" * 64
    return Entry(
        action=action, at=at, detail=detail or {}, previous_sha256=zeros, sha256=zeros, signature=None, **known
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_has_words_of_its_own(action):
    said = in_words(entry(action))
    assert said
    assert said != f"{action} of version 3 as champion"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("decision", "former", "override", "reason", "comment", "until", "expires_at", "versions", "name", "demoted")


@given(st.sampled_from(ACTIONS), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6))
def test_whatever_a_detail_holds_there_are_words(action, detail):
    assert in_words(entry(action, detail))
    assert all(sentence.isprintable() for sentence in said_more(entry(action, detail)))


@given(st.text(max_size=400))
def test_shown_is_one_printable_line(text):
    assert shown(text, 100).isprintable()
    assert len(shown(text, 100)) <= 100


def test_times_that_are_none_are_no_times():
    assert instant("yesterday") is None
    assert instant(1e300) is None
    assert moment("") == "–"
    assert age("nonsense", instant(0)) == "–"
    assert age(0, instant(30_000)) == "just now"


def test_pages_turn_both_ways():
    assert pages("model", 0, 50, 50, name="a") == {"newer": None, "older": None, "here": ""}
    turn = pages("model", 1, 120, 50, name="a b")
    assert turn["newer"].endswith("name=a+b&page=0")
    assert turn["older"].endswith("page=2")
    assert turn["here"] == "2 of 3"


def test_chronicle_reads_only_onwards_and_comes_to_the_same(guard):
    guarded = guard()
    name, _ = guarded.version()
    chronicle = Chronicle(guarded.ledger)
    guarded.version(name=name)
    for version in ("1", "2"):
        guarded.governor.promote(name, version, "champion")
        found = chronicle.matters([name, "nobody"])
        assert found[name].governance.to_dict() == Governance.of(guarded.ledger.entries(model=name)).to_dict()
        assert found["nobody"].governance.targets == ()


def test_chronicle_keeps_refusals_until_a_promotion(guard):
    guarded = guard({"metric": "caliber_brier", "max": 0.0001})
    name, version = guarded.version()
    chronicle = Chronicle(guarded.ledger)
    with pytest.raises(Exception, match="refused"):
        guarded.governor.promote(name, version, "champion")
    assert chronicle.matters([name])[name].pending[version, "champion"].refused is not None
    guarded.user = "noah"
    guarded.governor.override(name, version, "champion", reason="needed", days=1)
    guarded.governor.promote(name, version, "champion")
    assert chronicle.matters([name])[name].pending == {}


def test_chronicle_waits_for_approvals_only(guard):
    guarded = guard(approvals={"count": 2})
    name, version = guarded.version()
    chronicle = Chronicle(guarded.ledger)
    guarded.governor.gate(name, version, "champion")
    pending = chronicle.matters([name])[name].pending[version, "champion"]
    assert pending.waits
    assert not pending.approved_by
    guarded.user = "noah"
    guarded.governor.approve(name, version, "champion")
    assert chronicle.matters([name])[name].pending[version, "champion"].approved_by == {"noah"}


def test_catalog_asks_the_same_few_questions_of_any_number(guard):
    guarded = guard()
    name, _ = guarded.version()
    catalog, asked = Catalog(guarded.store.engine), []
    sa.event.listen(guarded.store.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    catalog.models(), catalog.versions(name)
    few = len(asked)
    for _ in range(3):
        guarded.version(name=name)
    asked.clear()
    assert len(catalog.versions(name)) == 4
    catalog.models()
    assert len(asked) == few


def test_catalog_leaves_prompts_out_but_no_model_by_a_tag(guard):
    guarded = guard()
    name, _ = guarded.version()
    guarded.client.set_registered_model_tag(name, "mlflow.prompt.is_prompt", "true")
    guarded.client.create_registered_model("words")
    guarded.client.set_registered_model_tag("words", "mlflow.prompt.is_prompt", "true")
    guarded.client.create_registered_model("empty")
    assert Catalog(guarded.store.engine).models() == tuple(sorted([name, "empty"]))


def test_a_run_of_a_stranger_is_not_shown_as_the_evidence_of_a_version(guard):
    guarded = guard()
    name, version = guarded.version()
    listed = Catalog(guarded.store.engine).version(name, version)
    run = guarded.client.create_run(guarded.world.experiment, start_time=4102444800000)  # newer than any, and empty
    digest = guarded.governor.identify(name, version).model_digest
    guarded.client.set_tag(run.info.run_id, "caliber_model_digest", digest)
    found, evidence = Measured(guarded.client, guarded.governor).evidence(name, listed)
    assert found != run.info.run_id
    assert evidence.model.digest == digest
