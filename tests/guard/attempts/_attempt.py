"""An attempt: what is done to a model on a server, and whether it reached its goal there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mlflow.exceptions import RestException

from ._target import Answer, Target

Act = Callable[[Target], object]
Judge = Callable[[Target], bool]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """
    One way around the gate.

    ``plain`` says whether a plain server can be attacked alike, and ``on`` which guarded servers are. What is asked for
    is refused, unless it is ``ignored``: the request is answered and the forbidden part of it left out.
    """

    kind: str
    name: str
    act: Act
    achieved: Judge
    plain: bool = True
    on: tuple[str, ...] = ("guarded", "people")
    ignored: bool = False
    quick: bool = False

    @property
    def id(self) -> str:
        """As the list of tests shows it."""
        return f"{self.kind}: {self.name}"


class Attempts(list[Attempt]):
    """The attempts of one kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, act: Act, achieved: Judge, **options: object) -> None:
        """One more."""
        self.append(Attempt(kind=self.kind, name=name, act=act, achieved=achieved, **options))  # type: ignore[arg-type]

    def of(self, name: str, achieved: Judge, **options: object) -> Callable[[Act], Act]:
        """One more, as a decorator of what is done."""

        def keep(act: Act) -> Act:
            self.add(name, act, achieved, **options)
            return act

        return keep


def champion_is_not(version: str) -> Judge:
    """The champion is another one, or none."""
    return lambda target: target.holder() != version


def holds(version: str, alias: str = "champion") -> Judge:
    """A version has an alias."""
    return lambda target: target.holder(alias) == version


def entered(version: str, stage: str = "Production") -> Judge:
    """A version is in a stage."""
    return lambda target: target.in_stage(version, stage)


_TRACES = re.compile(r"Traceback|File \"|site-packages|/tmp/|sqlite:|\[SQL|<html|<!doctype", re.IGNORECASE)


def check_answers(attempt: Attempt, target: Target) -> None:
    """Every error was JSON that MLflow's client shows as a sentence, and at least one was a refusal."""
    errors = [answer for answer in target.answers if answer.status >= 400]
    if any(_is_of_basic_auth(answer) for answer in errors):
        return  # the request did not get as far as the guard
    for answer in errors:
        assert answer.kind.startswith("application/json"), answer
        assert answer.code, answer
        assert answer.message, answer
        found = _TRACES.search(answer.text.replace(str(target.site.uri), ""))
        assert not found, (found, answer)
        assert str(target.site.server.folder) not in answer.text, answer
    if not attempt.ignored:
        assert errors, "nothing was refused"
        assert any(_is_sentence(answer) for answer in errors), errors


def _is_of_basic_auth(answer: Answer) -> bool:
    return answer.status in (401, 403) and answer.text.startswith(("Permission denied", "You are not authenticated"))


def _is_sentence(answer: Answer) -> bool:
    shown = str(RestException(answer.body))
    code, _, sentence = shown.partition(": ")
    return (
        code == answer.code and len(sentence.split()) > 3 and "\n" not in sentence and sentence.rstrip().endswith(".")
    )
