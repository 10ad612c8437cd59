"""Probabilities that go wrong while they are being served: raw, rolling isotonic and hedged, side by side.

First eleven sports, simulated: win probabilities that are right, and 21 % off from one day to the next. Then the US
Census ACS sample of the project: models of 2015 that answer through 2016, 2017 and 2018. Outcomes come late in both.
Prints Markdown tables and draws two figures; ``docs/user-guide/live-story.md`` tells what is to be seen.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from mlflow_caliber.metrics import brier_score, expected_calibration_error, log_loss
from mlflow_caliber.online import (
    Backtest,
    CalibrationAlarm,
    Forecast,
    HedgedRecalibrator,
    Learned,
    RollingRecalibrator,
    backtest,
)
from mlflow_caliber.plots import Figure, backtest_plot, save_png

Floats = NDArray[np.float64]

CENSUS = Path(__file__).resolve().parent / "data" / "acs_employment_ma.parquet"
SPORTS = ["football", "basketball", "tennis", "baseball", "hockey", "cricket", "rugby", "handball"]
SPORTS += ["volleyball", "boxing", "darts"]
SPORTS_ROWS, CENSUS_ROWS = 12_000, 50_000
# In forecasts: how late an outcome comes.
SPORTS_DELAY, CENSUS_DELAY = 48, 200
FIRST = 500
ALPHA, RUN_LENGTH = 0.05, 10_000
BUCKET = (0.8, 0.9)
POINTS = 1000
ROLLING_LOOKS = (("#009e73", "-."), ("#a3487c", ":"))
# The quickstart's model, which is too sure of itself, and one as scikit-learn would have it.
MODELS: dict[str, dict[str, Any]] = {
    "too sure": {"learning_rate": 0.2, "max_iter": 300, "early_stopping": False},
    "default": {},
}


class Season(NamedTuple):
    """Raw win probabilities, true ones, outcomes and sports, and the row at which the truth changes."""

    raw: Floats
    truth: Floats
    won: NDArray[np.int64]
    sport: NDArray[np.str_]
    change: int

    @property
    def parts(self) -> dict[str, slice]:
        """The spans that are measured."""
        return {
            "before the change": slice(0, self.change),
            f"first {FIRST} after it": slice(self.change, self.change + FIRST),
            "all after it": slice(self.change, None),
        }


class RollingPerSport:
    """The usual way: a rolling isotonic fit for each sport, which knows nothing of the others."""

    def __init__(self) -> None:
        self.fits: defaultdict[str | None, RollingRecalibrator] = defaultdict(RollingRecalibrator)

    def forecast(self, p: float, segment: str | None = None) -> Forecast:
        """What the sport's own fit serves."""
        return self.fits[segment].forecast(p, segment)

    def update(self, forecast: Forecast, y: int) -> list[Learned]:
        """The sport's own fit learns."""
        return self.fits[forecast.segment].update(forecast, y)


def main() -> None:
    """Tell both stories and draw them."""
    options = read_options()
    options.output.mkdir(parents=True, exist_ok=True)
    games, persons = options.rows or SPORTS_ROWS, options.rows or CENSUS_ROWS
    save_png(sports(games, options.seed), options.output / "live-sports.png")
    save_png(census(persons, options.seed), options.output / "live-census.png")
    print(f"\nThe figures are in {options.output}")


def read_options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the figures (default: demo)")
    parser.add_argument(
        "--rows", type=int, help=f"rows of each stream (default: {SPORTS_ROWS} games, {CENSUS_ROWS} people)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the simulated games (default: 0)")
    options = parser.parse_args()
    if options.rows is not None and options.rows < 2 * FIRST:
        parser.error(f"--rows must be at least {2 * FIRST}, got {options.rows}.")
    return options


def sports(rows: int, seed: int) -> Figure:
    """Play the season through each recalibrator and print what it came to."""
    season = simulate(rows, seed)
    played = {
        "rolling, per sport": play(RollingPerSport(), season),
        "rolling, pooled": play(RollingRecalibrator(), season),
        "hedged": play(HedgedRecalibrator(), season),
    }
    answers = {"raw": season.raw, **{name: result.served for name, result in played.items()}}
    off = np.abs(season.truth - season.raw)[season.change :].mean()
    print(f"## Eleven sports\n\n{rows:,} games, outcomes {SPORTS_DELAY} forecasts late.")
    print(f"After game {season.change:,} the win probabilities are {off:.3f} off on average.\n")
    print_scores(season, {**answers, "truth": season.truth})
    print_bucket(season, answers)
    simpler = {
        "hedged, no segments": play(HedgedRecalibrator(), season, segments=False),
        "hedged, no delay": play(HedgedRecalibrator(), season, delay=0),
    }
    print_costs(season, {**played, **simpler})
    print_alarms(season, answers)
    return draw(played, "Eleven sports: gone wrong half-way", {"the change": season.change})


