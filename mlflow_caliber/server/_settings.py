"""How the service runs: made once by the command, handed to each of its processes."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from typing import Any, Self

from mlflow_caliber._validation import check_at_least, check_choice, check_count, check_text
from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.store import ROLES

__all__ = ["ServerSettings"]

ENVIRONMENT_VARIABLE = "MLFLOW_CALIBER_SERVER_SETTINGS"
_LISTS = ("anonymous", "allow_origins")
# As browsers send it: in small letters, and without a path.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How the service runs.

    Parameters
    ----------
    store_uri : str
        The store, as :func:`~mlflow_caliber.store.open_store` takes it.
    host, port : str and int
        Where it listens.
    workers : int, default=1
        Processes that answer.
    tls_cert, tls_key : str, optional
        Files with certificate and key, for TLS without a proxy.
    behind_proxy : bool
        Whether a proxy on this machine ends TLS; its ``X-Forwarded-*`` headers are then believed.
    anonymous : tuple of str
        The roles of whoever comes without a token; for one's own machine.
    allow_origins : tuple of str
        Other web pages that may ask, each as ``scheme://host[:port]``; by default none.
    rate : float, default=5000
        Requests a second that one caller may send to one process; 0 for any number.
    max_body_mb : float, default=32
        The longest body, in megabytes. A stream of events may be longer.
    access_log : bool
        Whether each request is logged.
    tracking_uri, registry_uri : str, optional
        MLflow's, for the lineage of models.
    config : str, optional
        The path of a ``caliber.yaml`` whose section ``live`` says what the monitor calls silent.
    session_hours : float, default=12
        How long a login lasts.

    Raises
    ------
    InvalidInputError
        For a value out of range.

    Examples
    --------
    >>> settings = ServerSettings(store_uri="sqlite:///caliber.db")
    >>> settings.port, ServerSettings.from_json(settings.to_json()) == settings
    (8600, True)
    """

    store_uri: str
    host: str = "127.0.0.1"
    port: int = 8600
    workers: int = 1
    tls_cert: str | None = None
    tls_key: str | None = None
    behind_proxy: bool = False
    anonymous: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    rate: float = 5_000.0
    max_body_mb: float = 32.0
    access_log: bool = False
    tracking_uri: str | None = None
    registry_uri: str | None = None
    config: str | None = None
    session_hours: float = 12.0

    def __post_init__(self) -> None:
        check_text(self.store_uri, "store_uri")
        check_count(self.port, "port", minimum=0)
        check_count(self.workers, "workers")
        for role in self.anonymous:
            check_choice(role, "each of anonymous", ROLES)
        for origin in self.allow_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(f"Each of allow_origins must be scheme://host[:port], got {origin!r}.")
        check_at_least(self.rate, "rate", 0.0)
        for name in ("max_body_mb", "session_hours"):
            check_at_least(getattr(self, name), name, 0.01)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key must come together, got one of them.")

    @property
    def https(self) -> bool:
        """Whether browsers reach the service by https."""
        return self.behind_proxy or self.tls_cert is not None

    def to_json(self) -> str:
        """The settings as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What :meth:`to_json` gave."""
        content: dict[str, Any] = json.loads(text)
        content |= {key: tuple(content[key]) for key in _LISTS}
        return cls(**content)

    @classmethod
    def from_environment(cls) -> Self:
        """The settings that :func:`~mlflow_caliber.server.serve` left for the processes that it starts."""
        text = os.environ.get(ENVIRONMENT_VARIABLE)
        if text is None:
            raise ConfigError(
                f"{ENVIRONMENT_VARIABLE} must hold the service's settings: start it with `mlflow-caliber server`."
            )
        return cls.from_json(text)
