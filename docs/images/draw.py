"""Draw the README's picture: the census example before and after calibration, by the project's own plots."""

from pathlib import Path

import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from mlflow_caliber import make_calibrator, reliability_report
from mlflow_caliber.plots import reliability_diagram

HERE = Path(__file__).resolve().parent
table = pd.read_parquet(HERE.parent.parent / "examples" / "data" / "acs_employment_ma.parquet").astype(float)
people = {year: (rows.drop(columns=["employed", "year"]), rows["employed"]) for year, rows in table.groupby("year")}
X, y = people[2015]
base = HistGradientBoostingClassifier(learning_rate=0.2, max_iter=300, early_stopping=False, random_state=0)
base.fit(X[:15_000], y[:15_000])
isotonic = make_calibrator("isotonic").fit(base.predict_proba(X[15_000:])[:, 1], y[15_000:])
X, y = people[2016]
raw = base.predict_proba(X)[:, 1]
report = reliability_report(y, isotonic.predict(raw), raw=raw, classes=("not employed", "employed"))
title = "Is a person employed? Trained on 2015, judged on 2016"
reliability_diagram(report, title=title).savefig(HERE / "reliability.png", dpi=110)
print(report)
