"""The statistics by name: what each measures, its distribution without drift, and the effect that is worth a word."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy import special

from mlflow_caliber.drift import _counts
from mlflow_caliber.drift._columns import NAMED, ORDERED, Kind
from mlflow_caliber.drift._gap import Gap
from mlflow_caliber.drift._nulls import ChiSquare, Draws, Null, ks_null, wasserstein_null

#: A change of the missing share with a p-value below this is news that statistics of values alone would not tell.
_MISSING_LEVEL = 1e-3


class Sides(NamedTuple):
    """One column of both samples.

    Counts over the cells that hold any row, one of them for missing values; the gap of numbers and times, if they have
    one; and the rows with and without a value, (reference, current).
    """

    kind: Kind
    reference: _counts.Counts
    current: _counts.Counts
    gap: Gap | None
    present: tuple[int, int]
    missing: tuple[int, int]

    @property
    def scale(self) -> float:
        """1/n + 1/m, with which every distance between shares grows."""
        return float(1.0 / self.reference.sum() + 1.0 / self.current.sum())

    @property
    def rows(self) -> int:
        """N + m."""
        return int(self.reference.sum() + self.current.sum())

    @property
    def missing_changed(self) -> bool:
        """Whether the share of missing values is another one."""
        if not any(self.missing):
            return False
        table = np.array([self.present, self.missing])
        return bool(special.chdtrc(1, _counts.chi_square(table[:, 0], table[:, 1])) < _MISSING_LEVEL)


class Method(NamedTuple):
    """One statistic.

    ``effect`` translates a minimum PSI: it is the statistic of a normal distribution that is shifted by so much that
    its PSI is that, which is the root of the PSI in standard deviations.
    """

    kinds: tuple[Kind, ...]
    statistic: Callable[[Sides], float | None]
    null: Callable[[Sides, Draws], Null]
    effect: Callable[[Sides], Callable[[float], float]]
    values_only: bool  # sees no missing values, and needs enough of the others


def _of_counts(
    statistic: Callable[[_counts.Counts, _counts.Counts], float],
    kinds: tuple[Kind, ...],
    scale: Callable[[Sides], float],
    power: float,
) -> Method:
    """A statistic that is (scale * chi-square)^power without drift, and a little drift is PSI / (1/n + 1/m) of that."""
    return Method(
        kinds,
        lambda sides: statistic(sides.reference, sides.current),
        lambda sides, _: ChiSquare(sides.reference.size - 1, scale(sides), power),
        lambda sides: partial(_effect, scale(sides) / sides.scale, power),
        values_only=False,
    )


def _effect(scale: float, power: float, psi: float) -> float:
    return float((scale * psi) ** power)


def _of_gap(
    statistic: Callable[[Gap], float | None], null: Callable[[Gap, Draws], Null], effect: Callable[[float], float]
) -> Method:
    def null_of(sides: Sides, draws: Draws) -> Null:
        assert sides.gap is not None
        return null(sides.gap, draws)

    return Method(
        ORDERED,
        lambda sides: None if sides.gap is None else statistic(sides.gap),
        null_of,
        lambda _: effect,
        values_only=True,
    )


def wasserstein(gap: Gap) -> float | None:
    """The area in reference standard deviations."""
    return None if gap.area is None or gap.sd == 0.0 else gap.area / gap.sd


def shift_of(sides: Sides) -> float | None:
    """Current mean - reference mean, in reference standard deviations."""
    gap = sides.gap
    return None if gap is None or gap.shift is None or gap.sd == 0.0 else gap.shift / gap.sd


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "psi": _of_counts(_counts.psi, ORDERED + NAMED, lambda sides: sides.scale, 1.0),
        "jensen_shannon": _of_counts(
            _counts.jensen_shannon, ORDERED + NAMED, lambda sides: sides.scale / (8.0 * math.log(2.0)), 0.5
        ),
        "ks": _of_gap(lambda gap: gap.ks, ks_null, lambda psi: math.erf(math.sqrt(psi / 8.0))),
        "wasserstein": _of_gap(wasserstein, wasserstein_null, math.sqrt),
        "chi_square": _of_counts(_counts.chi_square, NAMED, lambda _: 1.0, 1.0),
        "cramers_v": _of_counts(_counts.cramers_v, NAMED, lambda sides: 1.0 / sides.rows, 0.5),
    }
)
"""The statistics that may decide whether a column has drifted, by name."""


def statistics_of(sides: Sides) -> dict[str, float]:
    """Every statistic that the column has, by name."""
    found = {name: method.statistic(sides) for name, method in METHODS.items() if sides.kind in method.kinds}
    return {name: value for name, value in found.items() if value is not None}


def deciding(sides: Sides, wanted: tuple[str, ...], min_rows: int) -> tuple[str, str]:
    """The first wanted method that can decide, else PSI, which always can; and why an earlier one could not."""
    objection = ""
    for name in wanted:
        if sides.kind in METHODS[name].kinds:
            found = _objection(sides, name, min_rows)
            if not found:
                return name, objection
            objection = objection or found
    return "psi", objection


def _objection(sides: Sides, name: str, min_rows: int) -> str:
    if not METHODS[name].values_only:
        return ""
    if min(sides.present) < min_rows:
        return f"{name} takes at least {min_rows} values on each side"
    if sides.missing_changed:
        return f"the share of missing values changed, which {name} does not see"
    if sides.gap is None:
        return "the stored profile is of an older format"
    if METHODS[name].statistic(sides) is None:
        return f"{name} takes finite values of which the reference has more than one"
    return ""