def simulate(rows: int, seed: int) -> Season:
    """Scores that are true in the first half of the season, and afterwards flatter and too high."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-0.1, 1.35, rows)
    raw, after = sigmoid(z), sigmoid(0.42643 * z - 0.98085)
    truth = np.where(np.arange(rows) < rows // 2, raw, after)
    size = np.arange(1.0, len(SPORTS) + 1.0) ** -1.1
    sport = rng.choice(np.array(SPORTS), rows, p=size / size.sum())
    return Season(raw, truth, (rng.random(rows) < truth).astype(np.int64), sport, rows // 2)


def sigmoid(z: Floats) -> Floats:
    """Log odds to probability."""
    p: Floats = 1.0 / (1.0 + np.exp(-z))
    return p


def play(recalibrator: Any, season: Season, *, delay: int = SPORTS_DELAY, segments: bool = True) -> Backtest:
    """What it would have served, outcomes coming late."""
    names = season.sport if segments else None
    return backtest(recalibrator, season.raw, season.won, segments=names, delay=delay)


def print_scores(season: Season, answers: dict[str, Floats]) -> None:
    """Log loss, Brier score and calibration error before and after the change."""
    metrics = {"log loss": log_loss, "Brier score": brier_score, "ECE": expected_calibration_error}
    rows = [
        [f"{name}, {part}", *(f"{metric(season.won[span], answer[span]):.4f}" for answer in answers.values())]
        for part, span in season.parts.items()
        for name, metric in metrics.items()
        if name != "ECE" or not part.startswith("first")  # of 500 games it is mostly noise
    ]
    print_table(["", *answers], rows)


def print_bucket(season: Season, answers: dict[str, Floats]) -> None:
    """How often the games won that the raw score gives 80 to 90 %, and what was said of them."""
    inside = (season.raw >= BUCKET[0]) & (season.raw < BUCKET[1])
    rows = []
    for part, span in season.parts.items():
        chosen = inside[span]
        said = (f"{answer[span][chosen].mean():.3f}" for answer in answers.values())
        rows.append([part, str(chosen.sum()), f"{season.won[span][chosen].mean():.3f}", *said])
    print_table(["80-90 % bucket", "games", "won", *(f"{name} said" for name in answers)], rows)


def print_costs(season: Season, played: dict[str, Backtest]) -> None:
    """Log loss in total beyond that of the raw scores: harm done where they were right, gain where they were not."""
    rows = []
    for name, result in played.items():
        cost = result.cumulative_excess
        moments = (cost[: season.change].max(), cost[season.change - 1], cost.max(), cost[-1])
        bound = getattr(result.recalibrator, "excess_bound", None)
        rows.append([name, *(f"{nats:+.1f}" for nats in moments), "none" if bound is None else f"{bound:+.1f}"])
    head = [
        "cost against raw, nats",
        "most before the change",
        "at the change",
        "most ever",
        "at the end",
        "proved bound",
    ]
    print_table(head, rows)


def print_alarms(season: Season, answers: dict[str, Floats]) -> None:
    """How many outcomes after the change the alarm rings that is fed each answer."""
    rows = [
        [name, *(moment(outcomes, season) for outcomes in alarms(season, answer))] for name, answer in answers.items()
    ]
    print_table(["alarm fed with", f"e-value reaches {1 / ALPHA:.0f}", f"cusum reaches {RUN_LENGTH:,}"], rows)


def alarms(season: Season, answer: Floats) -> list[int | None]:
    """After how many outcomes the two readings of the alarm are raised."""
    alarm, readings = CalibrationAlarm(alpha=ALPHA, run_length=RUN_LENGTH), ("raised", "cusum_raised")
    raised: dict[str, int] = {}
    for seen, (p, y) in enumerate(zip(answer.tolist(), season.won.tolist(), strict=True), start=1):
        alarm.update(p, y)
        for reading in readings:
            if getattr(alarm, reading):
                raised.setdefault(reading, seen)
    return [raised.get(reading) for reading in readings]


def moment(outcomes: int | None, season: Season) -> str:
    """When an alarm was raised, in words."""
    if outcomes is None:
        return "never"
    late = outcomes - season.change
    return f"{late} outcomes after the change" if late > 0 else f"at outcome {outcomes}, before the change"


def census(rows: int, seed: int) -> Figure:
    """Models of 2015 answer through the later years; print what each recalibrator makes of them."""
    first, later = people(rows)
    year, employed = later["year"].to_numpy(), later["employed"].to_numpy()
    print(f"## The census, by year\n\n{len(later):,} people, outcomes {CENSUS_DELAY} forecasts late.\n")
    played = {name: live(settings, first, later, seed) for name, settings in MODELS.items()}
    answers = {name: [both["hedged"].raw, *(one.served for one in both.values())] for name, both in played.items()}
    heads = [f"{metric}: {who}" for metric in ("log loss", "ECE") for who in ("raw", "rolling", "hedged")]
    table = [row for name, served in answers.items() for row in by_year(name, year, employed, served)]
    print_table(["model, year", *heads], table)
    print("\n".join(verdict(name, employed, served) for name, served in answers.items()))
    starts = {f"{one:.0f}": int(np.argmax(year == one)) for one in np.unique(year)[1:]}
    return draw(played["too sure"], "Is a person employed? A model of 2015, too sure of itself", starts)


def people(rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Those of 2015, and those of the later years in order of time; each at most so many."""
    table = pd.read_parquet(CENSUS).astype(float)
    first, later = table[table["year"] == 2015], table[table["year"] > 2015]
    kept = np.linspace(0, len(later) - 1, min(rows, len(later))).astype(int)
    return first[:rows], later.iloc[kept]


