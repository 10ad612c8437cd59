"""Two real classifiers on real data, the month that lies behind them, and what comes next: for ``demo-server``."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_caliber.exceptions import ConfigError, StoreError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from mlflow_caliber.store import Store, Stream

__all__ = ["CENSUS", "Data", "Following", "Served", "back_fill", "live_messages", "load_data", "register", "train"]

CENSUS = Path(__file__).resolve().parents[2] / "examples" / "data" / "acs_employment_ma.parquet"
DAY = 86_400.0
DAYS, DRIFT_DAYS = 30, 6
_HOUR = 3_600.0
_A_DAY = 240  # predictions of each version
_DELAY, _LABELS = 12 * _HOUR, 0.8
_TRAINED_ON = 20_000
_LOOK_EVERY = 2.0  # seconds, between two looks for a new revision


@dataclass(frozen=True)
class Data:
    """Rows of the past to learn from, rows of the present to predict, and a column along which people change."""

    name: str
    past: pd.DataFrame
    present: pd.DataFrame
    target: str
    classes: tuple[str, str]
    shifts: str
    segment: str | None = None


Recalibrates = Callable[[float, str | None], tuple[float, str]]
"""From the shipped probability and the segment to what is served, and the revision that it is served by."""


@dataclass
class Served:
    """A version: its answers to every row of the present, how they are recalibrated by now, and the model itself."""

    version: str
    parent: str | None
    stage: str
    raw: NDArray[np.float64]
    base: NDArray[np.float64]
    since: float = DAYS * DAY
    model: tuple[Any, Any, tuple[Any, Any]] = field(kw_only=True, repr=False)  # with its calibrator, and labelled rows
    stream: Stream | None = field(default=None, repr=False)
    recalibrate: Recalibrates = lambda probability, segment: (probability, "")


def load_data(file: Path | None) -> Data:
    """The census sample, of a checkout or named; without one, a data set that scikit-learn brings."""
    if file is not None and not file.is_file():
        raise ConfigError(f"--data must be a file like examples/data/acs_employment_ma.parquet, got {file}.")
    found = file or (CENSUS if CENSUS.is_file() else None)
    return _bundled() if found is None else _census(found)


def _census(file: Path) -> Data:
    import pandas as pd

    rows = pd.read_parquet(file)
    missing = {"employed", "year", "AGEP", "SEX"} - {*rows.columns}
    if missing:
        raise ConfigError(
            f"--data must have the columns employed, year, AGEP, SEX, and lacks {', '.join(sorted(missing))}."
        )
    past = rows[rows["year"] == rows["year"].min()].drop(columns="year")
    present = rows[rows["year"] > rows["year"].min()].drop(columns="year")
    return Data("employment", past, present, "employed", ("not employed", "employed"), "AGEP", "SEX")


def _bundled() -> Data:
    from sklearn.datasets import load_breast_cancer

    rows = load_breast_cancer(as_frame=True).frame
    shuffled = rows.sample(frac=1.0, random_state=0)
    half = len(shuffled) // 2
    columns = ("malignant", "benign")
    return Data("tumours", shuffled[:half], shuffled[half:], "target", columns, "mean radius")


def train(data: Data) -> list[Served]:
    """Naive Bayes as it comes, which is far too sure of itself; then logistic regression with a calibrator."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from mlflow_caliber.calibrators import make_calibrator

    past = data.past.sample(frac=1.0, random_state=1)[:_TRAINED_ON]
    x, y = past.drop(columns=data.target), past[data.target].map(dict(enumerate(data.classes))).to_numpy()
    seen = data.present.drop(columns=data.target)
    cut = 2 * len(past) // 3
    bayes = GaussianNB().fit(x, y)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000)).fit(x[:cut], y[:cut])
    positive = list(logistic.classes_).index(data.classes[1])
    truth = (y[cut:] == data.classes[1]).astype(int)
    calibrator = make_calibrator("sigmoid").fit(logistic.predict_proba(x[cut:])[:, positive], truth)
    said, raw = bayes.predict_proba(seen)[:, positive], logistic.predict_proba(seen)[:, positive]
    return [
        Served("1", None, "production", said, said, model=(bayes, "identity", (x, y))),
        Served(
            "2",
            "1",
            "candidate",
            raw,
            calibrator.predict(raw),
            since=20 * DAY,
            model=(logistic, calibrator, (x[cut:], y[cut:])),
        ),
    ]


def register(data: Data, served: Sequence[Served], uri: str, folder: Path) -> None:
    """The versions in a registry of the demonstration's own, made once: drift is measured against what they know."""
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from mlflow_caliber.flavor import log_model

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    if mlflow.get_experiment_by_name(data.name) is None:
        mlflow.create_experiment(data.name, (folder / "models").resolve().as_uri())
    mlflow.set_experiment(data.name)
    for which in served:
        with contextlib.suppress(MlflowException):
            MlflowClient().get_model_version(data.name, which.version)
            continue
        model, calibrator, rows = which.model
        told = {"calibrator": calibrator, "calibration_data": rows, "pos_label": data.classes[1]}
        log_model(model, name=f"{data.name}-{which.version}", registered_model_name=data.name, **told)


