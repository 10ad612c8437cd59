"""The live example runs, what it claims holds, and its page in the docs shows what it prints."""

from __future__ import annotations

import math
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_caliber.online import HedgedRecalibrator

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "live_recalibration.py"
PAGE = (ROOT / "docs" / "user-guide" / "live-story.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


class Told:
    """What a run printed, its table cells by row and column, and where its figures are."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, str(EXAMPLE), "--output", str(folder), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr
        self.text, self.folder = done.stdout, folder
        self.cells = {}
        for table in self.text.split("\n\n"):
            if table.startswith("|"):
                head, _, *rows = map(cells, table.splitlines())
                self.cells |= {
                    (head[0], row[0], column): cell for row in rows for column, cell in zip(head, row, strict=True)
                }

    def __call__(self, row: str, column: str, table: str = "") -> float:
        return float(self.cells[table, row, column])


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return Told(tmp_path_factory.mktemp("quick"), "--rows", "2000")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return Told(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def story():
    """The names of the example."""
    return runpy.run_path(str(EXAMPLE))


def sports_claims(told: Told) -> None:
    for part in ("first 500 after it", "all after it"):
        for metric in ("log loss", "Brier score"):
            row = f"{metric}, {part}"
            others = [told(row, who) for who in ("raw", "rolling, per sport", "rolling, pooled")]
            assert told(row, "hedged") < min(others)
    costs = "cost against raw, nats"
    for who in ("hedged", "hedged, no delay"):
        assert told(who, "most ever", costs) <= told(who, "proved bound", costs)
    harm = {
        who: told(who, "most before the change", costs) for who in ("hedged", "rolling, per sport", "rolling, pooled")
    }
    assert harm["hedged"] < 0.5 * min(harm["rolling, per sport"], harm["rolling, pooled"])
    assert told("hedged", "at the end", costs) < 0
    bucket = "80-90 % bucket"
    won, games = told("all after it", "won", bucket), told("all after it", "games", bucket)
    assert won == pytest.approx(0.44, abs=3 * math.sqrt(0.25 / games))
    assert abs(told("all after it", "hedged said", bucket) - won) < abs(told("all after it", "raw said", bucket) - won)
    alarm = told.cells["alarm fed with", "raw", "e-value reaches 20"]
    assert re.fullmatch(r"\d{1,3} outcomes after the change", alarm)


def test_sports_told_quickly(quick):
    assert "off on average" in quick.text
    sports_claims(quick)


def test_figures_are_drawn(quick):
    for name in ("live-sports.png", "live-census.png"):
        assert (quick.folder / name).read_bytes().startswith(b"\x89PNG")


def test_too_few_rows_are_refused(story, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["live_recalibration.py", "--rows", "999"])
    with pytest.raises(SystemExit, match="2"):
        story["read_options"]()
    assert "--rows must be at least 1000, got 999." in capsys.readouterr().err


@pytest.mark.slow
def test_sports_told_in_full(full):
    sports_claims(full)
    assert full("all after it", "won", "80-90 % bucket") == pytest.approx(0.44, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["too sure", "default"])
def test_census_acceptance(full, model):
    raw, rolling, hedged = (
        full(f"{model}, all", f"log loss: {who}", "model, year") for who in ("raw", "rolling", "hedged")
    )
    assert hedged <= min(raw, rolling)
    assert f"{model}: the log loss of hedged is at most that of raw and rolling" in full.text


@pytest.mark.slow
def test_the_page_shows_what_is_printed(full):
    assert len(table_lines(PAGE)) == len(table_lines(full.text))
    for shown, fresh in zip(table_lines(PAGE), table_lines(full.text), strict=True):
        assert same(shown, fresh), f"{shown}\n{fresh}"
    for sentence in full.text.splitlines():
        if "thousandths of a nat" in sentence:
            assert any(same(shown, f"* {sentence}") for shown in PAGE.splitlines()), sentence


def same(shown: str, fresh: str) -> bool:
    """The same words, and the same numbers up to one unit of the last place (another machine may round otherwise)."""
    if NUMBER.sub("#", shown) != NUMBER.sub("#", fresh):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(fresh), strict=True)
    return all(abs(float(a) - float(b)) <= 1.01 * 10.0 ** -len(a.partition(".")[2]) for a, b in pairs if a != b)


@pytest.mark.slow
def test_other_seeds_on_the_page(story):
    costs = []
    for seed in (1, 2, 3):
        season = story["simulate"](story["SPORTS_ROWS"], seed)
        cost = story["play"](HedgedRecalibrator(), season).cumulative_excess
        costs.append(f"{cost[season.change - 1]:.1f}")
    assert f"{costs[0]}, {costs[1]} and {costs[2]} nats" in " ".join(PAGE.split())