def live(settings: dict[str, Any], first: pd.DataFrame, later: pd.DataFrame, seed: int) -> dict[str, Backtest]:
    """A model of the first year answers for the later ones, and is recalibrated meanwhile."""
    model = HistGradientBoostingClassifier(random_state=seed, **settings).fit(*split(first))
    X, employed = split(later)
    raw = model.predict_proba(X)[:, 1]
    recalibrators: dict[str, Any] = {"rolling": RollingRecalibrator(), "hedged": HedgedRecalibrator()}
    return {name: backtest(one, raw, employed, delay=CENSUS_DELAY) for name, one in recalibrators.items()}


def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """Features and label."""
    return rows.drop(columns=["employed", "year"]), rows["employed"]


def by_year(model: str, year: Floats, employed: Floats, answers: Sequence[Floats]) -> list[list[str]]:
    """Log loss and calibration error of each answer, in each year and over all."""
    rows = []
    spans = {**{f"{one:.0f}": year == one for one in np.unique(year)}, "all": np.full(year.size, True)}
    for name, span in spans.items():
        losses = (f"{log_loss(employed[span], answer[span]):.4f}" for answer in answers)
        errors = (f"{expected_calibration_error(employed[span], answer[span]):.4f}" for answer in answers)
        rows.append([f"{model}, {name}", *losses, *errors])
    return rows


def verdict(model: str, employed: Floats, answers: Sequence[Floats]) -> str:
    """Whether hedging lost nothing against the better of the other two, and by how much."""
    raw, rolling, hedged = (1000.0 * log_loss(employed, answer) for answer in answers)
    word = "at most" if hedged <= min(raw, rolling) else "above"
    return (
        f"{model}: the log loss of hedged is {word} that of raw and rolling; "
        f"thousandths of a nat: {hedged - raw:+.2f} against raw, {hedged - rolling:+.2f} against rolling."
    )


def draw(played: dict[str, Backtest], title: str, moments: dict[str, int]) -> Figure:
    """The hedged backtest, with the rolling fits beside it and moments to remember."""
    hedged = played["hedged"]
    # Of many slots one is read at a time, so under delay the share of the raw score flickers.
    shown = {name: weight for name, weight in hedged.weights.items() if name != "passive"}
    figure = backtest_plot(replace(hedged, weights=shown))
    costs = figure.axes[0]
    name_lines(costs)
    add_lines(costs, {name: result for name, result in played.items() if result is not hedged})
    mark(figure, moments)
    look: dict[str, Any] = {"loc": "outside upper left", "alignment": "left", "frameon": False, "fontsize": 8.5}
    bold = {"weight": "bold", "size": 10.0}
    figure.legends[0].remove()
    figure.legend(*costs.get_legend_handles_labels(), ncols=4, title=title, title_fontproperties=bold, **look)
    return figure


def name_lines(costs: Axes) -> None:
    """Call what was served hedged, and leave out the bound under delay: it is far above everything."""
    for line in list(costs.lines):
        if line.get_label() == "served":
            line.set_label("hedged")
        elif line.get_label() == "never above":
            line.remove()
    costs.relim()


def add_lines(costs: Axes, rolling: dict[str, Backtest]) -> None:
    """What the rolling fits lost or gained."""
    for (name, result), (colour, dash) in zip(rolling.items(), ROLLING_LOOKS, strict=False):
        at = np.linspace(0, result.raw.size - 1, POINTS).astype(int)
        total = result.cumulative_excess[at]
        costs.plot(at + 1, total, color=colour, linestyle=dash, linewidth=1.3, label=name)


def mark(figure: Figure, moments: dict[str, int]) -> None:
    """A line through both panels at each moment, its name at the foot of the upper one."""
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8.5}
    for name, row in moments.items():
        for panel in figure.axes:
            panel.axvline(row, color="#767676", linewidth=0.8)
        figure.axes[0].annotate(name, (row, 0), (3, 3), **place)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """As Markdown."""
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |")
    print()


if __name__ == "__main__":
    main()
