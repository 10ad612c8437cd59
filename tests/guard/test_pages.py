"""The pages under ``/caliber/``: what stands on them, who sees it, and that hostile text stays text."""

import re
import time
from html.parser import HTMLParser

import pytest
import sqlalchemy as sa

from page_server import PageServer
from registry_servers import ADMIN, PASSWORD
from registry_world import make_rows

pytestmark = pytest.mark.system

POLICY = """
gate:
  targets:
    champion:
      min_rows: 500
      expires_after_days: 30
      approvals: {count: 1}
      rules:
        - {metric: caliber_brier, versus: champion, max_regression: 0.002}
    challenger:
      rules:
        - {metric: caliber_brier, max: 0.3}
"""
OPEN_POLICY = "gate: {targets: {champion: {rules: [{metric: caliber_brier, max: 0.3}]}}}"
SCRIPT = "<script>alert(1)</script>"
HOSTILE = "<script>alert(1)<x>\" onload='y' \N{RIGHT-TO-LEFT OVERRIDE}gnp äöü 漢字"
LONG = "a" * 10_000


class Elements(HTMLParser):
    """The tags of a page and their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """With users and a prefix; churn has two versions, of which the first holds champion."""
    pytest.importorskip("flask_wtf", reason="MLflow's basic-auth needs Flask-WTF")
    server = PageServer(tmp_path_factory.mktemp("pages"), POLICY, auth=True, prefix="/ml")
    try:
        for user in ("mia", "noah", "eve"):
            server.add_user(user)
        world = server.world()
        server.version(world, "churn", make_rows(1000, seed=1))
        server.version(world, "churn", make_rows(1000, seed=1, temperature=0.5))
        server.act("approve", "noah", name="churn", version="1", target="champion", comment=SCRIPT)
        server.act("promote", ADMIN, name="churn", version="1", target="champion")
        server.act("gate", ADMIN, name="churn", version="2", target="champion")
        server.world_ = world
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A server that does not know its users."""
    server = PageServer(tmp_path_factory.mktemp("alone"), OPEN_POLICY)
    try:
        yield server
    finally:
        server.stop()


def permit(server, name, user, permission):
    """Give a user a permission of their own on one model, in whatever way this MLflow has."""
    body = {"name": name, "username": user, "permission": permission}
    answer = server.post("/api/2.0/mlflow/registered-models/permissions/create", body, ADMIN)
    if answer.status == 404:
        permission = {"NO_PERMISSIONS": "DENY"}.get(permission, permission)
        body = {"username": user, "resource_type": "registered_model", "resource_id": name, "permission": permission}
        answer = server.post("/ajax-api/3.0/mlflow/users/permissions/grant", body, ADMIN)
    assert answer.status == 200, answer.text


PAGES = {
    "/caliber": {},
    "/caliber/": {},
    "/caliber/model": {"name": "churn"},
    "/caliber/version": {"name": "churn", "version": "1"},
    "/caliber/compare": {"name": "churn", "a": "1", "b": "2"},
    "/caliber/audit": {"name": "churn"},
}


# --- what stands on them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_there_and_links_under_the_prefix(served, path):
    answer = served.get(path, "mia", **PAGES[path])
    assert answer.status == 200, answer.text
    page = Elements(answer.text)
    addresses = [each["href"] for each in page.all("a") + page.all("link")] + [
        each["src"] for each in page.all("script")
    ]
    assert all(each.startswith(("/ml/", "#")) for each in addresses), addresses
    assert all(each["action"].startswith("/ml/") for each in page.all("form") if "action" in each)
    assert all("src" in each for each in page.all("script"))
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("path", [*PAGES, "/caliber/nothing", "/caliber/figure"])
def test_headers_let_nothing_in(served, path):
    values = PAGES.get(path, {"name": "churn", "version": "1"} if path.endswith("figure") else {})
    answer = served.get(path, "mia", **values)
    if path == "/caliber/nothing":
        assert answer.status in (403, 404)
        return
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    if path != "/caliber/figure":
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] in ("DENY", "SAMEORIGIN")


def test_index_says_who_holds_what_and_what_is_open(served):
    text = served.get("/caliber/", "mia").text
    assert re.search(r"Version 1</a>\s*<span class=\"status passed\">", text)
    assert "nobody" in text  # of the challenger


