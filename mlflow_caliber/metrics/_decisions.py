"""Answers and their confidence, from cells of scores."""

from __future__ import annotations

import numpy as np

from mlflow_caliber._cells import Cells


def decided(cells: Cells) -> Cells:
    """The same rows by the confidence max(p, 1 - p) of the answer; ``positive`` are those answered right.

    The answer is class 1 if and only if p exceeds 1/2. Cells of one confidence become one, by increasing confidence.
    """
    p = cells.value
    yes = p > 0.5
    wrong, wrong_sq = cells.weight - cells.positive, cells.weight_sq - cells.positive_sq
    right = np.where(yes, cells.positive, wrong), np.where(yes, cells.positive_sq, wrong_sq)
    answers = Cells(np.maximum(p, 1.0 - p), *cells[1:4], *right)
    order = np.argsort(answers.value, kind="stable")  # of two runs, each in order already
    confidence = answers.value[order]
    starts = np.flatnonzero(np.append(True, confidence[1:] != confidence[:-1]))
    return Cells(confidence[starts], *(np.add.reduceat(column[order], starts) for column in answers[1:]))
