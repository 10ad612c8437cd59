"""The buffer of the article's demo: one line for each prediction whose outcome is known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.store._checks import check_name, check_score, check_time, label_text, shown
from mlflow_caliber.store._import import Importer, json_lines
from mlflow_caliber.store._store import Store
from mlflow_caliber.store._values import ImportReport, Outcome, Prediction

__all__ = ["import_article_buffer"]

_CLASSES = ("0", "1")
_KEYS = ("sport", "pred", "outcome", "ts")


def import_article_buffer(store: Store, path: str | Path, model: str, version: str) -> ImportReport:
    r"""Record a buffer of JSON lines ``{"sport": "nba", "pred": 0.71, "outcome": 1, "ts": 1700000000}``.

    Each line is a prediction of the classes 0 and 1, its segment the sport, and its outcome. The id is the digest of
    the line's number and content, so importing a file again, also when it has grown, records only what is new.

    Parameters
    ----------
    store : Store
        Where to.
    path : str or Path
        The file.
    model, version : str
        The stream.

    Returns
    -------
    ImportReport
        What was recorded, and which lines could not be read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from mlflow_caliber.store import open_store
    >>> lines = '{"sport": "nba", "pred": 0.71, "outcome": 1, "ts": 1700000000}\n{"sport": "nba", "pred": 7}\n'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "buffer.jsonl")
    ...     _ = file.write_text(lines)
    ...     report = import_article_buffer(open_store("sqlite://"), file, "wins", "1")
    >>> report.receipt.recorded, report.bad_lines[0].number, report.bad_lines[0].sentence
    (2, 2, 'The line must have sport, pred, outcome, ts, and lacks outcome, ts.')
    """
    importer = Importer(store.stream(model, version, _CLASSES))
    for number, line in json_lines(Path(path)):
        digest = hashlib.sha256(b"%d\0%b" % (number, line.strip())).hexdigest()
        importer.take(number, line, partial(_events, digest))
    return importer.report()


def _events(prediction_id: str, line: Mapping[str, Any]) -> list[Prediction | Outcome]:
    missing = [key for key in _KEYS if key not in line]
    if missing:
        raise InvalidInputError(f"The line must have {', '.join(_KEYS)}, and lacks {', '.join(missing)}.")
    score = check_score(line["pred"], "pred")
    seconds = _seconds(line["ts"])
    said = Prediction(
        prediction_id=prediction_id,
        predicted_at=seconds,
        raw_probability=score,
        base_probability=score,
        probability=score,
        prediction=score >= 0.5,
        confidence=max(score, 1.0 - score),
        segment=check_name(line["sport"], "sport"),
    )
    outcome = label_text(line["outcome"], _CLASSES, "outcome")
    return [said, Outcome(prediction_id=prediction_id, outcome=outcome, observed_at=seconds)]


def _seconds(value: Any) -> float:
    if not isinstance(value, str):
        return check_time(value, "ts")
    try:
        moment = datetime.fromisoformat(value)
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"ts must be seconds since 1970 or ISO 8601, got {shown(value)}.") from error
    return check_time(seconds, "ts")