def back_fill(store: Store, clock: list[float], data: Data, served: Sequence[Served], now: float, seed: int = 0) -> int:
    """Record the last 30 days: rows of the present at random times, older people in the last days.

    What was served is recalibrated by the outcomes that were known at the time. ``clock`` is the one that the store
    reads: history is recorded when it happened. Returns the number of events.
    """
    events = sorted(_history(data, served, now, seed), key=lambda event: event[0])
    n = 0
    for hour, together in itertools.groupby(events, key=lambda event: int(event[0] // (2 * _HOUR))):
        clock[0] = min(now, (hour + 1) * 2 * _HOUR)
        batches: dict[str, tuple[Stream, list[Any]]] = {}
        for _, which, event in together:
            if which.stream is not None:
                batches.setdefault(which.version, (which.stream, []))[1].append(event)
        n += sum(receipt.recorded for receipt in store.record(list(batches.values())))
    return n


def _history(data: Data, served: Sequence[Served], now: float, seed: int) -> Iterator[tuple[float, Served, Any]]:
    from mlflow_caliber.store import Outcome, Prediction

    learned = {which.version: _Learned(data, which) for which in served}
    for message, which in _messages(data, served, now - DAYS * DAY, _A_DAY / DAY, seed, _DELAY):
        kind, when = message["kind"], message.get("predicted_at", message.get("observed_at"))
        if when is None or when >= now:
            return
        learned[which.version].take(message)
        told = {key: value for key, value in message.items() if key != "kind"}
        yield when, which, (Prediction(**told, abstained=None) if kind == "prediction" else Outcome(**told))


class _Learned:
    """What a version's recalibrator knew at each time of the past; from then on, it is how the version answers."""

    def __init__(self, data: Data, which: Served) -> None:
        from mlflow_caliber.online import HedgedRecalibrator

        self._positive = data.classes[1]
        self._recalibrator = HedgedRecalibrator()
        self._waiting: dict[str, Any] = {}
        which.recalibrate = lambda probability, segment: (float(self._recalibrator.predict(probability, segment)), "")

    def take(self, message: Mapping[str, Any]) -> None:
        """Remember a prediction, learn from its outcome."""
        if message["kind"] == "prediction":
            forecast = self._recalibrator.forecast(message["base_probability"], message["segment"])
            self._waiting[message["prediction_id"]] = forecast
        else:
            forecast = self._waiting.pop(message["prediction_id"])
            self._recalibrator.update(forecast, int(message["outcome"] == self._positive))


class Following:
    """How a version answers that follows what the worker publishes, as a served model does."""

    def __init__(self, store: Store, stream: Stream) -> None:
        self._stream, self._looked_at = stream, 0.0
        self._map: Any = None
        self._revision = ""
        self._store = store  # stays open as long as somebody follows

    def __call__(self, probability: float, segment: str | None) -> tuple[float, str]:
        """The probability that is served now, and by which revision."""
        if time.monotonic() - self._looked_at > _LOOK_EVERY:
            self._look()
        if self._map is None:
            return probability, ""
        return float(self._map.predict([probability], segment=segment)[0]), self._revision

    def _look(self) -> None:
        from mlflow_caliber.online import SnapshotMap

        self._looked_at = time.monotonic()
        with contextlib.suppress(StoreError):  # it goes on with what it has
            current = self._stream.current()
            self._map = None if current is None else SnapshotMap.from_dict(current.map)
            self._revision = "" if current is None else current.revision


def live_messages(data: Data, which: Served, start: float, rate: float, seed: int) -> Iterator[Mapping[str, Any]]:
    """What one version answers from now on, and what happens soon after."""
    drifted = start - DAYS * DAY  # the last days' people keep coming
    return (message for message, _ in _messages(data, [which], start, rate, seed, 20.0, since=drifted))


def _messages(
    data: Data, served: Sequence[Served], start: float, rate: float, seed: int, delay: float, since: float | None = None
) -> Iterator[tuple[dict[str, Any], Served]]:
    """Without end, in the order of their times."""
    import numpy as np

    chance = np.random.default_rng(seed)
    begin = start if since is None else since
    shift_at = begin + (DAYS - DRIFT_DAYS) * DAY
    column = data.present[data.shifts].to_numpy(dtype=float)
    weights = np.cumsum(np.exp(1.2 * (column - column.mean()) / column.std()))
    seen = data.present.drop(columns=data.target)
    truth = data.present[data.target].to_numpy()
    due: list[tuple[float, int, dict[str, Any], Served]] = []
    now = start
    for number in itertools.count():
        now += float(chance.exponential(1.0 / rate))
        while due and due[0][0] <= now:
            _, _, outcome, which = heapq.heappop(due)
            yield outcome, which
        drawn = chance.random()
        row = int(np.searchsorted(weights, drawn * weights[-1]) if now >= shift_at else drawn * len(seen))
        told, wait = chance.random() < _LABELS, float(chance.exponential(delay))
        for place, which in enumerate(served):
            if now < begin + DAYS * DAY - which.since:
                continue  # not made yet
            prediction_id = f"{data.name}-{which.version}-{start:.0f}-{number:07d}"
            yield _prediction(data, which, row, seen, prediction_id, now), which
            if told:
                outcome = {"kind": "outcome", "prediction_id": prediction_id, "outcome": data.classes[int(truth[row])]}
                entry = (now + wait, len(served) * number + place, {**outcome, "observed_at": now + wait}, which)
                heapq.heappush(due, entry)


def _prediction(
    data: Data, which: Served, row: int, seen: pd.DataFrame, prediction_id: str, now: float
) -> dict[str, Any]:
    base = float(which.base[row])
    features = dict(zip(seen.columns, seen.iloc[row].tolist(), strict=True))
    segment = None if data.segment is None else f"{data.segment} {features[data.segment]:g}"
    probability, revision = which.recalibrate(base, segment)
    return {
        "kind": "prediction",
        "prediction_id": prediction_id,
        "predicted_at": now,
        "raw_probability": float(which.raw[row]),
        "base_probability": base,
        "probability": probability,
        "prediction": data.classes[probability >= 0.5],
        "confidence": max(probability, 1.0 - probability),
        "segment": segment,
        "calibrator_revision": revision,
        "features": features,
    }
