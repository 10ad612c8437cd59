"""The pages in a real browser against a real guarded server: approve, promote, be refused, read the trail."""

from __future__ import annotations

import pytest

from page_server import fill
from registry_servers import ADMIN, PASSWORD, MlflowServer
from registry_world import make_rows

pytestmark = pytest.mark.system

POLICY = """
gate:
  targets:
    champion:
      min_rows: 500
      approvals: {count: 1}
      rules:
        - {metric: caliber_brier, versus: champion, max_regression: 0.002}
"""
HOSTILE = "<img src=x onerror=alert(1)>"
PAGES = (
    "/caliber/",
    "/caliber/model?name=churn",
    "/caliber/version?name=churn&version=1&target=champion",
    "/caliber/version?name=churn&version=2",
    "/caliber/compare?name=churn&a=1&b=2",
    "/caliber/audit?name=churn",
)


@pytest.fixture(scope="module")
def server(browser, tmp_path_factory):
    """A champion's candidate by mia, and a second version that is worse."""
    server = MlflowServer(tmp_path_factory.mktemp("pages"), POLICY, auth=True, workers=1, prefix="/ml")
    try:
        server.wait()
        fill(server, users=("mia", "noah"), versions={"churn": (make_rows(1000), make_rows(1000, temperature=0.5))})
        yield server
    finally:
        server.stop()


class Reader:
    """A user's browser window, and whatever it complains about."""

    def __init__(self, browser, server, user, **options):
        credentials = {"username": user, "password": PASSWORD}
        self.context = browser.new_context(http_credentials=credentials, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.noise: list[str] = []
        self.uri = server.uri
        self.page.on("pageerror", lambda error: self.noise.append(str(error)))
        self.page.on("dialog", lambda dialog: self.noise.append(dialog.message))
        self.page.on("console", lambda message: self.noise.append(message.text))

    def open(self, path):
        self.page.goto(f"{self.uri}{path}")
        self.page.locator("[aria-busy=true]").wait_for(state="detached")
        self.page.wait_for_load_state("networkidle")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


def expect_promotion(reader):
    reader.page.click("#promote")
    reader.page.click("#sure-yes")


def test_approve_promote_refuse_and_read_the_trail(browser, server):
    first = "/caliber/version?name=churn&version=1&target=champion"
    with Reader(browser, server, "admin") as admin, Reader(browser, server, "noah") as noah:
        admin.open(first)
        assert admin.page.locator(".verdict").inner_text().startswith("? inconclusive")
        expect_promotion(admin)
        admin.page.wait_for_selector("#said:not([hidden])")
        assert "must have the approvals of 1 person, got 0" in admin.page.inner_text("#said")

        noah.open(first)
        assert not noah.page.query_selector("#promote")
        noah.page.fill("#comment", HOSTILE)
        noah.page.click("#approve-button")
        noah.page.wait_for_selector("#flash:not([hidden])")
        noah.page.wait_for_selector("#withdraw:not([hidden])")
        assert HOSTILE in noah.page.inner_text("#approvals")
        assert not noah.page.query_selector("img[src=x]")
        assert noah.noise == []

        admin.open(first)
        expect_promotion(admin)
        admin.page.wait_for_selector("#flash:not([hidden])")
        assert "Version 1 of 'churn' is now champion" in admin.page.inner_text("#flash")

        admin.open("/caliber/version?name=churn&version=2")
        assert "fail" in admin.page.locator(".verdict").inner_text()
        expect_promotion(admin)
        admin.page.wait_for_selector("#said:not([hidden])")
        assert "worse than champion" in admin.page.inner_text("#said")

        admin.open("/caliber/audit?name=churn")
        trail = admin.page.inner_text("ol.trail")
        words = ["was refused", "promoted version 1 to champion", "approved version 1 as champion", "was refused"]
        places = [trail.index(words[0]), trail.index(words[1]), trail.index(words[2]), trail.rindex(words[3])]
        assert places == sorted(places)
        assert HOSTILE in trail
        assert "one unbroken chain" in admin.page.inner_text("#verification")
        assert admin.page.input_value("#anchor").startswith("4:")
        # Refusals are answers of status 403, which a browser writes to its console; nothing else may be there.
        assert [said for said in admin.noise if "403" not in said] == []


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "light"),
        (1400, "dark"),
        pytest.param(390, "dark", marks=pytest.mark.slow),
        pytest.param(1400, "light", marks=pytest.mark.slow),
    ],
)
def test_pages_fit_and_are_silent(browser, server, width, scheme):
    with Reader(browser, server, ADMIN, viewport={"width": width, "height": 900}, color_scheme=scheme) as reader:
        for path in PAGES:
            reader.open(path)
            reader.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
            scroll, background = reader.page.evaluate(
                "[document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]"
            )
            assert scroll <= width, path
            assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 25, 28)")
            broken = "[...document.images].filter(each => !each.complete || !each.naturalWidth).length"
            assert reader.page.evaluate(broken) == 0, path
        assert reader.noise == []


def test_keyboard_reaches_every_act(browser, server):
    with Reader(browser, server, ADMIN) as reader:
        reader.open("/caliber/version?name=churn&version=2")
        reached = set()
        for _ in range(60):
            reader.page.keyboard.press("Tab")
            reached.add(reader.page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert {"promote", "comment", "approve-button", "SUMMARY", "A"} <= reached
        reader.page.focus("#promote")
        reader.page.keyboard.press("Enter")
        assert reader.page.evaluate("document.activeElement.closest('dialog') !== null")
        reader.page.keyboard.press("Escape")
        reader.page.wait_for_timeout(200)
        assert reader.page.evaluate("document.getElementById('said').hidden")
        assert reader.noise == []
