"""What an application or a person says to the service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote

from mlflow_caliber._validation import check_text
from mlflow_caliber.client._rows import Recorded, as_json, chunks, recorded, with_id, with_kind, with_time
from mlflow_caliber.client._transport import Transport

__all__ = ["CaliberClient"]

# What the service takes in one request, and what is sent of a stream of events at a time.
_MOST, _CHUNK = 10_000, 1_000


class CaliberClient:
    """Talks to one service. Close it, or use it in a ``with`` statement.

    What may be sent twice without harm (every question, and what carries an id) is sent again while the service is away
    or busy; a prediction without an id is given one before it is first sent.

    Parameters
    ----------
    url : str
        Where the service is, such as ``https://caliber.example.org``.
    token : str, optional
        The text that ``mlflow-caliber token create`` printed.
    timeout : float, default=10
        Seconds to wait for an answer.
    retries : int, default=5
        How often a call is sent again; the pauses double from 0.2 seconds.

    Raises
    ------
    ServiceError
        From every method: the service refused, or did not answer.

    Examples
    --------
    >>> client = CaliberClient("http://127.0.0.1:8600", token="cal_...")
    >>> client
    CaliberClient('http://127.0.0.1:8600')
    >>> said = client.record_prediction("churn", "3", probability=0.81)  # doctest: +SKIP
    >>> client.record_outcome("churn", "3", said.prediction_ids[0], "leaves")  # doctest: +SKIP
    Recorded(recorded=1, duplicates=0, corrections=0, refused=(), predictions=())
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 10.0, retries: int = 5) -> None:
        self._transport = Transport(url, token, timeout, retries)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._transport.url

    def __repr__(self) -> str:
        return f"CaliberClient({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def register(
        self,
        model: str,
        version: str,
        classes: Sequence[Any] | None = None,
        positive: Any = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Make the stream of a model version, if it is not there; what is known of it.

        Parameters
        ----------
        model, version : str
            Whose predictions will come.
        classes : sequence of labels, optional
            In the order of the model's probabilities; without it any label is taken.
        positive : label, optional
            Of two classes, the one whose probability is sent; by default the second.
        settings : mapping, optional
            ``abstain_threshold``, ``stage``, ``parent_version``, ``review``; needs the role admin.
        """
        told = {"classes": classes, "positive": positive, "settings": settings}
        body = {key: value for key, value in told.items() if value is not None}
        return self._transport.call("PUT", _path(model, version), body)

    def record_prediction(self, model: str, version: str, **prediction: Any) -> Recorded:
        """Record one answer of a model: ``probability`` or ``confidence``, and what else is known of it.

        Parameters
        ----------
        model, version : str
            Whose it is.
        **prediction
            Any of ``prediction_id``, ``predicted_at``, ``probability``, ``base_probability``, ``raw_probability``,
            ``prediction``, ``confidence``, ``probabilities``, ``abstained``, ``reason``, ``segment``,
            ``calibrator_revision``, ``features``, and ``outcome`` if it is known already.

        Returns
        -------
        Recorded
            Its ``predictions[0]["abstained"]`` says whether a person should decide.
        """
        return self._record(model, version, "predictions", [with_id(prediction)], single=True)

    def record_predictions(self, model: str, version: str, predictions: Iterable[Mapping[str, Any]]) -> Recorded:
        """Record many, with the keys of :meth:`record_prediction`, in requests of at most 10 000."""
        return self._record_all(model, version, "predictions", map(with_id, predictions))

    def record_outcome(self, model: str, version: str, prediction_id: str, outcome: Any, **more: Any) -> Recorded:
        """Record what happened; ``observed_at`` and ``source`` may be given."""
        told = with_time({"prediction_id": prediction_id, "outcome": outcome, **more})
        return self._record(model, version, "outcomes", [told], single=True)

    def record_outcomes(self, model: str, version: str, outcomes: Iterable[Mapping[str, Any]]) -> Recorded:
        """Record many, each with ``prediction_id`` and ``outcome``."""
        return self._record_all(model, version, "outcomes", map(with_time, outcomes))

    def stream_events(self, model: str, version: str, events: Iterable[Mapping[str, Any]]) -> Recorded:
        """Record predictions and outcomes in their order, however many: only some thousand are held at a time.

        Parameters
        ----------
        model, version : str
            Whose they are.
        events : iterable of mappings
            With the keys of a prediction or of an outcome; ``kind`` says which, "prediction" or "outcome".

        Returns
        -------
        Recorded
            Of all; ``index`` counts from the first event.
        """
        total, before = Recorded(), 0
        for chunk in chunks(map(with_kind, events), _CHUNK):
            body = b"".join(as_json(event) + b"\n" for event in chunk)
            answer = self._transport.call("POST", f"{_path(model, version)}/events", body, kind="application/x-ndjson")
            # Nobody wants a million ids back.
            total += recorded(answer, (), before)
            before += len(chunk)
        return total

    def models(self) -> list[dict[str, Any]]:
        """Every model version that the token shows, and how it is."""
        return _list(self._transport.call("GET", "/models"), "models")

    def model(self, model: str, version: str) -> dict[str, Any]:
        """One of them, in detail."""
        return self._transport.call("GET", _path(model, version))

    def report(
        self,
        model: str,
        version: str,
        *,
        window: str | None = None,
        labels: str = "all",
        detail: str = "quick",
        since: float | None = None,
        until: float | None = None,
        segment: str | None = None,
    ) -> dict[str, Any]:
        """How far the probabilities of some time can be relied on.

        Parameters
        ----------
        model, version : str
            Whose.
        window : {"1d", "7d", "30d", "90d", "365d", "all"}, optional
            Of which time; by default the last 30 days, or all that ``since`` and ``until`` leave.
        labels : {"all", "observed", "review", "audit"}
            Where the outcomes came from.
        detail : {"quick", "full"}
            "full" has intervals for every metric, and takes longer.
        since, until : float, optional
            Predictions recorded from the one on and before the other, in seconds since 1970; widened to full hours.
        segment : str, optional
            Only predictions of this segment.
        """
        span = {"since": since, "until": until, "segment": segment}
        given = {name: value for name, value in span.items() if value is not None}
        window = window or ("30d" if since is None and until is None else "all")
        asked = {"window": window, "labels": labels, "detail": detail, **given}
        return self._transport.call("GET", f"{_path(model, version)}/report", query=asked)

    def timeline(self, model: str, version: str, *, by: str = "day", last: int = 30) -> dict[str, Any]:
        """How it went, by "hour" or "day"."""
        return self._transport.call("GET", f"{_path(model, version)}/timeline", query={"by": by, "last": last})

    def alarms(self, model: str, version: str, *, state: str = "open") -> list[dict[str, Any]]:
        """What is wrong ("open"), or all that ever was ("all")."""
        return _list(self._transport.call("GET", f"{_path(model, version)}/alarms", query={"state": state}), "alarms")

    def revisions(self, model: str, version: str) -> dict[str, Any]:
        """What was learned, and which revision is served."""
        return self._transport.call("GET", f"{_path(model, version)}/revisions")

    def reviews(self, **asked: Any) -> dict[str, Any]:
        """The cases that wait for a person: ``model``, ``version``, ``order``, ``status`` and ``limit`` narrow them."""
        return self._transport.call(
            "GET", "/reviews", query={key: value for key, value in asked.items() if value is not None}
        )

    def claim(self, model: str, version: str, prediction_id: str) -> dict[str, Any]:
        """Take a case; nobody else can decide it for some minutes."""
        return self._transport.call("POST", f"{_review(model, version, prediction_id)}/claim", {})

    def decide(
        self, model: str, version: str, prediction_id: str, answer: str, *, label: Any = None, note: str = ""
    ) -> dict[str, Any]:
        """Answer a case: "confirm", "correct" (with ``label``), "cant_judge" or "escalate"; and what that changed."""
        told = {"answer": answer, **({} if label is None else {"label": label}), **({"note": note} if note else {})}
        # Not again by itself: the second time could be a correction of what somebody else has said meanwhile.
        return self._transport.call("POST", f"{_review(model, version, prediction_id)}/decide", told, again=False)

    def _record_all(self, model: str, version: str, what: str, rows: Iterator[dict[str, Any]]) -> Recorded:
        total, before = Recorded(), 0
        for chunk in chunks(rows, _MOST):
            total += self._record(model, version, what, chunk, before=before)
            before += len(chunk)
        return total

    def _record(
        self,
        model: str,
        version: str,
        what: str,
        rows: list[dict[str, Any]],
        *,
        before: int = 0,
        single: bool = False,
    ) -> Recorded:
        body = rows[0] if single else rows
        answer = self._transport.call("POST", f"{_path(model, version)}/{what}", body)
        return recorded(answer, tuple(str(row["prediction_id"]) for row in rows), before)


def _path(model: str, version: str) -> str:
    return f"/models/{_quoted(model, 'model')}/versions/{_quoted(version, 'version')}"


def _review(model: str, version: str, prediction_id: str) -> str:
    return f"{_path(model, version)}/reviews/{_quoted(prediction_id, 'prediction_id')}"


def _quoted(text: str, name: str) -> str:
    return quote(check_text(text, name), safe="")


def _list(answer: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    return list(answer[key])
