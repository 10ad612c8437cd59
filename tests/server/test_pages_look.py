"""The dashboard's files: nothing from elsewhere, nothing inline, every element that a script asks for, and small."""

from __future__ import annotations

import gzip
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest

import mlflow_caliber
from mlflow_caliber.theme import static_folder

SERVER = Path(mlflow_caliber.__file__).parent / "server"
STATIC = SERVER / "static"
TEMPLATES = SERVER / "templates"
PAGES = ("overview", "model", "reviews", "audit", "tokens")
SCRIPTS = sorted(STATIC.rglob("*.js")) + sorted(static_folder().glob("*.js"))
SHEETS = sorted(STATIC.rglob("*.css")) + sorted(static_folder().glob("*.css"))
HOSTILE = "<script>alert(1)</script>\" onload='x'"
FIRST_LOAD = 500_000
MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|javascript:"
# The only addresses that are no places to fetch from: names of XML namespaces.
NAMESPACES = {"http://www.w3.org/2000/svg"}


class Elements(HTMLParser):
    """The tags of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]


def rendered(name: str, /, **values: Any) -> str:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    known = {"base": "/live", "version": "1.0", "name": "mia", "roles": ["admin"], "csrf": "c", "here": None}
    known |= {"model": "churn", "model_version": "1", "error": None, "next": "/", "title": "No", "sentence": "No."}
    return environment.get_template(f"{name}.html").render({**known, **values})


def modules(first: Path) -> set[Path]:
    """A script and all that it imports."""
    found, waiting = set(), [first]
    while waiting:
        script = waiting.pop()
        if script in found:
            continue
        found.add(script)
        names = re.findall(r'from "(\.[^"]+)"', script.read_text(encoding="utf-8"))
        waiting.extend(on_disk((script.parent / name).resolve()) for name in names)
    return found


def on_disk(address: Path) -> Path:
    """The server puts the shared files under ``theme`` beside its own."""
    theme = STATIC.resolve() / "theme"
    return static_folder().resolve() / address.name if address.parent == theme else address


def scripts_of(name: str) -> set[Path]:
    sources = [each["src"] or "" for each in Elements(rendered(name)).all("script")]
    return set().union(*(modules((STATIC / source.removeprefix("/live/static/")).resolve()) for source in sources))


@pytest.mark.parametrize("name", [*PAGES, "login", "error"])
def test_pages_fetch_from_here_only_and_hold_no_script_or_style(name: str) -> None:
    page = Elements(rendered(name))
    addresses = [each["href"] for each in page.all("a") + page.all("link")]
    addresses += [each["src"] for each in page.all("script") + page.all("img")]
    assert all(address and address.startswith(("/live/", "#")) for address in addresses), addresses
    assert all("src" in each for each in page.all("script"))
    assert not page.all("style")
    names = [attribute for _, attributes in page.tags for attribute in attributes]
    assert not [attribute for attribute in names if attribute == "style" or attribute.startswith("on")]


@pytest.mark.parametrize("name", [*PAGES, "login", "error"])
def test_pages_have_landmarks_a_skip_link_and_each_id_once(name: str) -> None:
    page = Elements(rendered(name))
    assert [len(page.all(tag)) for tag in ("main", "footer", "h1")] == [1, 1, 1]
    assert page.all("a")[0]["href"] == "#main"
    assert len(page.ids()) == len(set(page.ids()))
    assert page.all("html")[0]["lang"] == "en"
    targets = [each["for"] for each in page.all("label") if "for" in each]
    assert set(targets) <= set(page.ids())


def test_login_says_what_went_wrong_and_tells_nothing_of_the_rest() -> None:
    text = rendered("login", name=None, csrf=None, roles=[], error="That token is not known.", next="/audit")
    assert "That token is not known." in text
    assert 'value="/audit"' in text
    page = Elements(text)
    token = next(each for each in page.all("input") if each.get("name") == "token")
    assert (token["type"], token["autocomplete"]) == ("password", "off")
    assert not page.all("nav")


def test_hostile_names_stay_text() -> None:
    text = rendered("model", model=HOSTILE, model_version=HOSTILE, name=HOSTILE)
    assert "<script>alert" not in text
    assert not [attributes for _, attributes in Elements(text).tags if "onload" in attributes]


def test_tokens_are_offered_to_admins_only() -> None:
    assert "/live/tokens" in rendered("overview")
    assert "/live/tokens" not in rendered("overview", roles=["view"])


@pytest.mark.parametrize("file", SCRIPTS + SHEETS, ids=lambda file: file.name)
def test_files_name_no_other_place_and_no_markup(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= NAMESPACES
    assert not re.search(r"@import|url\(", text)
    assert not re.search(MARKUP, text)
    assert len(text.splitlines()) <= 250


@pytest.mark.parametrize("name", PAGES)
def test_every_element_that_a_script_asks_for_is_there(name: str) -> None:
    texts = [script.read_text(encoding="utf-8") for script in scripts_of(name)]
    asked = {each for text in texts for each in re.findall(r'byId\("([a-z-]+)"\)(?!\?)', text)}
    asked |= {each for text in texts for each in re.findall(r'panel\("([a-z-]+)"', text)}
    made = {each for text in texts for each in re.findall(r'\bid: "([a-z-]+)"', text)}
    assert asked - made <= set(Elements(rendered(name)).ids())


@pytest.mark.parametrize("name", PAGES)
def test_every_module_that_is_imported_gives_what_is_asked_of_it(name: str) -> None:
    for script in scripts_of(name):
        for names, source in re.findall(r'import \{([^}]+)\} from "([^"]+)"', script.read_text(encoding="utf-8")):
            given = on_disk((script.parent / source).resolve()).read_text(encoding="utf-8")
            for wanted in (each.strip() for each in names.split(",")):
                found = re.search(rf"export (async )?(function|const|class) {wanted}\b", given)
                assert found, f"{script.name}: {wanted}"


@pytest.mark.parametrize("name", PAGES)
def test_the_first_load_is_small(name: str) -> None:
    files = {*scripts_of(name), *SHEETS, static_folder() / "caliber.svg"}
    size = sum(len(gzip.compress(file.read_bytes())) for file in files) + len(gzip.compress(rendered(name).encode()))
    assert size < FIRST_LOAD
