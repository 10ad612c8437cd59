"""The smooth calibration error: no bins, and no bandwidth to choose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from mlflow_caliber._validation import FloatArray, check_scored_chunks

Chunks = Iterable[tuple[NDArray[Any], FloatArray, FloatArray | None]]

_BISECTIONS = 10
_NARROWEST = 1e-3
# Steps of the two grids, and the width from which on the coarse one, ten steps a width, is enough.
_COARSE, _FINE = 1_000, 10_000
_COARSE_FROM = 0.01
_PLACES = np.linspace(0.0, 1.0, 200)
# Of a row, added to the density everywhere, as the authors do: a row far from all places still has some.
_BACKGROUND = 1e-4


def smooth_calibration_error(y_true: ArrayLike, y_proba: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    r"""Smooth calibration error (smECE): the gap between outcome and probability, smoothed and then averaged.

    With :math:`K_\sigma` the Gaussian kernel on [0, 1], reflected at both ends,

    .. math:: \mathrm{smECE}_\sigma = \int_0^1 \Bigl| \frac1n \sum_i K_\sigma(t, p_i)\,(y_i - p_i) \Bigr| \, dt

    and smECE is the one :math:`\sigma` with :math:`\mathrm{smECE}_\sigma = \sigma`: the bandwidth is as fine as the
    error that it finds. Unlike a binned error it changes little when probabilities change little, and it is within a
    constant factor of the distance to the nearest calibrated model.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        0 or 1.
    y_proba : array-like of shape (n,)
        Probability of class 1, in [0, 1].
    sample_weight : array-like of shape (n,), optional
        A row of weight `k` counts as `k` equal rows.

    Returns
    -------
    float
        In [0, 1]; 0 is perfect. Like any such error it is biased upward on few rows.

    Raises
    ------
    InvalidInputError
        For arrays that are empty, of unequal length, not finite or out of range.

    Notes
    -----
    Inside (0, 1) this follows the authors' package `relplot` to the last digits: the width is found to 1/1024 by
    bisection from above, none narrower than .001 is tried, residuals and rows lie on a grid of 1000 steps (10,000 below
    a width of .01), each row shared by its two neighbours, and the integral is the mean over 200 places, divided by the
    mean density there. So the value is that of the definition within a few thousandths; for errors of .4, of a tenth.

    References
    ----------
    Błasiok and Nakkiran (2024), "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing", ICLR.

    Examples
    --------
    >>> from mlflow_caliber.metrics import smooth_calibration_error
    >>> smooth_calibration_error([0, 0, 1, 1], [0.1, 0.4, 0.6, 1.0])
    0.1334
    """
    return smooth_error_of(check_scored_chunks(y_true, y_proba, sample_weight))


def smooth_error_of(chunks: Chunks, n_rows: float | None = None) -> float:
    """The error of chunks of labels, probabilities and weights.

    A label may be the mean of tied rows; then ``n_rows`` says how many rows there are in all.
    """
    fine, counted = _on_grid(chunks)
    coarse = _coarsened(fine)
    background = _BACKGROUND * float(fine[1].sum()) / (counted if n_rows is None else n_rows)

    def error_at(width: float) -> float:
        residual, density = _smoothed(coarse if width >= _COARSE_FROM else fine, width)
        return float(np.abs(residual).sum() / (density + background).sum())

    narrow, wide = 0.0, 1.0
    if error_at(wide) > wide:
        return error_at(wide)
    for _ in range(_BISECTIONS):
        middle = (narrow + wide) / 2.0
        if middle < _NARROWEST or middle < error_at(middle):
            narrow = middle
        else:
            wide = middle
    return error_at(wide)


def _on_grid(chunks: Chunks) -> tuple[FloatArray, int]:
    """Sums of w (p - y) and of w at the points of the fine grid, and the number of rows that carry weight."""
    sums, ends, n_rows = np.zeros((2, _FINE + 1)), np.zeros((2, 2)), 0
    for y, p, w in chunks:
        n_rows += p.size if w is None else int((w > 0.0).sum())
        place = p * _FINE
        left = np.minimum(place.astype(np.intp), _FINE - 1)
        place -= left
        gap = p - y if w is None else w * (p - y)
        for k, value in enumerate((gap, np.ones_like(p) if w is None else w)):
            to_the_right = place * value
            sums[k] += np.bincount(left, value - to_the_right, _FINE + 1)
            sums[k, 1:] += np.bincount(left, to_the_right, _FINE)
            ends[k] += value[p == 0.0].sum(), value[p == 1.0].sum()
    # A row on an end is its own mirror image, and counts twice there; `relplot` loses half of it.
    sums[:, [0, -1]] += ends
    return sums, n_rows


def _coarsened(fine: FloatArray) -> FloatArray:
    """What the rows would have given on the coarse grid, whose points are points of the fine one, too."""
    factor = _FINE // _COARSE
    share = np.arange(factor) / factor
    parts = fine[:, :-1].reshape(2, _COARSE, factor)
    coarse = np.zeros((2, _COARSE + 1))
    coarse[:, :-1] += parts @ (1.0 - share)
    coarse[:, 1:] += parts @ share
    coarse[:, -1] += fine[:, -1]
    return coarse


def _smoothed(sums: FloatArray, width: float) -> FloatArray:
    """Convolved with the kernel, reflected at both ends, and read at the places."""
    steps = sums.shape[1] - 1
    nodes = np.linspace(0.0, 1.0, steps + 1)
    kernel = np.exp(-0.5 * ((nodes - 0.5) / width) ** 2) / (np.sqrt(2.0 * np.pi) * width)
    reflected = np.concatenate([sums[:, :0:-1], sums, sums[:, -2::-1]], axis=1)
    # As scipy.signal.fftconvolve does it, which takes half a second to load.
    size = fft.next_fast_len(reflected.shape[1] + kernel.size - 1, real=True)
    whole = fft.irfft(fft.rfft(reflected, size) * fft.rfft(kernel, size), size)
    around = whole[:, kernel.size - 1 + steps // 2 : reflected.shape[1]]
    return np.stack([np.interp(_PLACES, nodes, row[: steps + 1]) for row in around])
