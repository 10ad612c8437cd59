"""With the core only: load the saved model and compare its answers with those of where it was saved."""

import importlib.util
import json
import sys
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd

for extra in ("evidently", "matplotlib", "xgboost", "pyspark", "sqlalchemy"):
    if importlib.util.find_spec(extra):
        sys.exit(f"The core must not bring {extra}.")

folder = Path(sys.argv[1])
rows = pd.read_csv(folder.parent / "rows.csv")
frame = mlflow.pyfunc.load_model(str(folder)).predict(rows)
expected = json.loads(Path(folder.parent, "expected.json").read_text())
np.testing.assert_allclose(frame["probability"], expected, rtol=0, atol=1e-9)
print(f"core only: {len(frame)} rows predicted as where the model was saved, {int(frame['abstained'].sum())} withheld")
