"""Every attempt works on a plain server; on a guarded one it is refused with a sentence, and changes nothing."""

from __future__ import annotations

import pytest

from .attempts import ATTEMPTS
from .attempts._attempt import check_answers
from .attempts._fleet import SURROUNDINGS, fleet
from .attempts._site import GOOD
from .attempts._target import Target

pytestmark = pytest.mark.system

KINDS = ("plain", "guarded", "people")
ELSEWHERE = ("path", "body", "version spelling", "stage spelling", "tag", "replay", "prompt")
"""The kinds of which some are tried behind gunicorn, and behind a prefix, too."""


def _cases():
    for attempt in ATTEMPTS:
        others = ("gunicorn", "prefix") if attempt.quick and attempt.kind in ELSEWHERE else ()
        for kind in (*KINDS, *others):
            if kind == "prefix" and "slashes" in attempt.name:
                continue  # behind a prefix MLflow itself does not know such paths
            if attempt.plain if kind == "plain" else kind in (*attempt.on, *others):
                quick = attempt.quick and kind in ("plain", "guarded")
                marks = () if quick else pytest.mark.slow
                yield pytest.param(kind, attempt, id=f"{kind}-{attempt.id}", marks=marks)


@pytest.fixture
def sites(request, tmp_path_factory, monkeypatch):
    """Gives the server of a kind."""
    for name, value in SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    return fleet(request, tmp_path_factory)


@pytest.mark.parametrize(("kind", "attempt"), tuple(_cases()))
def test_attempt(sites, kind, attempt):
    target = Target.on(sites(kind))
    attempt.act(target)
    reached = attempt.achieved(target)
    if kind == "plain":
        assert reached, ("does not even work without a guard", target.answers)
    else:
        assert not reached, target.answers
        check_answers(attempt, target)


@pytest.mark.parametrize("kind", ["guarded", pytest.param("people", marks=pytest.mark.slow)])
@pytest.mark.parametrize("version", ["²", "2.0", "two", "-2", "0", "9" * 12])
def test_what_is_no_version_is_answered_as_on_a_plain_server(sites, kind, version):
    said = []
    for each in ("plain", kind):
        target = Target.on(sites(each))
        stage = {"stage": "Production", "archive_existing_versions": True}
        answers = target.alias(version), target.call("model-versions/transition-stage", version=version, **stage)
        said.append([(answer.status, answer.kind, answer.code) for answer in answers])
        assert target.holder() == GOOD
    assert said[1] == said[0]


def test_there_are_enough_of_them():
    assert len([attempt for attempt in ATTEMPTS if attempt.plain]) >= 120
    assert len({attempt.id for attempt in ATTEMPTS}) == len(ATTEMPTS)
