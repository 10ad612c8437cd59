"""A served model's line to the store: its predictions go there, new revisions come from there, off the request path.

A request only appends to a local file (:class:`Spool`) and reads the model of the moment. One thread a process does the
rest; whatever a database does to it, requests are answered with the last good revision.
"""

from __future__ import annotations

import atexit
import getpass
import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from mlflow_caliber.calibrators import Calibrator
from mlflow_caliber.exceptions import CaliberError, StateError, StoreError
from mlflow_caliber.flavor._serving import frame_json
from mlflow_caliber.flavor._spool import Spool
from mlflow_caliber.model import CalibratedModel
from mlflow_caliber.online import CorrectedCalibrator, SnapshotMap
from mlflow_caliber.store import Prediction, Store, Stream, open_store

__all__ = ["StoreLink", "link_for"]

SPOOL_DIR = "MLFLOW_CALIBER_SPOOL_DIR"
SPOOL_LIMIT = "MLFLOW_CALIBER_SPOOL_BYTES"

_POLL_SECONDS = 1.0
_LONGEST_PAUSE = 4.0
_BATCH_BYTES = 1 << 19
_FLUSH_SECONDS = 5.0
_logger = logging.getLogger(__name__)


class Address(NamedTuple):
    """Where a model's log is."""

    store_uri: str
    model: str
    version: str


class StoreLink:
    """What connects one process's copy of a model with the store.

    Parameters
    ----------
    shipped : CalibratedModel
        The model as it was saved.
    address : Address
        Store, and the name and version under which this model is known there.
    spool : Spool
        Where predictions wait.

    Attributes
    ----------
    model : CalibratedModel
        What to answer with: the shipped model, its calibrator corrected by the newest good revision.
    """

    def __init__(self, shipped: CalibratedModel, address: Address, spool: Spool) -> None:
        self.model = self._shipped = shipped
        self._address, self._spool = address, spool
        self._store: Store | None = None
        self._stream: Stream | None = None
        self._revision: int | None = None
        self._refused: int | None = None
        self._trouble = self._said = ""
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="caliber-store", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def log(self, frame: pd.DataFrame, segment: Any) -> None:
        """Keep a prediction frame for the store; never fails and never waits."""
        try:
            head = {"at": time.time(), "segment": _plain(segment)}
            line = f'{json.dumps(head)[:-1]}, "rows": {frame_json(frame)}}}'
            if not self._spool.append(line.encode()):
                self._say("The spool is full: predictions are served and not recorded.")
        except Exception as error:  # a full disk must not cost an answer
            self._spool.dropped += 1
            self._say(f"Predictions are served and not recorded: {_sentence(error)}")

    def close(self) -> None:
        """Send what is waiting, for at most a few seconds; the rest stays in its file for the next process."""
        atexit.unregister(self.close)
        self._ended.set()
        self._wake.set()
        self._thread.join(_FLUSH_SECONDS)
        self._spool.close()
        if self._store is not None:
            self._store.close()

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = _POLL_SECONDS
        while True:
            ending = self._ended.is_set()  # asked before the turn: what came before the end is still sent
            try:
                more = self._turn()
                pause = 0.0 if more else _POLL_SECONDS
            except Exception as error:  # a database has many ways to fail, and none may end this thread
                self._say(f"The store does not answer: {_sentence(error)}")
                pause = min(2.0 * max(pause, _POLL_SECONDS), _LONGEST_PAUSE)
            if ending:
                return
            self._wake.wait(pause)

    def _turn(self) -> bool:
        """Once around: follow the revision, send what waits, take over from the dead, and say how we are.

        Whether more waits to be sent: it is not all sent at once, or under steady load no revision would be followed.
        """
        stream = self._connected()
        self._follow(stream)
        end = time.monotonic() + _POLL_SECONDS
        while (lines := self._spool.peek(_BATCH_BYTES)) and time.monotonic() < end:
            self._send(stream, lines)
            self._spool.forget(lines)
        for lines in self._spool.orphans():
            self._send(stream, lines)
        stream.report_replica(_replica(), self.model.revision, self._spool.dropped, self._trouble)
        return bool(lines)

    def _connected(self) -> Stream:
        if self._stream is None:
            self._store = self._store or open_store(self._address.store_uri)
            classes = [str(label) for label in self._shipped.classes_]
            positive = classes[self._shipped.pos_index] if len(classes) == 2 else None
            self._stream = self._store.stream(
                self._address.model, self._address.version, classes=classes, positive=positive
            )
        return self._stream

    def _send(self, stream: Stream, lines: Sequence[bytes]) -> None:
        rows = []
        for line in lines:
            try:
                rows += _predictions(self._shipped, line)
            except (ValueError, KeyError, TypeError) as error:  # not ours, or hurt: it must not hold up the others
                self._spool.dropped += 1
                self._say(f"A line of the spool cannot be read and is left out: {type(error).__name__}.")
        receipt = stream.record_predictions(rows)
        if receipt.refused:
            self._say(f"The store refused {len(receipt.refused)} predictions: {receipt.refused[0].sentence}")

    def _follow(self, stream: Stream) -> None:
        """Answer with the revision that the store names, if it can be read."""
        number = stream.current_number()
        if number is not None and number == self._refused:
            return
        self._refused, self._trouble = None, ""
        if number == self._revision:
            return
        if number is None:
            self.model, self._revision = self._shipped, None
            return
        try:
            revision = stream.revision(number)
            model = _corrected(self._shipped, SnapshotMap.from_dict(revision.map), revision.revision)
        except StoreError:
            raise
        except (CaliberError, ValueError) as error:
            self._refused = number
            self._trouble = f"Revision {number} cannot be used, the last good one stays: {_sentence(error)}"
            self._say(self._trouble)
            return
        self.model, self._revision = model, number
        _logger.info("Serving revision %s (%s).", number, revision.revision)

    def _say(self, sentence: str) -> None:
        """Log it, but not the same again and again."""
        if sentence != self._said:
            _logger.warning("%s", sentence)
        self._said = sentence


