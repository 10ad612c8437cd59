"""Selective prediction: the error rate that is left when the least sure answers are withheld."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlflow_caliber._validation import FloatArray, check_confidence_pair, check_count, check_counted_weights
from mlflow_caliber.metrics._records import ArrayRecord
from mlflow_caliber.metrics._risk import Groups, Rows, excess, ranked


@dataclass(frozen=True, eq=False)
class RiskCoverageCurve(ArrayRecord):
    """One point a distinct confidence, from the strictest threshold to full coverage; see :func:`risk_coverage_curve`.

    Attributes
    ----------
    coverage : ndarray of shape (m,)
        Share of answers given, increasing, in (0, 1]; the last is 1.
    risk : ndarray of shape (m,)
        Error rate among the answers given, in [0, 1].
    threshold : ndarray of shape (m,)
        Answers are given where confidence >= threshold; decreasing.
    """

    coverage: FloatArray
    risk: FloatArray
    threshold: FloatArray

    def downsample(self, max_points: int) -> RiskCoverageCurve:
        """At most `max_points` (>= 2) of the points, evenly spread over coverage, both ends kept.

        Examples
        --------
        >>> from mlflow_caliber.metrics import risk_coverage_curve
        >>> curve = risk_coverage_curve([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0])
        >>> curve.downsample(3).coverage
        array([0.2, 0.6, 1. ])
        """
        check_count(max_points, "max_points", minimum=2)
        if len(self) <= max_points:
            return self
        wanted = np.linspace(self.coverage[0], self.coverage[-1], max_points)
        kept = np.unique(np.minimum(np.searchsorted(self.coverage, wanted - 1e-12), len(self) - 1))
        return RiskCoverageCurve(self.coverage[kept], self.risk[kept], self.threshold[kept])


def risk_coverage_curve(
    confidence: ArrayLike, correct: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> RiskCoverageCurve:
    """Error rate among the answers given, against the share of answers given, for every threshold on confidence.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Any finite number; more is surer. Answers of one confidence are given or withheld together.
    correct : array-like of shape (n,)
        1 where the answer was right, else 0.
    sample_weight : array-like of shape (n,), optional
        Rows count as if repeated so often; parts of rows are allowed. A weight of 2 and the same row twice give the
        same number.

    Returns
    -------
    RiskCoverageCurve

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite, `correct` other than 0 and 1, or weights that are
        negative or all 0.

    References
    ----------
    El-Yaniv and Wiener (2010), "On the Foundations of Noise-free Selective Classification", JMLR.

    Examples
    --------
    >>> from mlflow_caliber.metrics import risk_coverage_curve
    >>> curve = risk_coverage_curve([0.9, 0.9, 0.8, 0.6], [1, 1, 0, 1])
    >>> curve.coverage, curve.risk, curve.threshold
    (array([0.5 , 0.75, 1.  ]), array([0. , 0.33333333, 0.25 ]), array([0.9, 0.8, 0.6]))
    """
    ranking = _checked(confidence, correct, sample_weight)
    return curve_of_groups(ranking.groups() if isinstance(ranking, Rows) else ranking)


def curve_of_groups(groups: Groups) -> RiskCoverageCurve:
    """The curve of answers by confidence."""
    given = np.cumsum(groups.mass)
    return RiskCoverageCurve(given / given[-1], np.cumsum(groups.wrong) / given, groups.confidence)


def aurc(confidence: ArrayLike, correct: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    r"""Area under the risk-coverage curve: :math:`\frac1n \sum_{k=1}^n R_k`, the mean error rate of the `k` surest.

    Where confidences tie, the mean over all orders of the tied rows is taken (in closed form), so the order of rows
    never matters and `n` equal confidences give the plain error rate. A trapezoid over `k/n` gives another number.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Any finite number; more is surer.
    correct : array-like of shape (n,)
        1 where the answer was right, else 0.
    sample_weight : array-like of shape (n,), optional
        Rows count as if repeated so often; parts of rows are allowed. A weight of 2 and the same row twice give the
        same number.

    Returns
    -------
    float
        In [0, 1]; lower is better.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite, `correct` other than 0 and 1, or weights that are
        negative or all 0.

    Notes
    -----
    After `A` errors among `B` rows, a tie group of `m` rows and error rate `r` adds
    :math:`\sum_{j=1}^m \frac{A + jr}{B + j} = mr + (A - rB)(H_{B+m} - H_B)`, with `H` the harmonic numbers. Under
    weights `A`, `B` and `m` are sums of weights, and :math:`H_x = \psi(x + 1) + \gamma` with :math:`\psi` the digamma
    function: whole weights give exactly what repeated rows give. So, like AURC itself, it depends a little on how many
    rows there are: weights that sum to 1 stand for a single row, whose AURC is its error rate. Where weights are no
    counts, divide them by their mean.

    References
    ----------
    Geifman, Uziel and El-Yaniv (2019), "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR.

    Examples
    --------
    >>> from mlflow_caliber.metrics import aurc
    >>> aurc([0.9, 0.8, 0.7], [1, 1, 0])
    0.1111
    >>> aurc([0.5, 0.5], [1, 0]) == aurc([0.5, 0.5], [0, 1]) == 0.5
    True
    """
    return float(_checked(confidence, correct, sample_weight).mean_risk())


def e_aurc(confidence: ArrayLike, correct: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Excess AURC: :func:`aurc` less that of an oracle that is surer of every right answer than of any wrong one.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Any finite number; more is surer.
    correct : array-like of shape (n,)
        1 where the answer was right, else 0.
    sample_weight : array-like of shape (n,), optional
        Rows count as if repeated so often; parts of rows are allowed. A weight of 2 and the same row twice give the
        same number.

    Returns
    -------
    float
        In [0, 1]; 0 where confidence ranks all right answers first. Lower is better.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite, `correct` other than 0 and 1, or weights that are
        negative or all 0.

    References
    ----------
    Geifman, Uziel and El-Yaniv (2019), "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR.

    Examples
    --------
    >>> from mlflow_caliber.metrics import e_aurc
    >>> e_aurc([0.9, 0.8, 0.7], [1, 1, 0])
    0.0
    >>> e_aurc([0.9, 0.8, 0.7], [0, 1, 1])
    0.5
    """
    ranking = _checked(confidence, correct, sample_weight)
    return float(excess(ranking.mean_risk(), ranking))


