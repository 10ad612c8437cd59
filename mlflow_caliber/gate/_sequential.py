"""Is one model worse than another? A test that may be looked at after every batch of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mlflow_caliber._state import StateReader
from mlflow_caliber._validation import FloatArray, check_number, check_unit_interval
from mlflow_caliber.exceptions import InvalidInputError

FORMAT_VERSION = 1
_STAKES = np.array([0.05, 0.1, 0.2, 0.4, 0.8, 0.95, 0.95])
"""Parts of the wealth that are bet; small ones win where rows differ much, large ones where they hardly do."""
_ROUNDING = 1e-9
_NOTHING = (0.0,) * len(_STAKES)


@dataclass(frozen=True, kw_only=True)
class SequentialComparison:
    r"""
    A test of "worse by at least the margin" that stays valid however often it is looked at.

    Row by row, a gambler bets against the candidate being worse than the margin. Were it so, no bet would pay on
    average, and the wealth, which starts at 1, would reach :math:`1/\alpha` at any time with chance :math:`\alpha` at
    most (Ville's inequality). Wealth is therefore evidence, and one may stop whenever one likes. A second gambler bets
    the other way.

    Parameters
    ----------
    margin : float
        By how much the candidate may be worse, in units of the score.
    confidence : float
        :math:`1 - \alpha`, in (0.5, 1).
    bound : float
        No difference of a row's scores is larger, in either direction: 1 for the Brier score of two classes.
    n : int
        Rows so far.
    against_worse, against_better : tuple of float
        Log wealth for each stake of either gambler.

    Notes
    -----
    With :math:`d_i` the score of the candidate less that of the champion, m the margin and b the bound,

    .. math:: E_n = \frac1K \sum_k \prod_{i \le n} \left(1 + \lambda_k \frac{m - d_i}{b + |m|}\right)

    It needs no distribution, but it does need that :math:`d_i`, given the earlier rows, is m or more on average if the
    candidate is too bad: rows drawn at random, in an order that nobody chose by their outcomes, each of them once.

    References
    ----------
    Ville (1939), "Étude critique de la notion de collectif".
    Waudby-Smith and Ramdas (2024), "Estimating Means of Bounded Random Variables by Betting", JRSS B.
    Choe and Ramdas (2023), "Comparing Sequential Forecasters", Operations Research.
    Henzi and Ziegel (2022), "Valid Sequential Inference on Probability Forecast Performance", Biometrika.

    Examples
    --------
    >>> import numpy as np
    >>> differences = np.random.default_rng(0).normal(-0.01, 0.05, 600)
    >>> test = SequentialComparison(margin=0.002).update(differences[:100])
    >>> test.verdict, round(test.e_value, 1), test.rows_needed > 100
    ('inconclusive', 1.5, True)
    >>> test.update(differences[100:]).verdict
    'pass'
    """

    margin: float
    confidence: float = 0.95
    bound: float = 1.0
    n: int = 0
    against_worse: tuple[float, ...] = _NOTHING
    against_better: tuple[float, ...] = _NOTHING

    def __post_init__(self) -> None:
        check_unit_interval(self.confidence, "confidence", open_ends=True)
        if check_number(self.bound, "bound") <= 0.0 or abs(check_number(self.margin, "margin")) >= self.bound:
            raise InvalidInputError(
                f"margin must lie within the bound of the differences, got {self.margin:g} for {self.bound:g}."
            )

    def update(self, differences: ArrayLike) -> SequentialComparison:
        """
        The test after further rows.

        Parameters
        ----------
        differences : array-like of shape (n,)
            Score of the candidate less score of the champion, in the order of the rows.

        Returns
        -------
        SequentialComparison
            Batches of rows give what the rows give together.

        Raises
        ------
        InvalidInputError
            If a difference is larger than the bound.
        """
        d = np.asarray(differences, dtype=np.float64)
        if d.ndim != 1 or not (np.abs(d) <= self.bound + _ROUNDING).all():
            raise InvalidInputError(
                f"differences must be one number a row, within {self.bound:g} of zero, got shape {d.shape} and "
                f"{np.max(np.abs(d), initial=0.0):g}."
            )
        gain = np.clip((self.margin - d) / (self.bound + abs(self.margin)), -1.0, 1.0)
        return replace(
            self,
            n=self.n + d.size,
            against_worse=_after(self.against_worse, gain),
            against_better=_after(self.against_better, -gain),
        )

    @property
    def e_value(self) -> float:
        """Wealth of the gambler who bets that the candidate is better than the margin; may be infinite."""
        return _wealth(self.against_worse)

    @property
    def e_value_against(self) -> float:
        """Wealth of the one who bets that it is worse."""
        return _wealth(self.against_better)

    @property
    def threshold(self) -> float:
        """The wealth that decides."""
        return 1.0 / (1.0 - self.confidence)

    @property
    def verdict(self) -> Literal["pass", "fail", "inconclusive"]:
        """Pass: not worse by the margin or more. Fail: not within it. Else more rows are needed."""
        if self.e_value_against >= self.threshold:
            return "fail"
        return "pass" if self.e_value >= self.threshold else "inconclusive"

    @property
    def rows_needed(self) -> int | None:
        """About how many rows would decide if they went on like these; None where nobody is winning, or it is decided.

        The best stake alone has to win for all of them.
        """
        growth = max(*self.against_worse, *self.against_better)
        if self.verdict != "inconclusive" or growth <= 0.0:
            return None
        return max(math.ceil(self.n * math.log(self.threshold * len(_STAKES)) / growth), self.n + 1)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe state."""
        state = {**vars(self), "against_worse": list(self.against_worse), "against_better": list(self.against_better)}
        return {"format_version": FORMAT_VERSION, **state}

    @classmethod
    def from_dict(cls, state: Any) -> SequentialComparison:
        """
        Read :meth:`to_dict` back.

        Raises
        ------
        StateError
            If a field is missing, unknown or of the wrong kind, or if the format is another one.
        """
        reader = StateReader(state, "A sequential comparison")
        if reader.integer("format_version") != FORMAT_VERSION:
            raise reader.misfit("format_version", str(FORMAT_VERSION), state["format_version"])
        fields: dict[str, Any] = {key: reader.number(key) for key in ("margin", "confidence", "bound")}
        fields["n"] = reader.integer("n")
        for key in ("against_worse", "against_better"):
            fields[key] = tuple(reader.floats(key, length=len(_STAKES)))
        reader.close()
        try:
            return cls(**fields)
        except InvalidInputError as error:
            raise reader.fault(str(error)) from error


def _after(wealth: tuple[float, ...], gain: FloatArray) -> tuple[float, ...]:
    grown = (float(np.log1p(stake * gain).sum()) for stake in _STAKES)
    return tuple(before + more for before, more in zip(wealth, grown, strict=True))


def _wealth(log_wealth: tuple[float, ...]) -> float:
    mean = float(special.logsumexp(log_wealth)) - math.log(len(log_wealth))
    return math.exp(min(mean, 700.0))
