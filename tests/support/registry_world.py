"""A registry with model versions and evidence made by hand, so that each test says what the gate reads."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlflow_caliber.evidence import (
    REPORT_JSON,
    ROWS_PARQUET,
    TAG_DATA_DIGEST,
    TAG_MODEL_DIGEST,
    DataIdentity,
    Evidence,
    Rows,
    data_digest,
    identify_model,
)
from mlflow_caliber.gate import GatePolicy
from mlflow_caliber.report import reliability_report


def make_rows(n=1000, *, temperature=1.0, seed=0, weight=None):
    """Outcomes of a calibrated model; its probabilities are sharpened by ``temperature`` below 1."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0.0, 1.5, n)
    y = rng.random(n) < 1.0 / (1.0 + np.exp(-logit))
    return Rows(y=y.astype(np.intp), p=1.0 / (1.0 + np.exp(-logit / temperature)), weight=weight)


def make_evidence(rows, model, *, drift=None, segments=None, **fields):
    """The evidence that the evaluator would write for these rows."""
    sliced = rows.segments if segments is None else segments
    report = reliability_report(rows.y, rows.p, raw=rows.raw, sample_weight=rows.weight, segments=sliced)
    data = DataIdentity(digest=data_digest(None, rows.y, rows.weight), name="outcomes", n=len(rows.y))
    return Evidence(model=model, data=data, report=report.to_dict(), drift=drift, **fields)


def make_policy(*rules, target="champion", **demands):
    return GatePolicy.from_dict({"targets": {target: {"rules": list(rules), **demands}}})


@dataclass
class World:
    """The registry, and short ways to put something into it."""

    folder: Path
    client: object
    experiment: str
    counter: object = field(default_factory=itertools.count)

    def model(self, content="weights"):
        """A model folder of its own: the gate only needs files, not a model that predicts."""
        folder = self.folder / f"model-{next(self.counter)}"
        folder.mkdir()
        (folder / "MLmodel").write_text(f"model_id: m-{folder.name}\n")
        (folder / "weights.txt").write_text(content + folder.name)
        return folder

    def register(self, *folders):
        """A registered model with one version for each folder."""
        name = f"churn-{next(self.counter)}"
        self.client.create_registered_model(name)
        for folder in folders:
            self.client.create_model_version(name, source=folder.as_uri())
        return name

    def evaluate(self, folder, rows, **fields):
        """A run with the evidence on a model folder."""
        run_id = self.client.create_run(self.experiment).info.run_id
        scratch = self.folder / run_id
        scratch.mkdir()
        digest = rows.write(scratch / "rows.parquet")
        evidence = make_evidence(rows, identify_model(folder), run_id=run_id, rows_sha256=digest, **fields)
        (scratch / "report.json").write_bytes(evidence.to_json())
        for name in (REPORT_JSON, ROWS_PARQUET):
            self.client.log_artifact(run_id, scratch / Path(name).name, "caliber")
        self.client.set_tag(run_id, TAG_MODEL_DIGEST, evidence.model.digest)
        self.client.set_tag(run_id, TAG_DATA_DIGEST, evidence.data.digest)
        self.client.set_terminated(run_id)
        return run_id

    def aliases(self, name):
        return {alias: str(v) for alias, v in self.client.get_registered_model(name).aliases.items()}

    def tags(self, name, version):
        return dict(self.client.get_model_version(name, str(version)).tags)