def link_for(model: CalibratedModel, path: Path, store_uri: str) -> StoreLink:
    """The link of a model that was loaded from this folder."""
    name, version = _name_of(path)
    folder = os.environ.get(SPOOL_DIR)
    root = Path(folder) if folder else _own_folder()
    limit = int(os.environ.get(SPOOL_LIMIT) or 64 << 20)
    return StoreLink(model, Address(store_uri, name, version), Spool(root / _file_name(f"{name}-{version}"), limit))


def _own_folder() -> Path:
    """A folder in the temporary directory that nobody else can have made for us."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"mlflow-caliber-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != user:
        raise StateError(f"The spool folder {folder} belongs to somebody else: name another by {SPOOL_DIR}.")
    return folder


def _name_of(path: Path) -> tuple[str, str]:
    """Name and version in the registry that a folder was loaded from; else the id of the logged model."""
    meta = path / "registered_model_meta"
    if meta.is_file():
        known = yaml.safe_load(meta.read_text(encoding="utf-8"))
        return str(known["model_name"]), str(known["model_version"])
    conf = yaml.safe_load((path / "MLmodel").read_text(encoding="utf-8"))
    return str(conf.get("model_id") or conf.get("model_uuid")), "0"


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else f"%{ord(c):x}" for c in text)


def _replica() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _plain(segment: Any) -> Any:
    """One text for all rows, or one a row, missing ones as null."""
    if segment is None or isinstance(segment, str):
        return segment
    return [None if pd.isna(value) else str(value) for value in segment]


def _predictions(shipped: CalibratedModel, line: bytes) -> list[Prediction]:
    """The rows of one request as the store keeps them; what the shipped model alone would have said is added here."""
    request = json.loads(line)
    rows, segment = request["rows"], request["segment"]
    segments = segment if isinstance(segment, list) else [segment] * len(rows)
    bases = _bases(shipped, rows, segment)
    return [
        Prediction(
            prediction_id=row["prediction_id"],
            predicted_at=request["at"],
            raw_probability=row["raw_probability"],
            base_probability=base,
            probability=row["probability"],
            prediction=str(row["prediction"]),
            confidence=row["confidence"],
            abstained=row["abstained"],
            reason=row["reason"],
            segment=of,
            calibrator_revision=row["calibrator_revision"],
            probabilities=row.get("probabilities"),
        )
        for row, base, of in zip(rows, bases, segments, strict=True)
    ]


def _bases(shipped: CalibratedModel, rows: Sequence[dict[str, Any]], segment: Any) -> list[float]:
    if len(shipped.classes_) > 2 or shipped.calibrator is None:
        return [row["probability"] for row in rows]
    raw = np.array([row["raw_probability"] for row in rows])
    columns = np.column_stack((1.0 - raw, raw) if shipped.pos_index == 1 else (raw, 1.0 - raw))
    return [float(p) for p in shipped.calibrate(columns, segment)[:, shipped.pos_index]]


def _corrected(shipped: CalibratedModel, correction: SnapshotMap, revision: str) -> CalibratedModel:
    calibrator = shipped.calibrator
    if not isinstance(calibrator, Calibrator | CorrectedCalibrator):
        raise StateError("The calibrator that the model was shipped with could not be loaded.")
    policy = shipped.policy and shipped.policy.suspended("a live revision corrects its calibrator")
    return replace(shipped, calibrator=CorrectedCalibrator(calibrator, correction), policy=policy, revision=revision)


def _sentence(error: Exception) -> str:
    # Ours are written to be shown; those of a driver may quote statements, rows or passwords.
    return str(error) if isinstance(error, CaliberError) else f"{type(error).__name__}."
