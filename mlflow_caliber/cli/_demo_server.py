"""``demo-server``: the service with real models, a month of history and live traffic, by one command."""

from __future__ import annotations

import contextlib
import math
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_caliber.cli._common import PASSED, Command, emit, made_folder, told_to_stop
from mlflow_caliber.cli._demo_data import Data, Following, Served, back_fill, live_messages, load_data, register, train
from mlflow_caliber.cli._traffic import Sent, send_at_their_times
from mlflow_caliber.exceptions import CaliberError, ServiceError

if TYPE_CHECKING:
    from mlflow_caliber.store import Store

__all__ = ["demo_server"]

_HOST = "127.0.0.1"
_STARTING, _STOPPING = 90.0, 10.0
_RATE, _THRESHOLD = 3.0, 0.75
_COMMAND = [sys.executable, "-c", "from mlflow_caliber.cli import main; main()"]


@click.command("demo-server", cls=Command, example="mlflow-caliber demo-server --folder caliber-demo")
@click.option("--port", type=click.IntRange(0, 65_535), default=8600, show_default=True, help="0 for any that is free.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("caliber-demo"),
    show_default=True,
    help="Where the databases, the models and the logs are kept.",
)
@click.option("--data", type=click.Path(path_type=Path), help="The census file, where there is no checkout.")
@click.option("--seconds", type=click.FloatRange(min=0.0), help="End after so long; by default on Ctrl-C.")
def demo_server(*, port: int, folder: Path, data: Path | None, seconds: float | None, as_json: bool) -> int:
    """
    Show the service at work: two classifiers on real data, a month of history with a drift, and live traffic.

    Everything runs on this machine and is kept in --folder; started again, it goes on from there.
    """
    made_folder(folder, "--folder")
    chosen = load_data(data)
    click.echo("Training two classifiers ...", err=True)
    served = train(chosen)
    store_uri, mlflow_uri = (f"sqlite:///{folder.resolve()}/{name}.db" for name in ("caliber", "mlflow"))
    register(chosen, served, mlflow_uri, folder)
    recorded, text = _fill(store_uri, chosen, served)
    past = f"{recorded} events of the last 30 days recorded." if recorded else f"The history in {folder} goes on."
    click.echo(past, err=True)
    url = f"http://{_HOST}:{port or _free_port()}"
    stop = told_to_stop()
    with _running(store_uri, mlflow_uri, url, folder) as processes, _following(store_uri, served):
        _wait_for(url, processes, folder, stop)
        click.echo(f"The service is at {url}\nLog in with this token: {text}\nCtrl-C ends all.", err=True)
        sent = _send(url, text, chosen, served, stop, processes, seconds)
    told = {"url": url, "history": recorded, **vars(sent)}
    emit(told, f"{sent.predictions} predictions and {sent.outcomes} outcomes were sent.", as_json=as_json)
    return PASSED


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _fill(store_uri: str, data: Data, served: list[Served]) -> tuple[int, str]:
    """The store with its history, made once, and a token for today."""
    from mlflow_caliber.store import StreamSettings, open_store

    now = time.time()
    clock = [now]
    with open_store(store_uri, clock=lambda: clock[0]) as store:
        is_new = not store.streams()
        clock[0] = now - 31 * 86_400.0 if is_new else now
        for each in served:
            each.stream = store.stream(data.name, each.version, data.classes, data.classes[1])
            if is_new:
                settings = StreamSettings(abstain_threshold=_THRESHOLD, stage=each.stage, parent_version=each.parent)
                each.stream.change_settings(settings, "demo")
        recorded = back_fill(store, clock, data, served, now) if is_new else 0
        clock[0] = now
        return recorded, _token(store)


def _token(store: Store) -> str:
    for old in store.tokens():
        if old.name == "demo" and old.revoked_at is None:
            store.revoke_token(old.id, "demo")
    return store.create_token("demo", ["admin"], days=1, actor="demo")[1]


@contextlib.contextmanager
def _running(store_uri: str, mlflow_uri: str, url: str, folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The service and a worker, which end with the block."""
    port = url.rpartition(":")[2]
    places = ["--store", store_uri, "--tracking-uri", mlflow_uri, "--registry-uri", mlflow_uri]
    commands = {"server": ["server", "--port", port, *places], "worker": ["worker", *places]}
    processes = []
    try:
        for name, arguments in commands.items():
            with (folder / f"{name}.log").open("ab") as log:
                processes.append(subprocess.Popen([*_COMMAND, *arguments], stdout=log, stderr=log))
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_STOPPING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _following(store_uri: str, served: list[Served]) -> Iterator[None]:
    """Let every version answer by the newest revision, as long as the block lasts."""
    from mlflow_caliber.store import open_store

    with open_store(store_uri) as store:
        for each in served:
            if each.stream is not None:
                each.recalibrate = Following(store, store.stream(each.stream.model, each.version))
        yield


def _wait_for(url: str, processes: list[subprocess.Popen[bytes]], folder: Path, stop: threading.Event) -> None:
    end = time.monotonic() + _STARTING
    while not stop.is_set():
        if any(process.poll() is not None for process in processes) or time.monotonic() > end:
            raise ServiceError(None, f"The service at {url} does not start; {folder / 'server.log'} says why.")
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2.0):  # noqa: S310 - our own address
                return
        except OSError:
            stop.wait(0.2)


def _send(
    url: str,
    token: str,
    data: Data,
    served: list[Served],
    stop: threading.Event,
    processes: list[subprocess.Popen[bytes]],
    seconds: float | None,
) -> Sent:
    """Live traffic of every version, each in a thread; ends with the time, with Ctrl-C, or with a process of ours."""
    start = time.time()
    until = math.inf if seconds is None else start + seconds
    total, troubles = Sent(), list[CaliberError]()

    def one(place: int, which: Served) -> None:
        try:
            sent = _send_version(url, token, data, which, stop, start, until, place)
        except CaliberError as error:
            troubles.append(error)
            stop.set()
            return
        total.predictions, total.outcomes = total.predictions + sent.predictions, total.outcomes + sent.outcomes
        total.refused += sent.refused

    threads = [threading.Thread(target=one, args=pair, daemon=True) for pair in enumerate(served)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if any(process.poll() is not None for process in processes):
            troubles.append(ServiceError(None, f"A process of the service at {url} has ended by itself; see its log."))
            stop.set()
        for thread in threads:
            thread.join(0.2)
    if troubles:
        raise troubles[0]
    return total


def _send_version(
    url: str, token: str, data: Data, which: Served, stop: threading.Event, start: float, until: float, seed: int
) -> Sent:
    from mlflow_caliber.client import CaliberClient

    def send(messages: Any) -> Any:
        return client.stream_events(data.name, which.version, messages).refused

    with CaliberClient(url, token, retries=2) as client:
        return send_at_their_times(live_messages(data, which, start, _RATE, seed), send, stop, until, patience=10.0)
