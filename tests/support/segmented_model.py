"""A saved model with a calibrator for each segment, for tests of what serves and scores with it."""

import numpy as np

import mlflow_caliber as caliber


def save_segmented(rows, path):
    """Save a model of ``age`` whose calibrator knows the segments ``region``; the first half of the rows trains it."""
    from sklearn.linear_model import LogisticRegression

    rng, half = np.random.default_rng(1), len(rows) // 2
    y = np.where(rng.random(len(rows)) < 1.0 / (1.0 + np.exp(-0.2 * (rows["age"] - 40.0))), "yes", "no")
    base = LogisticRegression().fit(rows[["age"]][:half], y[:half])
    data = (rows[half:], y[half:])
    caliber.save_model(base, str(path), calibrator="segmented", calibration_data=data, segment_column="region")
    return str(path)
