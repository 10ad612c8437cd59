"""The page of an audit pack in a real browser, offline: no request, no error, no sideways scrolling on a phone."""

from __future__ import annotations

import pytest

from audit_story import make_story
from mlflow_caliber.evidence import load_evidence
from mlflow_caliber.gate.pack import audit_pack

pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of the first champion, whose approvers wrote hostile comments."""
    folder = tmp_path_factory.mktemp("story")
    story = make_story(folder)
    made = audit_pack(
        story.name,
        "1",
        "champion",
        entries=story.ledger.entries(model=story.name),
        now=story.now,
        verification=story.ledger.verify(),
        evidence=lambda run_id: load_evidence(run_id, story.world.client),
    )
    (folder / "audit.html").write_text(made.to_html(), encoding="utf-8")
    return (folder / "audit.html").as_uri()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (500, "light"), (1200, "light")])
def test_page_fits_and_is_silent(browser, address, width, scheme):
    noise: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("dialog", lambda dialog: noise.append(dialog.message))
    page.on("request", lambda request: noise.append(request.url) if request.url != address else None)
    page.goto(address)
    scroll = page.evaluate("document.documentElement.scrollWidth")
    headings = page.locator("h2").all_inner_texts()
    text = page.inner_text("main")
    context.close()
    assert noise == []
    assert scroll <= width
    assert headings[:3] == ["The decision, rule by rule", "The evidence", "Approvals, overrides, freezes"]
    assert "<script>alert('x')</script>" in text  # read, and not run