def augrc(confidence: ArrayLike, correct: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    r"""Area under the generalised risk-coverage curve: the mean share of undetected failures over all thresholds.

    The trapezoid, from the origin, of :math:`\frac1n \sum_{i \le k} e_i` over :math:`k/n`; equal to
    :math:`(1 - AUROC)\, a\,(1 - a) + (1 - a)^2 / 2` with `a` the accuracy and AUROC that of confidence for being right.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Any finite number; more is surer. Ties are averaged.
    correct : array-like of shape (n,)
        1 where the answer was right, else 0.
    sample_weight : array-like of shape (n,), optional
        Rows count as if repeated so often; parts of rows are allowed. A weight of 2 and the same row twice give the
        same number.

    Returns
    -------
    float
        In [0, 0.5]; lower is better.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite, `correct` other than 0 and 1, or weights that are
        negative or all 0.

    References
    ----------
    Traub et al. (2024), "Overcoming Common Flaws in the Evaluation of Selective Classification Systems", NeurIPS.

    Examples
    --------
    >>> from mlflow_caliber.metrics import augrc
    >>> augrc([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1])
    0.09375
    """
    return float(_checked(confidence, correct, sample_weight).mean_failures())


def _checked(confidence: ArrayLike, correct: ArrayLike, sample_weight: ArrayLike | None) -> Groups | Rows:
    conf, right = check_confidence_pair(confidence, correct)
    return ranked(conf, right, check_counted_weights(sample_weight, conf.size))
