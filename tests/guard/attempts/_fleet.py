"""One server of each kind for a whole session of tests, started when the first test needs it, all at the same time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from registry_servers import PASSWORD, MlflowServer

from ._site import MALLORY, Site, start

_FLEET: pytest.StashKey[Fleet] = pytest.StashKey()
# MLflow's client takes credentials from the environment alone; a server without users does not look at them.
SURROUNDINGS = {"MLFLOW_TRACKING_USERNAME": MALLORY, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
SURROUNDINGS |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
SURROUNDINGS |= {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}


class Fleet:
    """The servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[str, MlflowServer] = {}
        self._sites: dict[str, Site] = {}

    def start(self, kinds: Iterable[str]) -> None:
        """Let servers start, without waiting for them."""
        for kind in kinds:
            if kind not in self._servers:
                self._servers[kind] = start(self._folder / kind, kind)

    def __call__(self, kind: str) -> Site:
        """A server that answers, with what every attempt on it shares."""
        self.start([kind])
        if kind not in self._sites:
            self._sites[kind] = Site(kind, self._servers[kind], self._folder / f"scratch-{kind}")
        return self._sites[kind]

    def stop(self) -> None:
        """End all of them."""
        for server in self._servers.values():
            server.stop()


def fleet(request: Any, factory: pytest.TempPathFactory) -> Fleet:
    """The fleet of this session; what its tests are going to need is on its way."""
    config = request.config
    if _FLEET not in config.stash:
        config.stash[_FLEET] = Fleet(factory.mktemp("fleet"))
        config.add_cleanup(config.stash[_FLEET].stop)
    needed = (item for item in request.session.items if "sites" in getattr(item, "fixturenames", ()))
    config.stash[_FLEET].start(dict.fromkeys(item.callspec.params["kind"] for item in needed))
    return config.stash[_FLEET]
