"""What the guard costs ordinary registry calls: a guarded MLflow server against a plain one, asked in turn.

Both servers run at the same time with one worker each, on databases of their own; every call is sent to both, in
changing order, so that whatever else the machine does hits both. Printed are medians and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from registry_servers import ADMIN, PASSWORD, MlflowServer

POLICY = "gate: {targets: {champion: {rules: [{metric: caliber_brier, max: 0.2}]}, Production: {rules: \
[{metric: caliber_brier, max: 0.2}]}}}"


class Site:
    """One server, one connection."""

    def __init__(self, server: MlflowServer, auth: bool) -> None:
        self.uri = server.uri
        self.session = requests.Session()
        self.session.auth = (ADMIN, PASSWORD) if auth else None
        self.run = self.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
        self.post("registered-models/create", name="m")
        self.post("model-versions/create", name="m", source=self.source(), run_id=self.run)
        self.count = itertools.count()

    def source(self) -> str:
        return f"mlflow-artifacts:/0/{self.run}/artifacts/model"

    def post(self, route: str, **body: object) -> dict[str, object]:
        answer = self.session.post(f"{self.uri}/api/2.0/mlflow/{route}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def get(self, route: str, **query: object) -> dict[str, object]:
        answer = self.session.get(f"{self.uri}/api/2.0/mlflow/{route}", params=query, timeout=60)
        answer.raise_for_status()
        return answer.json()


CALLS: dict[str, Callable[[Site], object]] = {
    "create registered model": lambda s: s.post("registered-models/create", name=f"r{next(s.count)}"),
    "create version": lambda s: s.post("model-versions/create", name="m", source=s.source(), run_id=s.run),
    "set a free tag": lambda s: s.post(
        "model-versions/set-tag", name="m", version="1", key="k", value=str(next(s.count))
    ),
    "set a free alias": lambda s: s.post("registered-models/alias", name="m", alias="shadow", version="1"),
    "stage that is not guarded": lambda s: s.post(
        "model-versions/transition-stage", name="m", version="1", stage="Staging", archive_existing_versions=False
    ),
    "get version": lambda s: s.get("model-versions/get", name="m", version="1"),
    "get version by alias": lambda s: s.get("registered-models/alias", name="m", alias="shadow"),
    "search versions": lambda s: s.get("model-versions/search", max_results=20),
    "log metric": lambda s: s.post("runs/log-metric", run_id=s.run, key="x", value=1.0, timestamp=1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=400, help="pairs of requests of each kind")
    parser.add_argument("--auth", action="store_true", help="both with basic-auth")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain = MlflowServer(Path(folder, "plain"), None, auth=options.auth, workers=1)
        guarded = MlflowServer(Path(folder, "guarded"), POLICY, auth=options.auth, workers=1)
        try:
            sites = tuple(Site(server.wait(), options.auth) for server in (plain, guarded))
            sites[0].post("registered-models/alias", name="m", alias="shadow", version="1")
            sites[1].post("registered-models/alias", name="m", alias="shadow", version="1")
            print("| call | plain, ms | guarded, ms | ratio of medians | median of ratios |\n|---|---|---|---|---|")
            for name, call in CALLS.items():
                report(name, *measure(call, sites, options.pairs))
        finally:
            plain.stop()
            guarded.stop()


def measure(call: Callable[[Site], object], sites: tuple[Site, Site], pairs: int) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs + 10):
        for i in (0, 1) if pair % 2 else (1, 0):
            start = time.perf_counter()
            call(sites[i])
            if pair >= 10:
                times[i].append(time.perf_counter() - start)
    return times


def report(name: str, plain: list[float], guarded: list[float]) -> None:
    medians = [1e3 * statistics.median(times) for times in (plain, guarded)]
    ratios = statistics.median(b / a for a, b in zip(plain, guarded, strict=True))
    print(
        f"| {name} | {medians[0]:.2f} | {medians[1]:.2f} | {medians[1] / medians[0]:.3f} | {ratios:.3f} |", flush=True
    )


if __name__ == "__main__":
    main()
