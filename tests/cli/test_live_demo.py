"""The service, really running: the demonstration by one command, and simulated traffic through a restart."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from live_processes import until
from live_service import LiveService
from mlflow_caliber.client import CaliberClient
from mlflow_caliber.exceptions import ServiceError
from mlflow_caliber.store import open_store

pytestmark = pytest.mark.system

COMMAND = str(Path(sys.executable).with_name("mlflow-caliber"))


class Running:
    """A command with its output in a file."""

    def __init__(self, log, *arguments):
        self.log = log
        with log.open("w") as out:
            words = [COMMAND, *map(str, arguments)]
            self.process = subprocess.Popen(words, stdout=out, stderr=out, start_new_session=True)

    def said(self, pattern, seconds=180):
        """What it says, once it does."""

        def found():
            assert self.process.poll() is None or re.search(pattern, self.text()), self.text()
            return re.search(pattern, self.text())

        until(found, seconds, pattern)
        return found()[1]

    def text(self):
        return self.log.read_text()

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def running(tmp_path):
    started = []

    def run(*arguments):
        started.append(Running(tmp_path / f"{len(started)}.log", *arguments))
        return started[-1]

    yield run
    for each in started:
        each.stop()


def test_the_demonstration_shows_real_models_with_a_past_and_a_present(running, tmp_path):
    folder = tmp_path / "demo"
    demo = running("demo-server", "--port", 0, "--folder", folder, "--json")
    url, token = demo.said(r"The service is at (\S+)"), demo.said(r"this token: (cal_\S+)")
    with CaliberClient(url, token) as client:
        # The month behind is summed up while the service already answers.
        until(lambda: all(_is_summed_up(client, each) for each in client.models()), 60, "sums of the past")
        models = {each["version"]: each for each in client.models()}
        assert sorted(models) == ["1", "2"]
        name = models["1"]["model"]
        assert {each["stage"] for each in models.values()} == {"production", "candidate"}
        assert models["1"]["n_labelled"] > models["2"]["n_labelled"] > 1_000
        assert models["1"]["open_reviews"] > 0
        month = {version: client.report(name, version, window="30d") for version in models}
        before = {version: client.model(name, version)["n_predictions"] for version in models}
        until(lambda: client.model(name, "2")["n_predictions"] > before["2"] + 3, 60, "live traffic")
        until(lambda: all(drifted(url, token, name, each) for each in models), 180, "drift by column")
        assert {"AGEP", "score:employed"} <= drifted(url, token, name, "1")
    eces = {version: report["metrics"]["shipped"]["ece"] for version, report in month.items()}
    assert eces["1"] > 0.1 > eces["2"], "naive Bayes is far too sure of itself"
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0, demo.text()
    told = json.loads(demo.text().splitlines()[-1])
    assert told["predictions"] > 3
    assert told["refused"] == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{url}/healthz", timeout=5)
    with open_store(f"sqlite:///{folder}/caliber.db") as store:
        assert store.faults() == ()
        assert store.find_token(token).name == "demo"


def drifted(url, token, name, version):
    address = f"{url}/api/v1/models/{name}/versions/{version}/drift"
    asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return {each["column"] for each in json.load(answer)["columns"] or () if each["drifted"]}


def _is_summed_up(client, overview):
    return client.report(overview["model"], overview["version"])["as_of"]["behind"] == 0


@pytest.fixture
def service(tmp_path):
    with LiveService(f"sqlite:///{tmp_path}/caliber.db", tmp_path / "server.log") as service:
        yield service


@pytest.mark.slow
def test_simulated_traffic_goes_through_a_restart_and_loses_nothing(running, service):
    words = ["simulate", "--url", service.url, "--token", service.token, "--rate", 40, "--labels", 1, "--delay", 0.1]
    simulated = running(*words, "--seconds", 15, "--json")
    with open_store(service.store_uri) as store:
        until(lambda: any(each.log_end() > 40 for each in store.streams()), 120, "traffic")
        service.stop(signal.SIGKILL)
        time.sleep(1.0)
        service.start()
        assert simulated.process.wait(180) == 0, simulated.text()
        told = json.loads(simulated.text().splitlines()[-1])
        (stream,) = store.streams()
        counts = stream.counts()
        assert (counts.predictions, counts.outcomes) == (told["predictions"], told["outcomes"])
        assert (told["refused"], told["way"], counts.unmatched) == (0, "rest", 0)
        assert counts.predictions == pytest.approx(600, rel=0.25)
        assert "trying again" in simulated.text()


@pytest.mark.slow
def test_the_client_and_the_service_understand_each_other(service):
    with CaliberClient(service.url, service.token) as client:
        client.register("churn", "3", ["stays", "leaves"], settings={"abstain_threshold": 0.7, "stage": "new"})
        sure, unsure = (client.record_prediction("churn", "3", probability=p) for p in (0.9, 0.6))
        assert [each.predictions[0]["abstained"] for each in (sure, unsure)] == [False, True]
        assert client.record_outcome("churn", "3", sure.prediction_ids[0], "leaves").recorded == 1
        rows = [{"prediction_id": str(k), "probability": k / 200, "outcome": "stays"} for k in range(200)]
        many = client.record_predictions("churn", "3", [*rows, {"probability": 7.0}])
        assert (many.recorded, [each["index"] for each in many.refused]) == (400, [200])
        events = [{"kind": "prediction", **row} for row in rows] + [
            {"kind": "outcome", "prediction_id": "x", "outcome": 1}
        ]
        again = client.stream_events("churn", "3", events)
        assert (again.duplicates, [each["index"] for each in again.refused]) == (400, [200])

        (overview,) = client.models()
        assert (overview["stage"], overview["n_predictions"]) == ("new", 202)
        assert client.model("churn", "3")["abstain_threshold"] == 0.7
        assert client.report("churn", "3", window="all")["n"] == 201
        assert client.timeline("churn", "3")["by"] == "day"
        assert client.alarms("churn", "3", state="all") == []
        assert client.revisions("churn", "3")["current"] == 0
        first = client.reviews(model="churn", limit=1)["reviews"][0]
        claimed = client.claim("churn", "3", first["prediction_id"])
        assert claimed["claimed_by"] == "root"
        done = client.decide("churn", "3", first["prediction_id"], "confirm")
        assert done["review"]["status"] == "done"
        with pytest.raises(ServiceError, match="There is no version '9'") as caught:
            client.report("churn", "9")
        assert caught.value.status == 404
    with CaliberClient(service.url, "cal_0123456789ab_" + "x" * 43) as stranger:
        with pytest.raises(ServiceError, match="not known") as caught:
            stranger.models()
        assert caught.value.status == 401