def test_model_page_has_versions_holders_and_history(served):
    text = served.get("/caliber/model", "mia", name="churn").text
    assert text.index("Version 2</a>") < text.rindex("Version 1</a>")
    assert "data-gated" in text
    assert "admin" in text


def test_who_held_it_on_a_day(served):
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert "champion</bdi> was version 1" in served.get("/caliber/model", "mia", name="churn", on=today).text
    assert "nobody held" in served.get("/caliber/model", "mia", name="churn", on="2020-01-01").text
    answer = served.get("/caliber/model", "mia", name="churn", on="yesterday")
    assert answer.status == 400
    assert "must be a date" in answer.text


def test_version_page_does_not_wait_for_its_decision(served):
    before = served.get("/ajax-api/2.0/caliber/ledger", "mia", name="churn").json["entries"]
    text = served.get("/caliber/version", "mia", name="churn", version="2", target="champion").text
    assert 'aria-busy="true"' in text
    assert "held version 2 against the policy for champion" in text
    assert served.get("/ajax-api/2.0/caliber/ledger", "mia", name="churn").json["entries"] == before


def test_examination_explains_and_writes_nothing(served):
    before = served.get("/ajax-api/2.0/caliber/ledger", "mia", name="churn").json["entries"]
    found = served.get("/ajax-api/2.0/caliber/examine", "noah", name="churn", version="2", target="champion").json
    assert found["verdict"] == "fail"
    assert {"rule", "verdict", "wanted", "got", "sentence", "interval", "rows_needed"} <= set(found["rules"][0])
    assert found["evidence"]["run_url"].startswith("/ml/#/experiments/")
    assert found["evidence"]["data"]["n"] == 1000
    assert {each["label"] for each in found["evidence"]["numbers"]} >= {"ECE", "Brier score"}
    assert found["approvals"]["why_not"] is None
    assert served.get("/ajax-api/2.0/caliber/ledger", "mia", name="churn").json["entries"] == before


def test_examination_says_who_may_approve(served):
    def approvals(user):
        asked = {"name": "churn", "version": "1", "target": "champion"}
        return served.get("/ajax-api/2.0/caliber/examine", user, **asked).json["approvals"]

    assert approvals("noah")["mine"]
    assert approvals("noah")["given"][0]["comment"] == SCRIPT  # the script puts it in as text
    assert "yours" in approvals("mia")["why_not"]
    assert approvals("eve") == approvals("noah") | {"mine": False}


def test_numbers_of_lists_come_from_the_evidence(served):
    found = served.get("/ajax-api/2.0/caliber/measured", "mia", name="churn", version="1").json["evidence"]
    assert [each["label"] for each in found["numbers"]] == ["ECE", "Brier score"]
    assert found["numbers"][0]["low"] <= found["numbers"][0]["value"] <= found["numbers"][0]["high"]


def test_comparison_is_in_pairs_on_the_same_data(served):
    found = served.get("/ajax-api/2.0/caliber/comparison", "mia", name="churn", a="1", b="2").json
    brier = next(each for each in found["paired"] if each["label"] == "Brier score")
    assert found["same_data"]
    assert brier["low"] <= brier["difference"] <= brier["high"]
    assert brier["verdict"] == "worse"


def test_comparison_on_other_data_says_so(served):
    version, _ = served.version(served.world_, "other-data", make_rows(800, seed=1))
    other, _ = served.version(served.world_, "other-data", make_rows(900, seed=2))
    found = served.get("/ajax-api/2.0/caliber/comparison", "mia", name="other-data", a=version, b=other).json
    assert not found["same_data"]
    assert found["paired"] == []
    assert "different data" in found["not_paired"]


@pytest.mark.parametrize("kind", ["reliability", "risk_coverage"])
def test_figures_follow_the_colour_scheme(served, kind):
    answer = served.get("/caliber/figure", "mia", name="churn", version="1", figure=kind)
    assert answer.status == 200
    assert answer.text.startswith("<svg")
    assert "prefers-color-scheme: dark" in answer.text
    assert "<script" not in answer.text


def test_figure_of_another_models_evidence_is_refused(served):
    _, run_id = served.version(served.world_, "stranger", make_rows(600, seed=9))
    answer = served.get("/caliber/figure", "mia", name="churn", version="1", run=run_id)
    assert answer.status == 400
    assert "must be about its model" in answer.text


def test_unknown_figure_is_refused(served):
    answer = served.get("/caliber/figure", "mia", name="churn", version="1", figure="<b>")
    assert answer.status == 400
    assert "figure must be one of" in answer.text


