"""Telling of alarms: a log, a signed webhook, Slack.

A sink either takes a notice or raises; who calls it tries again later. No address and no secret gets into a message,
as a Slack address is itself a secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any, Protocol

from mlflow_caliber._version import __version__
from mlflow_caliber.exceptions import CaliberError, ConfigError
from mlflow_caliber.store import Alarm

__all__ = [
    "DeliveryError",
    "LogSink",
    "Notice",
    "Sink",
    "SlackSink",
    "WebhookSink",
    "sinks_from_dict",
    "verify_webhook",
]

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64
_SLACK_LIMIT = 2_900
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}
_SIGNS = {"info": ":information_source:", "warning": ":warning:", "critical": ":rotating_light:"}
_logger = logging.getLogger(__name__)


class DeliveryError(CaliberError, RuntimeError):
    """A notice that was not taken; it is worth another try."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """An alarm that was ``opened``, is open still (``reminder``), or is ``resolved``."""

    event: str
    model: str
    version: str
    alarm: Alarm

    @property
    def id(self) -> str:
        """The same however often, and by whomever, it is sent: receivers tell a repetition by it."""
        told = "" if self.event == "resolved" else self.alarm.notified_at
        parts = [self.model, self.version, self.alarm.id, self.alarm.opened_at, self.event, told]
        return "msg_" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    @property
    def line(self) -> str:
        """The notice in one line."""
        what = f"{self.model}/{self.version} {self.alarm.kind} ({self.alarm.key}) {_SAID[self.event]}"
        return " ".join(f"{what}: {self.alarm.sentence}".split())

    def to_dict(self) -> dict[str, Any]:
        """What a webhook is sent."""
        alarm = {name: value for name, value in asdict(self.alarm).items() if name != "notified_at"}
        resolved = self.alarm.resolved_at
        seen = self.alarm.last_seen_at if resolved is None else resolved
        return {
            "type": f"caliber.alarm.{self.event}",
            "timestamp": datetime.fromtimestamp(seen, UTC).isoformat(),
            "data": {"model": self.model, "version": self.version, **alarm},
        }


_SAID = {"opened": "opened", "reminder": "is still open", "resolved": "is resolved"}


class Sink(Protocol):
    """Where notices go."""

    def send(self, notice: Notice, now: float) -> None:
        """Deliver the notice, or raise :class:`DeliveryError`."""


class LogSink:
    """Writes notices to the log of this process, at the level of their severity."""

    def send(self, notice: Notice, now: float) -> None:
        """Write one line."""
        level = logging.INFO if notice.event == "resolved" else _LEVELS[notice.alarm.severity]
        _logger.log(level, "%s", notice.line)


class WebhookSink:
    """Sends notices as JSON, signed as `Standard Webhooks <https://www.standardwebhooks.com>`_ says.

    Parameters
    ----------
    url : str
        An http or https address. Redirects are not followed.
    secret : str
        ``whsec_`` and 24 to 64 random bytes in base64. See :func:`verify_webhook` for the other end.
    timeout : float, default=10
        Seconds.

    Raises
    ------
    ConfigError
        For an address or a secret that cannot be used.

    Examples
    --------
    >>> WebhookSink("ftp://example.org", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    Traceback (most recent call last):
    mlflow_caliber.exceptions.ConfigError: The address of a webhook must begin with http:// or https://.
    """

    def __init__(self, url: str, secret: str, timeout: float = 10.0) -> None:
        self._url = _checked_url(url, "a webhook")
        self._key = _key(secret)
        self._timeout = timeout

    def send(self, notice: Notice, now: float) -> None:
        """Post the notice."""
        body = json.dumps(notice.to_dict(), allow_nan=False).encode()
        stamp = str(int(now))
        headers = {
            "webhook-id": notice.id,
            "webhook-timestamp": stamp,
            "webhook-signature": _signature(self._key, notice.id, stamp, body),
        }
        _post(self._url, body, headers, self._timeout)


class SlackSink:
    """Posts notices to a Slack channel.

    Parameters
    ----------
    url : str
        Of an incoming webhook; whoever knows it can post.
    timeout : float, default=10
        Seconds.
    """

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        self._url = _checked_url(url, "a Slack webhook")
        self._timeout = timeout

    def send(self, notice: Notice, now: float) -> None:
        """Post the notice."""
        _post(self._url, json.dumps(slack_message(notice)).encode(), {}, self._timeout)


def slack_message(notice: Notice) -> dict[str, Any]:
    """A notice as Slack wants it; every text from outside is escaped."""
    alarm = notice.alarm
    sign = ":white_check_mark:" if notice.event == "resolved" else _SIGNS[alarm.severity]
    head = f"{notice.model}/{notice.version}: {alarm.kind} ({alarm.key}) {_SAID[notice.event]}"
    shown = f"{sign} *{_escaped(head)}*\n{_escaped(alarm.sentence)}"
    opened = datetime.fromtimestamp(alarm.opened_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {
        "text": _escaped(notice.line),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": shown}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": f"{alarm.severity}, since {opened}"}]},
        ],
    }


def verify_webhook(
    headers: Mapping[str, str], body: bytes, secret: str, tolerance: float = 300.0, now: float | None = None
) -> bool:
    """Whether a request is a notice of ours, unchanged and fresh: for receivers of :class:`WebhookSink`.

    Parameters
    ----------
    headers : mapping
        Of the request; upper and lower case are one.
    body : bytes
        As it came: parsing and writing JSON anew gives other bytes.
    secret : str
        The sender's.
    tolerance : float, default=300
        Seconds by which the two clocks may differ.
    now : float, optional
        Seconds since 1970; by default this machine's clock.

    Examples
    --------
    >>> verify_webhook({}, b"{}", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    False
    """
    given = {name.lower(): value for name, value in headers.items()}
    stamp = given.get("webhook-timestamp", "")
    if re.fullmatch("[0-9]{1,12}", stamp) is None:
        return False
    if abs((time.time() if now is None else now) - int(stamp)) > tolerance:
        return False
    wanted = _signature(_key(secret), given.get("webhook-id", ""), stamp, body).encode()
    # Several signatures come while a secret is being replaced.
    came = given.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(wanted, each.encode(errors="replace")) for each in came)


def sinks_from_dict(alerts: Mapping[str, Any]) -> list[Sink]:
    """The sinks of the section ``live.alerts`` of ``caliber.yaml``; secrets come from the environment.

    Raises
    ------
    ConfigError
        If a variable that the section names is not set, or holds nothing that can be used.

    Examples
    --------
    >>> [type(sink).__name__ for sink in sinks_from_dict({})]
    ['LogSink']
    """
    sinks: list[Sink] = [LogSink()] if alerts.get("log", True) else []
    if webhook := alerts.get("webhook"):
        sinks.append(WebhookSink(webhook["url"], _variable(webhook["secret_env"], "live.alerts.webhook.secret_env")))
    if slack := alerts.get("slack"):
        sinks.append(SlackSink(_variable(slack["url_env"], "live.alerts.slack.url_env")))
    return sinks


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could send what is signed for one receiver to another."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _post(url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> None:
    head = {"Content-Type": "application/json", "User-Agent": f"mlflow-caliber/{__version__}", **headers}
    request = urllib.request.Request(url, data=body, headers=head, method="POST")  # noqa: S310 - the scheme was checked
    try:
        with _opener.open(request, timeout=timeout):
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise DeliveryError(f"the receiver answered {error.code}.") from None
    except urllib.error.URLError as error:
        raise DeliveryError(f"the receiver was not reached ({type(error.reason).__name__}).") from None
    except (OSError, HTTPException, ValueError) as error:
        raise DeliveryError(f"the receiver did not answer ({type(error).__name__}).") from None


def _signature(key: bytes, message_id: str, stamp: str, body: bytes) -> str:
    digest = hmac.digest(key, f"{message_id}.{stamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise ConfigError(
            f"The secret of a webhook must be {_PREFIX} and {_SHORTEST} to {_LONGEST} bytes in base64: "
            'echo "whsec_$(openssl rand -base64 32)"'
        )
    return key


def _checked_url(url: str, whose: str) -> str:
    if re.match(r"https?://[^\s/]", url) is None:
        raise ConfigError(f"The address of {whose} must begin with http:// or https://.")
    return url


def _variable(name: str, where: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigError(f"{where} names the environment variable {name}, which must be set and is not.")
    return value


def _escaped(text: str) -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return safe if len(safe) <= _SLACK_LIMIT else safe[:_SLACK_LIMIT].rsplit(" ", 1)[0] + " ..."
