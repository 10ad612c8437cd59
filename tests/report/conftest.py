"""Reports that several tests read."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.report import ReliabilityReport, reliability_report

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="session")
def binary_rows() -> dict[str, np.ndarray]:
    """An overconfident score, its true probability, the outcomes and two columns to slice by."""
    rng = np.random.default_rng(7)
    z = rng.normal(-0.5, 1.3, 2000)
    return {
        "y": (rng.random(2000) < expit(z)).astype(int),
        "proba": expit(z),
        "raw": expit(2.2 * z - 0.5),
        "region": rng.choice([f"r{i:02d}" for i in range(19)] + [HOSTILE], 2000),
        "rare": np.where(np.arange(2000) < 5, "tiny", "rest"),
    }


@pytest.fixture(scope="session")
def binary_report(binary_rows: dict[str, np.ndarray]) -> ReliabilityReport:
    rows = binary_rows
    return reliability_report(
        rows["y"],
        rows["proba"],
        raw=rows["raw"],
        classes=["stays", f"leaves {HOSTILE}"],
        policy=AbstainPolicy(0.7),
        segments={"region": rows["region"], "rare": rows["rare"]},
    )


@pytest.fixture(scope="session")
def digits_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class indices, softened and overconfident probabilities of ten classes."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 10, 900)
    logits = rng.normal(0.0, 1.0, (900, 10))
    logits[np.arange(900), y] += 2.5
    return y, softmax(logits, axis=1), softmax(3.0 * logits, axis=1)


@pytest.fixture(scope="session")
def digits_report(digits_rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> ReliabilityReport:
    y, proba, raw = digits_rows
    classes = [HOSTILE, *range(1, 10)]
    segments = {"pen": np.array(["blue", "black", "red"])[y % 3]}
    return reliability_report(y, proba, raw=raw, classes=classes, policy=AbstainPolicy(0.6), segments=segments)


@pytest.fixture(scope="session")
def drift() -> dict[str, object]:
    """What ``DriftReport.to_dict`` gives, with hostile names."""
    names = [HOSTILE, "cost in $ and $x^", "年齢", "a_very_long_column_name_that_goes_on_and_on", "age"]
    columns = [
        {
            "column": name,
            "kind": "numeric",
            "method": "psi",
            "statistic": 0.05 * i,
            "threshold": 0.08,
            "drifted": 0.05 * i >= 0.08,
            "note": HOSTILE if i > 1 else "",
        }
        for i, name in enumerate(names)
    ]
    return {"columns": columns, "skipped": {HOSTILE: "holds one value"}, "share": 0.6}
