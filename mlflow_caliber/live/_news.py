"""What is new since the rollups were last added to: by entry of the log, so that none is ever added twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlflow_caliber.live._packed import pack, unpack
from mlflow_caliber.live._rollups import readable_or_state_error
from mlflow_caliber.live._tallies import KINDS, Changes, Ints, losses_of, renumbered
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.store import NewRun

__all__ = [
    "ALL",
    "NO_SEGMENT",
    "OTHER",
    "OTHERS",
    "Counted",
    "Delta",
    "News",
    "delta_from_bytes",
    "own_name",
    "run_of",
    "segment_name",
    "segment_numbers",
    "short_name",
]

OTHER = 50
"""The number of all segments after the first so many."""
NO_SEGMENT = -1
OTHERS = "(other)"
"""How people name it."""
ALL, _OTHERS, _NAMED = "", "~", "="
_LONGEST_NAME, _SHOWN_OF_IT = 600, 100  # bytes, and letters


class Counted(NamedTuple):
    """Predictions: ``n`` of the same entry, hour, segment, stratum, and scorable or not."""

    seq: Ints
    hour: Ints
    segment: Ints
    stratum: Ints
    scorable: Ints
    n: Ints

    def take(self, which: NDArray[np.bool_] | Ints) -> Counted:
        """Some of them."""
        return Counted._make(column[which] for column in self)

    def renumbered(self, new: Mapping[int, int]) -> Counted:
        """With other numbers for the segments."""
        return self._replace(segment=renumbered(self.segment, new))

    def by_stratum(self, *, scorable: bool = False) -> Ints:
        """How many, or how many scorable ones."""
        return np.bincount(self.stratum, self.n * self.scorable if scorable else self.n, 2).astype(np.int64)

    def summed(self) -> Counted:
        """The same, by all but the entry."""
        keys, place = np.unique(np.stack(self[1:5]), axis=1, return_inverse=True)
        n = np.bincount(place.ravel(), self.n, keys.shape[1]).astype(np.int64)
        return Counted._make([np.zeros_like(n), *keys, n])


class Delta(NamedTuple):
    """Predictions and labelled rows that come and go; ``names`` says how rollups name the numbered segments."""

    names: Mapping[int, str]
    counted: Counted
    changes: Changes

    def behind(self, position: int) -> Delta:
        """What entries behind that one brought."""
        counted, changes = self.counted, self.changes
        return Delta(self.names, counted.take(counted.seq > position), changes.take(changes.seq > position))

    def of(self, segment: str) -> Delta:
        """What belongs to a segment; the empty one is all."""
        if segment == ALL:
            return self
        number = next((each for each, name in self.names.items() if name == segment), None)
        counted, changes = self.counted, self.changes
        return Delta(self.names, counted.take(counted.segment == number), changes.take(changes.segment == number))


class News:
    """Predictions and labelled rows since a position."""

    def __init__(self, since: int = 0) -> None:
        self.since = since
        self._counted: list[Counted] = []
        self._changes: list[Changes] = []
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def count(self, said: Counted) -> None:
        """The next predictions."""
        self._counted.append(said)
        self._n += said.n.size

    def add(self, rows: Changes) -> None:
        """The next labelled rows."""
        self._changes.append(rows)
        self._n += rows.day.size

    def forget(self, position: int) -> None:
        """Forget what entries up to that one brought."""
        if position > self.since:
            delta, self.since = self.delta({}).behind(position), position
            self._counted, self._changes = [delta.counted], [delta.changes]
            self._n = delta.counted.n.size + delta.changes.day.size

    def delta(self, names: Mapping[str, int]) -> Delta:
        """All of it; the names are those of a summary."""
        counted = Counted._make(np.concatenate(column) for column in zip(_NO_COUNT, *self._counted, strict=True))
        columns = zip(_NO_CHANGE, *self._changes, strict=True)
        changes = Changes._make(np.concatenate(column, axis=-1) for column in columns)
        numbered = {number: _NAMED + name for name, number in names.items()}
        return Delta({**numbered, OTHER: _OTHERS}, counted, changes)


def segment_name(name: str | None) -> str:
    """How the rollups name a segment, all, or ``(other)``: texts of people may be anything, so they have a sign."""
    if name is None:
        return ALL
    return _OTHERS if name == OTHERS else _NAMED + short_name(name)


def short_name(name: str) -> str:
    """The name of a segment, or where that is long its beginning and a digest of it.

    Examples
    --------
    >>> short_name("north"), len(short_name("x" * 1_000))
    ('north', 136)
    """
    text = name.encode(errors="replace")
    if len(text) <= _LONGEST_NAME:  # an index of PostgreSQL holds no longer ones
        return name
    return f"{name[:_SHOWN_OF_IT]}... {hashlib.blake2b(text, digest_size=16).hexdigest()}"


def segment_numbers(keys: Sequence[str]) -> dict[str, int]:
    """A number for each segment that rollups name so; those with a name of their own come first."""
    named = [key for key in keys if key.startswith(_NAMED)]
    return {key: k for k, key in enumerate(named)} | {key: OTHER for key in keys if key == _OTHERS}


def own_name(key: str) -> str:
    """The name of a segment that has one of its own."""
    return key.removeprefix(_NAMED)


def run_of(delta: Delta) -> NewRun | None:
    """The delta as a run of the store; None for nothing."""
    counted, rows = delta.counted.summed(), delta.changes
    if not counted.n.size and not rows.day.size:
        return None
    small = [np.stack([rows.segment, rows.stratum, rows.source, rows.y, rows.sign]).astype(np.int8)]
    arrays = [np.stack(counted[1:]), rows.hour.astype(np.int32), *small, rows.p]
    content = pack({"names": [[number, name] for number, name in delta.names.items()]}, arrays)
    return NewRun(int(counted.n.sum()), rows.day.size, content)


def delta_from_bytes(content: bytes) -> Delta:
    """The delta of a run.

    Raises
    ------
    StateError
        If it is none.
    """
    with readable_or_state_error():
        told, (counts, hour, small, p) = unpack(content, 4)
        n = hour.size
        if small.shape != (5, n) or p.shape != (len(KINDS), n) or counts.shape[:1] != (5,):
            raise ValueError
        segment, stratum, source, y, sign = small.astype(np.int64)
        cell = ScoreStatistics.cell_of(p.ravel()).reshape(p.shape) if n else p.astype(np.int64)
        hour, y = hour.astype(np.int64), y.astype(np.float64)
        sign, loss = sign.astype(np.float64), losses_of(p, y)
        rows = Changes(hour // 24, hour, stratum, source, segment, y, sign, p, cell, loss, np.zeros_like(hour))
        names = {int(number): str(name) for number, name in told["names"]}
        return Delta(names, Counted._make([np.zeros_like(counts[0]), *counts]), rows)


_INTS: Ints = np.empty(0, dtype=np.int64)
_NO_COUNT = Counted._make([_INTS] * 6)
_NO_P, _NO_CELLS = np.empty((3, 0)), np.empty((3, 0), dtype=np.int64)
_NO_CHANGE = Changes(
    day=_INTS,
    hour=_INTS,
    stratum=_INTS,
    source=_INTS,
    segment=_INTS,
    y=np.empty(0),
    sign=np.empty(0),
    p=_NO_P,
    cell=_NO_CELLS,
    loss=np.empty((3, 2, 0)),
    seq=_INTS,
)
