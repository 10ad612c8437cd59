"""The dashboard as people use it: a real browser against the real service, on a store with a week behind it."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

import dashboard_world
from live_service import LiveService
from mlflow_caliber.store import ROLES, open_store

pytestmark = pytest.mark.system

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

AT = "/models/churn/1"
M = "/api/v1/models/churn/versions/1"
PAGES = {"overview": "/", "model": AT, "reviews": "/reviews", "audit": "/audit", "tokens": "/tokens"}
WATCH = "addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective, e.blockedURI))"
HEAVIEST = 500_000
# A busy machine is no fault of the page: the five seconds that are promised are held by the slow tests.
PATIENT = 15_000


class Place:
    """A running service, its store and sessions for everybody."""

    def __init__(self, browser, folder):
        uri = f"sqlite:///{folder}/caliber.db"
        dashboard_world.build(uri)
        self.store = open_store(uri)
        self.stream = self.store.find_stream("churn", "1")
        self.browser, self.sessions = browser, {}
        self.service = LiveService(uri, f"{folder}/server.log")

    def reader(self, roles=ROLES, name="root", **options):
        """A browser window of somebody with these roles, who has logged in."""
        if name not in self.sessions:
            token = self.store.create_token(name, roles, actor="test")[1]
            context = self.browser.new_context()
            page = context.new_page()
            page.goto(f"{self.service.url}/login")
            page.fill("#token", token)
            page.click("main button")
            expect(page.locator("#connection")).to_be_visible()
            self.sessions[name] = context.storage_state()
            context.close()
        return Reader(self.browser, self.service.url, storage_state=self.sessions[name], **options)

    def post(self, events):
        """Send predictions or outcomes; the receipt."""
        path = "predictions" if "outcome" not in events[0] else "outcomes"
        answer = self.service.ask(f"{M}/{path}", events if len(events) > 1 else events[0])
        assert answer.status in {200, 201, 202}, answer.text
        return answer.json

    def close(self):
        self.service.stop()
        self.store.close()


class Reader:
    """One window, and whatever it complains about."""

    def __init__(self, browser, url, **options):
        self.context = browser.new_context(**options)
        self.context.add_init_script(WATCH)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENT)
        self.url, self.noise = url, []
        self.page.on("pageerror", lambda error: self.noise.append(str(error)))
        self.page.on("dialog", lambda dialog: self.noise.append(dialog.message))
        self.page.on("console", lambda said: self.noise.append(said.text))

    def open(self, path):
        self.page.goto(f"{self.url}{path}")
        expect(self.page.locator("[aria-busy=true]")).to_have_count(0, timeout=PATIENT)
        if path != "/login":
            expect(self.page.locator("#connection")).to_have_attribute("data-state", "live", timeout=PATIENT)
        return self.page

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


@pytest.fixture(scope="module")
def place(browser, tmp_path_factory):
    place = Place(browser, tmp_path_factory.mktemp("walk"))
    yield place
    place.close()


@pytest.fixture
def reader(place):
    with place.reader() as reader:
        yield reader
        assert reader.noise == []


@pytest.fixture(scope="module")
def axe():
    """What looks for barriers."""
    return pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()


def number(text):
    return int(re.sub(r"\D", "", text))


def tick(page, term, part="#head"):
    """The figure under that word."""
    return page.locator(f"{part} dl.ticks > div", has=page.locator("dt", has_text=re.compile(f"^{term}$"))).locator(
        "dd"
    )


def becomes(look, seconds=10.0):
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end, "it did not become so in time"
        time.sleep(0.1)


# --- logging in ------------------------------------------------------------------------------------------------------


def test_a_bad_token_is_a_sentence_and_a_good_one_opens_the_pages(place):
    token = place.store.create_token("mia", ["view"], actor="test")[1]
    with Reader(place.browser, place.service.url) as reader:
        page = reader.page
        page.goto(f"{place.service.url}{AT}?window=7d")
        expect(page).to_have_url(re.compile("/login"))
        page.fill("#token", "cal_0123456789ab_wrong")
        page.click("main button")
        expect(page.locator("#login-error")).to_have_text("That token is not known, revoked or expired.")
        reader.noise.clear()  # a browser notes every 401
        page.fill("#token", token)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{place.service.url}{AT}?window=7d")
        reader.open("/")
        page.click("#logout")
        expect(page).to_have_url(re.compile("/login$"))
        page.goto(f"{place.service.url}/audit")
        expect(page).to_have_url(re.compile(r"/login\?next=%2Faudit$"))
        assert reader.noise == []


@pytest.mark.parametrize("path", [*PAGES.values(), "/login"], ids=[*PAGES, "login"])
def test_no_page_complains_and_none_is_heavy(place, reader, path):
    done = []

    def note(request):  # to ask for its size in here would lose some
        done.append(request)

    reader.page.on("requestfinished", note)
    reader.open(path)
    sizes = [request.sizes() for request in list(done)]
    sent = sum(each["responseBodySize"] + each["responseHeadersSize"] for each in sizes)
    print(f"{path}: {sent} bytes in {len(sizes)} answers")
    assert 10_000 < sent < HEAVIEST
    policy = place.service.ask(path, token=place.service.token).headers
    assert "script-src 'self'" in {key.lower(): value for key, value in policy.items()}["content-security-policy"]


def test_a_page_that_is_not_there_says_so_and_lets_one_out(place):
    with place.reader(["view"], "leaver") as reader:
        page = reader.page
        page.goto(f"{reader.url}/models/nobody/9")
        expect(page.locator("main")).to_contain_text("There is no version 9 of a model nobody here")
        expect(page.get_by_role("link", name="To the models")).to_be_visible()
        assert all("404" in said for said in reader.noise)  # a browser notes every one
        page.click("#logout")
        expect(page).to_have_url(re.compile("/login$"), timeout=PATIENT)


# --- looking ---------------------------------------------------------------------------------------------------------


def test_the_overview_shows_every_version_and_moves(place, reader):
    page = reader.open("/")
    rows = page.locator("table.models tbody tr")
    expect(rows).to_have_count(3)
    assert all(rows.nth(k).locator(".badge").first.inner_text().strip() for k in range(3))
    row = page.locator("table.models tbody tr", has_text="fraud")
    expect(row.locator(".badge").first).to_contain_text("calibrated")
    before = page.locator("tr", has_text="production").locator("[data-label=Labelled] small")
    told = number(before.inner_text())
    place.post([{"prediction_id": f"o{k}", "probability": 0.9} for k in range(7)])
    becomes(lambda: number(before.inner_text()) == told + 7)
    expect(page.locator("tr", has_text="production").locator("time")).to_have_text(re.compile("just now|second"))
    page.fill("#find", "fraud")
    expect(rows).to_have_count(1)


def test_the_strip_moves_and_stands_still_when_told(place, reader):
    page = reader.open(AT)
    dots = page.locator("#strip svg.chart .dot")
    last = page.locator("#strip svg.chart .dot title").last
    place.post([{"prediction_id": f"s{k}", "probability": 0.987} for k in range(5)])
    expect(last).to_have_text(re.compile(r"answered, confidence 0\.987"), timeout=PATIENT)
    assert dots.count() > 20
    page.click("#pause")
    place.post([{"prediction_id": f"t{k}", "probability": 0.876} for k in range(5)])
    expect(page.locator("#rates")).to_contain_text("Missed while paused", timeout=PATIENT)
    becomes(lambda: "5" in tick(page, "Missed while paused", "#strip").inner_text())
    expect(last).to_have_text(re.compile(r"confidence 0\.987"))


def test_reliability_is_read_by_pointer_keys_and_table(reader):
    page = reader.open(AT)
    panel = page.locator("#reliability")
    expect(panel.locator("circle.dot.served")).not_to_have_count(0)
    expect(panel.locator("rect.dot.shipped")).not_to_have_count(0)
    said = re.compile(r"(served|shipped): stated 0\.\d+, happened 0\.\d+ \(0\.\d+ to \d\.\d+\), n \d+")
    panel.locator(".stage circle.dot.served").nth(3).hover()
    expect(panel.locator(".tip")).to_be_visible()
    expect(panel.locator(".tip")).to_have_text(said)
    page.mouse.move(0, 0)
    expect(panel.locator(".tip")).to_be_hidden()
    page.locator("#full").focus()
    page.keyboard.press("Tab")
    expect(panel.locator("svg.chart")).to_be_focused()
    expect(panel.locator(".tip")).to_be_visible()
    expect(panel.locator(".tip")).to_have_text(said)
    first = panel.locator(".tip").inner_text()
    page.keyboard.press("ArrowRight")
    expect(panel.locator(".tip")).not_to_have_text(first)
    panel.get_by_role("button", name="Show as table").click()
    rows = panel.locator("table tbody tr")
    assert rows.count() >= 10
    expect(rows.first.locator("td").last).to_have_text(re.compile(r"0\.\d+ to \d\.\d+"))


def test_every_part_of_a_version_says_something(reader):
    page = reader.open(f"{AT}?window=all")
    expect(page.locator("#head .verdict .badge")).to_be_visible()
    expect(page.locator("#head .verdict + dl")).to_be_visible()  # an alarm says by itself what to do
    expect(page.locator("#head")).to_contain_text("Diagnosis: the probabilities")
    expect(tick(page, "Calibration").last).to_contain_text("published")
    expect(page.locator("#revisions .badge")).to_contain_text("published")
    expect(page.locator("#risk circle.policy")).to_have_count(1)
    expect(page.locator("#risk path.policy").last).to_be_attached()
    for figure in page.locator("#timeline figure").all():
        assert figure.locator("path.revision").count() >= 1
        assert figure.locator(".stage .flag").count() >= 1
    expect(page.locator("#maturity")).to_contain_text("have an outcome")
    expect(page.locator("#drift tbody tr")).to_have_count(2)
    expect(page.locator("#drift")).to_contain_text("drifted")
    expect(page.locator("#segments tbody tr")).to_have_count(2)
    expect(page.locator("#lineage li.here")).to_contain_text("version 1")
    expect(page.locator("#lineage li")).to_have_count(2)
    expect(page.locator("#replicas")).to_contain_text("host:1")
    expect(page.locator("#revisions tbody tr")).not_to_have_count(0)
    page.select_option("#versions", "2")
    expect(page).to_have_url(re.compile(r"/models/churn/2\?window=all$"))
    expect(page.locator("#alarms")).to_contain_text("To serve this costs more than it gives.")


def test_an_alarm_comes_and_goes_by_itself(place, reader):
    page = reader.open(AT)
    said = page.locator("#alarms", has_text="Tenure has drifted.")
    place.stream.raise_alarm("drift", "tenure", "critical", "Tenure has drifted.", {"statistic": 0.4})
    expect(said).to_be_visible(timeout=PATIENT)
    place.stream.resolve_alarm("drift", "tenure")
    expect(said).to_have_count(0, timeout=PATIENT)


# --- deciding --------------------------------------------------------------------------------------------------------


def test_a_case_is_claimed_corrected_and_counted(place, reader):
    with place.reader() as looker:
        model = looker.open(AT)
        before = number(tick(model, "Labelled").first.inner_text())
        page = reader.open("/reviews?model=churn")
        expect(page.locator(".case-link")).to_have_count(dashboard_world.WAITING)
        expect(page.locator("#case .features")).to_contain_text("tenure")
        expect(page.locator("#case .facts")).to_contain_text(re.compile(r"was below the threshold .* \(now 0\.6\)\."))
        expect(page.locator("#case .facts")).to_contain_text(re.compile(r"Probability0\.\d+ \(0\.\d+ to 0\.\d+\)"))
        case = page.locator("#case h2 bdi").first.inner_text()
        page.keyboard.press("c")
        expect(page.locator("#lease")).to_contain_text("You hold it for")
        is_staying = "stays" in page.locator("#case .answers .main").inner_text()
        page.keyboard.press("2" if is_staying else "1")
        expect(page.locator("#effect")).to_contain_text(case)
        expect(page.locator("#effect")).to_contain_text(re.compile(r"labelled [\d,]+ → [\d,]+"))
        expect(page.locator(".case-link")).to_have_count(dashboard_world.WAITING - 1)
        becomes(lambda: number(tick(model, "Labelled").first.inner_text()) == before + 1, 15.0)
        assert looker.noise == []


def test_of_two_reviewers_one_gets_the_case(place):
    with place.reader(["review"], "mia") as mia, place.reader(["review"], "noah") as noah:
        hers, his = mia.open("/reviews"), noah.open("/reviews")
        case = hers.locator("#case h2 bdi").first
        expect(his.locator("#case h2 bdi").first).to_have_text(case.inner_text())
        name = case.inner_text()
        hers.keyboard.press("c")
        expect(hers.locator("#lease")).to_contain_text("You hold it")
        his.keyboard.press("c")
        expect(his.locator("#said")).to_contain_text(f"The review of '{name}' is claimed by 'mia'.")
        expect(his.locator("#case h2 bdi").first).not_to_have_text(name)  # and the next one came up
        hers.keyboard.press("u")
        expect(hers.locator("#lease")).to_contain_text("Nobody holds it")
        assert [said for said in mia.noise + noah.noise if "409" not in said] == []


def test_a_threshold_of_the_page_holds_for_the_next_prediction(place, reader):
    page = reader.open(AT)
    page.fill("#threshold", "0.9")
    expect(page.locator(".whatif")).to_contain_text("At 0.900:")
    page.click("#threshold-save")
    page.click("#sure-yes")
    expect(page.locator("#said")).to_have_text("The threshold is 0.900 now.")
    (told,) = place.post([{"prediction_id": "obeys", "probability": 0.85}])["predictions"]
    assert told["abstained"]
    expect(page.locator("#head")).to_contain_text("below 0.900")
    with place.reader(["view"], "viewer") as viewer:
        seen = viewer.open(AT)
        expect(seen.locator("#threshold")).to_be_visible()  # asking what if is everybody's
        for control in ("#threshold-save", "#alarms button", "#revisions button", "nav a[href$='/tokens']"):
            expect(seen.locator(control)).to_have_count(0)


# --- on any screen, by any means -------------------------------------------------------------------------------------


def test_a_telephone_needs_no_sideways_scrolling(place):
    with place.reader(viewport={"width": 390, "height": 844}, has_touch=True) as reader:
        for path in PAGES.values():
            page = reader.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
            for link in page.locator("nav[aria-label=Pages] a").all():
                box = link.bounding_box()
                assert box["x"] >= 0, path
                assert box["x"] + box["width"] <= 390, path
                assert box["height"] >= 24, path
        page.locator("nav[aria-label=Pages] a", has_text="Reviews").tap()
        expect(page).to_have_url(f"{reader.url}/reviews")
        assert reader.noise == []


def test_dark_by_system_and_by_hand(place, reader):
    ground = "getComputedStyle(document.body).backgroundColor"

    def is_dark(page):
        return sum(map(int, re.findall(r"\d+", page.evaluate(ground))[:3])) < 200

    page = reader.open("/")
    assert not is_dark(page)
    page.click("#theme")
    page.click("#theme")
    expect(page.locator("#theme")).to_have_text("Theme: dark")
    assert is_dark(page)
    assert is_dark(reader.open("/audit"))  # it is remembered
    with place.reader(color_scheme="dark") as other:
        page = other.open("/")
        assert is_dark(page)
        page.click("#theme")
        expect(page.locator("#theme")).to_have_text("Theme: light")
        assert not is_dark(page)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_serious(place, axe, scheme):
    found = {}
    with place.reader(color_scheme=scheme, bypass_csp=True) as reader:
        for path in (*PAGES.values(), "/login"):
            problems = axe.run(reader.open(path)).response["violations"]
            found[path] = [
                (each["id"], each["nodes"][0]["html"]) for each in problems if each["impact"] in {"serious", "critical"}
            ]
    assert found == {path: [] for path in found}


# --- the service goes away: last, for the others need it -----------------------------------------------------------


def is_stale(page):
    expect(page.locator("#banner")).to_have_text(re.compile("does not answer since .*figures are as of then"))
    assert "stale" in page.evaluate("getComputedStyle(document.querySelector('.asof:not(:empty)'), '::before').content")


@pytest.mark.parametrize("path", [AT, pytest.param("/", marks=pytest.mark.slow)])
def test_a_service_that_hangs_is_said_and_comes_back(place, path):
    with place.reader() as reader:
        page = reader.open(path)
        banner = page.locator("#banner")
        os.kill(place.service.process.pid, signal.SIGSTOP)
        try:
            expect(banner).to_be_visible(timeout=5_000 if path == "/" else PATIENT)
            is_stale(page)
        finally:
            os.kill(place.service.process.pid, signal.SIGCONT)
        expect(banner).to_be_hidden(timeout=PATIENT)
        expect(page.locator("#connection")).to_have_attribute("data-state", "live", timeout=PATIENT)


@pytest.mark.slow
def test_a_service_that_was_killed_is_found_again(place):
    with place.reader() as reader:
        page = reader.open(AT)
        page.evaluate("window.loaded = 'once'")
        place.service.stop(signal.SIGKILL)
        expect(page.locator("#banner")).to_be_visible(timeout=5_000)
        is_stale(page)
        place.service.start()
        expect(page.locator("#banner")).to_be_hidden(timeout=10_000)
        expect(page.locator("#connection")).to_have_attribute("data-state", "live", timeout=10_000)
        place.post([{"prediction_id": "after", "probability": 0.954}])
        last = page.locator("#strip svg.chart .dot title").last
        expect(last).to_have_text(re.compile(r"confidence 0\.954"), timeout=PATIENT)
        assert page.evaluate("window.loaded") == "once"
