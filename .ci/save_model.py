"""Save a small calibrated model to the folder given, and its answers beside it."""

import json
import sys
from pathlib import Path

import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mlflow_caliber as caliber

folder = Path(sys.argv[1])
X, y = load_breast_cancer(return_X_y=True, as_frame=True)
base = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:300], y[:300])
policy = caliber.AbstainPolicy(threshold=0.8)
caliber.save_model(base, str(folder), calibrator="isotonic", calibration_data=(X[300:500], y[300:500]), policy=policy)
frame = caliber.load_model(str(folder)).predict_frame(X[500:])
X[500:].to_csv(folder.parent / "rows.csv", index=False)
Path(folder.parent, "expected.json").write_text(json.dumps(frame["probability"].tolist()))
pd.testing.assert_series_equal(frame["abstained"], frame["confidence"] < 0.8, check_names=False)
