"""The page in a real browser, offline: no request, no error, and no sideways scrolling on a phone."""

from __future__ import annotations

import pytest

from mlflow_caliber.html import render_report

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=["binary_report", "digits_report"])
def address(request, tmp_path_factory, drift):
    context = {"Model": "models:/a-model-with-a-rather-long-name/3", "Digest": "sha256:" + "0123456789abcdef" * 4}
    page = render_report(request.getfixturevalue(request.param), title="A report", context=context, drift=drift)
    path = tmp_path_factory.mktemp("html") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (500, "light"), (1200, "dark")])
def test_page_fits_and_is_silent(browser, address, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    page = context.new_page()
    noise: list[str] = []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("request", lambda request: noise.append(request.url) if request.url != address else None)
    page.goto(address)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    scroll, background, widest = page.evaluate(
        """() => [
            document.documentElement.scrollWidth,
            getComputedStyle(document.body).backgroundColor,
            Math.max(...[...document.querySelectorAll('.box')].map(box => box.scrollWidth - box.clientWidth)),
        ]"""
    )
    context.close()
    assert noise == []
    assert scroll <= width
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 25, 28)")
    # On a phone the wide tables do scroll, each inside its own box.
    assert (widest > 0) == (width < 600)