def test_audit_page_tells_every_entry_in_words(served):
    text = served.get("/caliber/audit", "mia", name="churn").text
    assert (
        text.index("held version 2") < text.index("promoted version 1 to champion") < text.index("approved version 1")
    )
    entries = served.get("/ajax-api/2.0/caliber/ledger", "mia", name="churn").json["entries"]
    assert all(entry["sha256"] in text for entry in entries)


def test_version_without_evidence_says_what_to_run(served):
    folder = served.world_.model()
    served.world_.client.create_registered_model("bare")
    served.world_.client.create_model_version("bare", source=folder.as_uri())
    assert served.get("/caliber/version", "mia", name="bare", version="1").status == 200
    answer = served.get("/ajax-api/2.0/caliber/examine", "mia", name="bare", version="1")
    assert answer.status == 400
    assert "evaluate it with evaluators='caliber'" in answer.json["message"]
    assert served.get("/ajax-api/2.0/caliber/measured", "mia", name="bare", version="1").json == {"evidence": None}


@pytest.mark.parametrize(
    ("path", "values", "status", "sentence"),
    [
        ("/caliber/model", {"name": "nope"}, 404, "There must be a registered model"),
        ("/caliber/version", {"name": "churn", "version": "99"}, 404, "There must be a version 99"),
        ("/caliber/version", {"name": "churn", "version": "1; drop"}, 404, "There must be a version"),
        ("/caliber/version", {"name": "churn", "version": "9" * 30}, 404, "There must be a version"),
        ("/caliber/version", {"name": "churn", "version": "1", "target": "nope"}, 400, "nope"),
        ("/caliber/model", {"name": "churn", "page": "-1"}, 400, "page must be a whole number"),
        ("/caliber/audit", {"name": "churn", "page": "x"}, 400, "page must be a whole number"),
        ("/caliber/model", {}, 400, "name"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(served, path, values, status, sentence):
    for user in ("mia", ADMIN):
        answer = served.get(path, user, **values)
        assert answer.status in (status, 404), answer.text
        assert "Traceback" not in answer.text
        assert "<h1>" in answer.text
    assert sentence in served.get(path, "mia", **values).text


def test_files_are_served_and_can_be_kept(served):
    for name, kind in (
        ("caliber.css", "text/css"),
        ("version.js", "text/javascript"),
        ("caliber.js", "text/javascript"),
    ):
        answer = served.get(f"/caliber/static/{name}", "mia")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert answer.headers["ETag"]
    assert served.get("/caliber/static/../_pages.py", "mia").status in (403, 404)


# --- who sees what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/caliber/static/caliber.css", "/ajax-api/2.0/caliber/examine"])
def test_nobody_gets_in_without_login(served, path):
    answer = served.get(path, **PAGES.get(path, {"name": "churn", "version": "1"}))
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert served.get(path, ("mia", "wrong"), **PAGES.get(path, {})).status == 401


def test_models_are_hidden_from_whom_they_are_hidden_from(served):
    served.version(served.world_, "secret", make_rows(600, seed=4))
    permit(served, "secret", "eve", "NO_PERMISSIONS")
    assert "secret" in served.get("/caliber/", "mia").text
    assert "secret" in served.get("/caliber/", ADMIN).text
    assert "secret" not in served.get("/caliber/", "eve").text
    for path in ("model", "version", "compare", "audit", "figure"):
        answer = served.get(f"/caliber/{path}", "eve", name="secret", version="1", a="1", b="1")
        assert answer.status == 403, path
        assert "permission to read" in answer.text
    for route in ("examine", "measured", "comparison"):
        asked = {"name": "secret", "version": "1", "a": "1", "b": "1"}
        assert served.get(f"/ajax-api/2.0/caliber/{route}", "eve", **asked).status == 403


def test_naming_two_models_does_not_open_the_hidden_one(served):
    served.version(served.world_, "vault", make_rows(600, seed=5))
    permit(served, "vault", "eve", "NO_PERMISSIONS")
    for query in ("name=churn&name=vault", "name=vault&name=churn"):
        text = served.get(f"/caliber/model?{query}", "eve").text
        assert ("vault" not in text) or "permission to read" in text


def test_buttons_are_those_that_one_may_press(served):
    permit(served, "churn", "eve", "EDIT")
    asked = {"name": "churn", "version": "1", "target": "champion"}
    texts = {user: served.get("/caliber/version", user, **asked).text for user in ("noah", "eve", ADMIN)}
    assert {user: ('id="promote"' in text, 'id="override"' in text) for user, text in texts.items()} == {
        "noah": (False, False),
        "eve": (True, False),
        ADMIN: (True, True),
    }
    models = {user: served.get("/caliber/model", user, name="churn").text for user in ("eve", ADMIN)}
    assert ['id="freeze"' in models["eve"], 'id="freeze"' in models[ADMIN]] == [False, True]


def test_audit_of_all_models_is_for_admins(served):
    assert served.get("/caliber/audit", ADMIN).status == 200
    answer = served.get("/caliber/audit", "mia")
    assert answer.status == 403
    assert "for administrators" in answer.text
    assert "Audit log</a>" not in served.get("/caliber/", "mia").text
    assert "Audit log</a>" in served.get("/caliber/", ADMIN).text


@pytest.mark.parametrize("path", PAGES)
def test_pages_only_read(served, path):
    assert served.post(path, {}, ADMIN).status in (403, 405)


# --- hostile text ----------------------------------------------------------------------------------------------------


def test_hostile_names_stay_text(served):
    served.version(served.world_, HOSTILE, make_rows(600, seed=3))
    served.act("freeze", ADMIN, name=HOSTILE, target="*", reason=f"javascript:alert(1) {SCRIPT}")
    served.act("override", ADMIN, name=HOSTILE, version="1", target="champion", reason=SCRIPT, days=3)
    asked = {"name": HOSTILE, "version": "1", "a": "1", "b": "1"}
    for path in ("", "model", "version", "compare", "audit"):
        answer = served.get(f"/caliber/{path}", ADMIN, **(asked if path else {}))
        assert answer.status == 200, answer.text
        page = Elements(answer.text)
        assert "<script>alert" not in answer.text
        assert not page.all("x")
        assert not any("onload" in attributes for _, attributes in page.tags)
        assert not [each for each in page.all("a") if not each["href"].startswith(("/ml/", "#"))]
        shown_text = re.sub(r"<[^>]*>", "", answer.text)
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in shown_text
    search = served.get("/caliber/", ADMIN, q=SCRIPT).text
    assert SCRIPT not in search


def test_errors_do_not_echo_markup(served):
    answer = served.get("/caliber/model", ADMIN, name=SCRIPT)
    assert answer.status == 404
    assert "<script>alert" not in answer.text


def test_very_long_names_are_cut(served):
    with sa.create_engine(served.database).begin() as connection:
        connection.execute(
            sa.text("insert into registered_models (name, creation_time, workspace) values (:name, 0, 'default')")
            if "workspace" in {c["name"] for c in sa.inspect(connection).get_columns("registered_models")}
            else sa.text("insert into registered_models (name, creation_time) values (:name, 0)"),
            {"name": LONG},
        )
    page = Elements(served.get("/caliber/", ADMIN).text)
    assert any(LONG in each["href"] for each in page.all("a"))
    text = re.sub(r"<[^>]*>", "", served.get("/caliber/model", ADMIN, name=LONG).text)
    assert max(map(len, text.split())) < 300


# --- without users ---------------------------------------------------------------------------------------------------


def test_empty_registry_says_what_to_run(alone):
    text = alone.get("/caliber/").text
    assert "no registered model" in text
    assert "mlflow.register_model" in text
    assert "Nothing was decided" in alone.get("/caliber/audit").text


def test_without_users_everything_is_open_but_approvals(alone):
    world = alone.world()
    alone.version(world, "churn", make_rows(600))
    text = alone.get("/caliber/version", name="churn", version="1").text
    assert 'id="promote"' in text
    assert "no login" in text
    found = alone.get("/ajax-api/2.0/caliber/examine", name="churn", version="1").json
    assert "knows its users" in found["approvals"]["why_not"]
    assert "Audit log</a>" in text


def test_two_hundred_models_are_listed_quickly(alone):
    world = alone.world()
    for i in range(200):
        world.client.create_registered_model(f"m-{i:03}")
    alone.get("/caliber/")
    begun = time.monotonic()
    assert alone.get("/caliber/").text.count("/caliber/model?") >= 200
    assert time.monotonic() - begun < 1.0
    assert "m-107" in alone.get("/caliber/", q="M-10").text


def test_password_is_on_no_page(served):
    for path, values in PAGES.items():
        assert PASSWORD not in served.get(path, ADMIN, **values).text
