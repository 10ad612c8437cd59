"""`mlflow-caliber consume` as it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from kafka_broker import PACE

COMMAND = str(Path(sys.executable).with_name("mlflow-caliber"))


class Consumer:
    """`mlflow-caliber consume`, really running."""

    def __init__(self, broker, topic, uri, folder, name, *options):
        self.out, self.log = folder / f"{name}.out", folder / f"{name}.log"
        command = [COMMAND, "consume", "--bootstrap", broker.bootstrap, "--topic", topic, "--group", topic]
        command += [part for key, value in PACE.items() for part in ("--property", f"{key}={value}")]
        with self.out.open("w") as out, self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--store", uri, "--json", *options],
                stdout=out,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def has_partitions(self):
        assert self.process.poll() is None, self.log.read_text()[-2_000:]
        return "ours now: " in self.log.read_text()

    def end(self, how):
        self.process.send_signal(how)
        return self.process.wait(60)

    def tally(self):
        return json.loads(self.out.read_text())

    def last_word(self):
        """What it said last of what it did, or of what it found there already."""
        lines = [line for line in self.log.read_text().splitlines() if "messages:" in line or "before." in line]
        return lines[-1].partition(": ")[2] if lines else "nothing"
