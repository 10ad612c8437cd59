"""``server``: the live service."""

from __future__ import annotations

import ipaddress
import ssl
import time
from typing import TYPE_CHECKING

import click

from mlflow_caliber.cli._common import PASSED, Command, actor, emit, mlflow_options
from mlflow_caliber.cli._store import named_store, open_store_at, store_option
from mlflow_caliber.cli._token import ROLES, state_of
from mlflow_caliber.exceptions import ConfigError

if TYPE_CHECKING:
    from mlflow_caliber.store import Store

__all__ = ["check_certificate", "check_exposure", "first_token", "is_loopback", "server"]

FIRST_RUN = "first-run"
_TLS = "--tls-cert and --tls-key, or --behind-proxy where a proxy on this machine ends TLS"


@click.command(cls=Command, example="mlflow-caliber server --store sqlite:///caliber.db")
@store_option
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where it listens.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8600, show_default=True, help="And at which port.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that answer.")
@click.option("--config", metavar="FILE", help="caliber.yaml with a section live [CALIBER_CONFIG, ./caliber.yaml].")
@mlflow_options
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Certificate, for TLS without a proxy,")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="and its key.")
@click.option("--behind-proxy", is_flag=True, help="A proxy on this machine ends TLS: believe its X-Forwarded headers.")
@click.option("--anonymous", metavar="ROLES", help="Who comes without a token may: ingest,review,view,admin.")
@click.option("--allow-origin", "allow_origins", multiple=True, metavar="URL", help="Another site whose pages may ask.")
@click.option(
    "--rate", type=click.FloatRange(min=0.0), default=5000.0, show_default=True, help="Requests/s of a caller."
)
@click.option(
    "--max-body", type=click.FloatRange(min=0.01), default=32.0, show_default=True, help="Megabytes of a body."
)
@click.option("--access-log", is_flag=True, help="Log every request.")
def server(
    *,
    store_uri: str | None,
    host: str,
    port: int,
    workers: int,
    config: str | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    behind_proxy: bool,
    anonymous: str | None,
    allow_origins: tuple[str, ...],
    rate: float,
    max_body: float,
    access_log: bool,
    as_json: bool,
) -> int:
    """
    Take predictions, outcomes and reviews, and show how models are.

    Learning and watching is done by `mlflow-caliber worker` on the same store. A store without any token is given one
    for an administrator, which is printed once.
    """
    from mlflow_caliber.live import MonitorSettings, live_section
    from mlflow_caliber.server import ServerSettings, serve

    MonitorSettings.from_dict(live_section(config))
    settings = ServerSettings(
        store_uri=named_store(store_uri),
        host=host,
        port=port,
        workers=workers,
        tls_cert=tls_cert,
        tls_key=tls_key,
        behind_proxy=behind_proxy,
        anonymous=_roles(anonymous),
        allow_origins=allow_origins,
        rate=rate,
        max_body_mb=max_body,
        access_log=access_log,
        tracking_uri=tracking_uri,
        registry_uri=registry_uri,
        config=config,
    )
    if tls_cert is not None:
        check_certificate(tls_cert, tls_key)
    with open_store_at(store_uri, create=True) as opened:
        alive = any(state_of(each, time.time()) == "alive" for each in opened.tokens())
        check_exposure(host, has_token=alive, https=settings.https, anonymous=settings.anonymous, proxy=behind_proxy)
        text = first_token(opened)
    if text is not None:
        click.echo(f"This token may do everything, and is shown this once: {text}", err=True)
    serve(settings)
    emit({"stopped": True}, "The service has stopped.", as_json=as_json)
    return PASSED


def check_exposure(host: str, *, has_token: bool, https: bool, anonymous: tuple[str, ...], proxy: bool) -> None:
    """
    Refuse to listen where others can hear or come in.

    Examples
    --------
    >>> check_exposure("127.0.0.1", has_token=False, https=False, anonymous=("view",), proxy=False)
    >>> check_exposure("0.0.0.0", has_token=True, https=False, anonymous=(), proxy=False)
    Traceback (most recent call last):
    mlflow_caliber.exceptions.ConfigError: --host '0.0.0.0' can be reached by others, and tokens must not travel in \
the clear: give --tls-cert and --tls-key, or --behind-proxy where a proxy on this machine ends TLS.
    """
    if anonymous and (proxy or not is_loopback(host)):
        where = "--behind-proxy" if proxy else f"--host {host!r}"
        raise ConfigError(f"--anonymous is for one's own machine only, and {where} lets others in: leave it out.")
    if is_loopback(host):
        return
    others = f"--host {host!r} can be reached by others, and"
    if not https:
        raise ConfigError(f"{others} tokens must not travel in the clear: give {_TLS}.")
    if not has_token:
        sentence = "nobody has a token: make one by `mlflow-caliber token create NAME --role admin`."
        raise ConfigError(f"{others} {sentence}")


def check_certificate(cert: str, key: str | None) -> None:
    """Refuse files that TLS cannot be had with."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except OSError as error:  # SSLError is one
        raise ConfigError(
            f"--tls-cert and --tls-key must be a certificate and its key in PEM, got {cert!r} and {key!r}: "
            f"they cannot be loaded ({error.strerror or type(error).__name__})."
        ) from error


def is_loopback(host: str) -> bool:
    """
    Whether only this machine reaches the address.

    Examples
    --------
    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org", "")]
    [True, True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def first_token(store: Store) -> str | None:
    """The text of an administrator's token, if the store has had no token yet; else None."""
    if store.tokens():
        return None
    return store.create_token(FIRST_RUN, ["admin"], actor=actor())[1]


def _roles(text: str | None) -> tuple[str, ...]:
    roles = tuple(role.strip() for role in text.split(",") if role.strip()) if text else ()
    wrong = [role for role in roles if role not in ROLES]
    if wrong:
        raise ConfigError(f"--anonymous must be some of {','.join(ROLES)}, got {wrong[0]!r}.")
    return roles
