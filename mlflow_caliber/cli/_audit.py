"""``audit``: verify the ledger, read it, export it, say who was champion, and pack everything for an auditor."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_caliber.cli._common import FAILED, PASSED, Command, emit, mlflow_options, table, use_mlflow
from mlflow_caliber.cli._store import open_store_at, store_option, stream_of
from mlflow_caliber.exceptions import CaliberError, ConfigError, EvidenceError

if TYPE_CHECKING:
    from mlflow_caliber._signing import Keyring
    from mlflow_caliber.gate import Governance, Holding, RemoteLedger
    from mlflow_caliber.ledger import Entry, Ledger, Verification

__all__ = ["audit"]

LEDGER_URI = "MLFLOW_CALIBER_LEDGER_URI"

Function = TypeVar("Function", bound=Callable[..., Any])
_DATABASE = re.compile(r"(sqlite|postgres|postgresql|mysql|mssql)(\+\w+)?://")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_SECONDS_A_DAY = 86_400.0


def ledger_options(function: Function) -> Function:
    """``--ledger``, and MLflow's addresses, of which the registry's stands in for it."""
    text = f"Database of the registry [{LEDGER_URI}, else the registry's address, or its guarded server]."
    option = click.option("--ledger", "ledger_uri", metavar="URI", envvar=LEDGER_URI, help=text)
    return option(mlflow_options(function))


@click.group()
def audit() -> None:
    """Look into the ledger of a guarded registry: who did what, on which grounds, and whether that is still so."""


# --- verify ----------------------------------------------------------------------------------------------------------


@audit.command(cls=Command, example="mlflow-caliber audit verify --ledger sqlite:///mlflow.db --anchor 128:4f0c...")
@ledger_options
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An exported log instead.")
@click.option("--anchor", metavar="SEQ:SHA256", help="What an earlier verification printed: it must still be there.")
@click.option("--signed-from", type=click.IntRange(min=1), default=1, help="Entries before it were made without keys.")
@click.option("--config", metavar="FILE", help="caliber.yaml: its targets are compared with the registry too.")
def verify(
    *,
    ledger_uri: str | None,
    file: Path | None,
    anchor: str | None,
    signed_from: int,
    config: str | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """
    Read the whole log, and say what is wrong with it. With a problem the exit code is 1.

    With MLFLOW_CALIBER_DECISION_KEYS signatures are verified too. Where the registry can be reached, its aliases are
    held against the log's last word. Keep the anchor that is printed somewhere else.
    """
    from mlflow_caliber.ledger import verify_file

    wrong: list[str] = []
    if file is not None:
        found, looked = verify_file(file, _keys(), anchor, signed_from=signed_from), ""
    else:
        with _open(ledger_uri, tracking_uri, registry_uri) as (ledger, registry):
            found, looked = ledger.verify(anchor=anchor, signed_from=signed_from), ""
            if found.ok:
                wrong, looked = _against_registry(ledger, registry, config)
    ok = found.ok and not wrong
    value = {**found.to_dict(), "ok": ok, "disagreements": wrong, "registry": looked}
    emit(value, "\n".join(_verified(found, wrong, looked)), as_json=as_json)
    return PASSED if ok else FAILED


def _verified(found: Verification, wrong: Sequence[str], looked: str) -> Iterator[str]:
    signatures = f"{found.signed:,} of them signed" if found.keys_given else "signatures not looked at: no keys are set"
    yield f"{'OK' if found.ok and not wrong else 'NOT OK'}: {found.n:,} entries, {signatures}"
    for kind, sentences in (("problem", found.problems), ("problem", wrong), ("warning", found.warnings)):
        yield from (f"  {kind}  {sentence}" for sentence in sentences)
    if looked:
        yield f"  {looked}"
    if found.anchor is not None:
        yield f"  anchor  {found.anchor}"


def _against_registry(ledger: Ledger | RemoteLedger, registry: str | None, config: str | None) -> tuple[list[str], str]:
    """Where the registry is not as the ledger says, and how far that was looked at."""
    if registry is None:
        return [], "The registry was not looked at: name it by --registry-uri."
    from mlflow_caliber.gate import GatePolicy

    more = set() if config is None else set(GatePolicy.load(config).targets)
    try:
        # Twice, if need be: somebody may have promoted between the two looks.
        wrong = _disagreements(ledger, registry, more) and _disagreements(ledger, registry, more)
    except Exception as error:  # whatever keeps the registry away is no fault of the log
        return [], f"The registry could not be looked at: {str(error) or type(error).__name__}"
    return wrong, "" if wrong else "Aliases and stages of the registry are as the log says."


def _disagreements(ledger: Ledger | RemoteLedger, registry: str, more: set[str]) -> list[str]:
    from mlflow_caliber.gate import disagreements

    governance = _by_model(ledger.entries())
    targets = more.union(*(fold.targets for fold in governance.values()))
    return list(disagreements(governance, _holders(registry, targets)))


def _by_model(entries: Iterable[Entry]) -> dict[str, Governance]:
    from mlflow_caliber.gate import Governance

    models: dict[str, list[Entry]] = {}
    for entry in entries:
        models.setdefault(entry.model, []).append(entry)
    return {model: Governance.of(acts) for model, acts in models.items()}


def _holders(registry: str, targets: Iterable[str]) -> dict[tuple[str, str], str]:
    """Who holds each of the targets in the registry, by model and target."""
    from mlflow import MlflowClient

    client, token, held = MlflowClient(registry, registry), None, {}
    while True:
        page = client.search_registered_models(page_token=token)
        for model in page:
            stages = {found.current_stage: found.version for found in model.latest_versions or ()}
            for target, version in {**stages, **model.aliases}.items():
                if target in targets:
                    held[model.name, target] = str(version)
        token = page.token
        if not token:
            return held


# --- log, export, champion -------------------------------------------------------------------------------------------


@audit.command(cls=Command, example="mlflow-caliber audit log --model churn --limit 20")
@ledger_options
@click.option("--model", metavar="NAME", help="Only this model.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The last so many entries.")
def log(
    *,
    ledger_uri: str | None,
    model: str | None,
    limit: int,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """Show who did what, the newest last."""
    with _open(ledger_uri, tracking_uri, registry_uri) as (ledger, _):
        after = 0 if model is not None else max(0, ledger.head().seq - limit)
        entries = ledger.entries(model=model, after=after)[-limit:]
    text = table([_line(entry) for entry in entries]) if entries else "The ledger holds no such entry."
    emit({"entries": [entry.to_dict() for entry in entries]}, text, as_json=as_json)
    return PASSED


def _line(entry: Entry) -> tuple[str, ...]:
    what = entry.model if entry.version is None else f"{entry.model}/{entry.version}"
    where = "" if entry.target is None else f"as {entry.target}"
    why = entry.detail.get("reason") or entry.detail.get("comment") or ""
    return str(entry.seq), f"{entry.at[:19]}Z", entry.actor, entry.action, f"{what} {where}", " ".join(str(why).split())


@audit.command(cls=Command, example="mlflow-caliber audit export ledger.jsonl --ledger sqlite:///mlflow.db")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@ledger_options
def export(
    *, file: Path, ledger_uri: str | None, tracking_uri: str | None, registry_uri: str | None, as_json: bool
) -> int:
    """Write the whole log to FILE, a line an entry; `audit verify --file` finds whether it was edited or cut off."""
    with _open(ledger_uri, tracking_uri, registry_uri) as (ledger, _):
        from mlflow_caliber.ledger import export_ledger

        head = export_ledger(ledger, file)
    emit({"entries": head.seq, "anchor": head.anchor}, f"{head.seq:,} entries in {file}.", as_json=as_json)
    return PASSED


@audit.command(cls=Command, example="mlflow-caliber audit champion churn --on 2026-11-22")
@click.argument("name")
@click.option("--on", required=True, metavar="DATE", help="A day in UTC, or a time in ISO 8601 with its zone.")
@click.option("--target", default="champion", show_default=True, help="Alias or legacy stage.")
@ledger_options
def champion(
    *,
    name: str,
    on: str,
    target: str,
    ledger_uri: str | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """Say which version of NAME was champion on a day, or at a time."""
    start, end = _period(on)
    with _open(ledger_uri, tracking_uri, registry_uri) as (ledger, _):
        from mlflow_caliber.gate import Governance

        governance = Governance.of(ledger.entries(model=name))
    first, history = governance.holder_at(target, start), governance.history(target)
    later = [each for each in history if start < datetime.fromisoformat(each.since) < end]
    held = [each for each in (first, *later) if each is not None]
    text = "\n".join(_held(each) for each in held) or f"No version of {name!r} was {target} then."
    value = {"name": name, "target": target, "on": on, "held": [each.to_dict() for each in held]}
    emit(value, text, as_json=as_json)
    return PASSED


def _period(on: str) -> tuple[datetime, datetime]:
    """A whole day, or one moment."""
    try:
        start = datetime.fromisoformat(on)
    except ValueError:
        raise click.BadParameter(f"--on must be like 2026-11-22 or 2026-11-22T12:00+00:00, got {on!r}.") from None
    if _DAY.fullmatch(on):
        start = start.replace(tzinfo=UTC)
        return start, start + timedelta(days=1)
    if start.tzinfo is None:
        raise click.BadParameter(f"--on must be a day, or a time with its zone such as {on}+00:00, got {on!r}.")
    return start, start


def _held(holding: Holding) -> str:
    until = "and still is" if holding.until is None else f"until {holding.until}"
    how = {"promote": "promoted", "rollback": "brought back"}[holding.action]
    return f"Version {holding.version}, {how} by {holding.actor}: since {holding.since}, {until}."


# --- pack ------------------------------------------------------------------------------------------------------------


@audit.command(cls=Command, example="mlflow-caliber audit pack churn 3 --output audit/")
@click.argument("name")
@click.argument("version", required=False, type=click.IntRange(min=1))
@click.option("--target", default="champion", show_default=True, help="Alias or legacy stage.")
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option("--config", metavar="FILE", help="caliber.yaml with the policy, if the ledger does not hold it.")
@store_option
@ledger_options
def pack(
    *,
    name: str,
    version: int | None,
    target: str,
    output: Path,
    config: str | None,
    store_uri: str | None,
    ledger_uri: str | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """
    Write all there is to know of a version as audit.html and audit.json.

    Without VERSION it is the one that holds the target. Where something cannot be had, the pack says so.
    """
    with _open(ledger_uri, tracking_uri, registry_uri) as (ledger, _):
        verification, entries = ledger.verify(), ledger.entries(model=name)
    from mlflow_caliber.gate import GatePolicy, Governance
    from mlflow_caliber.gate.pack import audit_pack

    governance, now = Governance.of(entries), datetime.now(UTC)
    which = _which(governance, name, version, target)
    held = [each for each in governance.history(target) if each.version == which]
    use_mlflow(tracking_uri, registry_uri)
    made = audit_pack(
        name,
        which,
        target,
        entries=entries,
        now=now,
        verification=verification,
        policy=None if config is None else GatePolicy.load(config),
        evidence=_load_evidence,
        live=_live(store_uri, name, which, held[-1].since if held else None, now),
    )
    output.mkdir(parents=True, exist_ok=True)
    files = {"audit.json": made.to_json(), "audit.html": made.to_html().encode()}
    for file, content in files.items():
        (output / file).write_bytes(content)
    value = {"name": name, "version": which, "target": target, "files": [str(output / file) for file in files]}
    emit({**value, "sha256": made.sha256, "ok": verification.ok}, _packed(which, name, files, output), as_json=as_json)
    return PASSED if verification.ok else FAILED


def _packed(version: str, name: str, files: Mapping[str, bytes], output: Path) -> str:
    return f"Version {version} of {name!r}: {' and '.join(str(output / file) for file in files)}."


def _which(governance: Governance, name: str, version: int | None, target: str) -> str:
    holder = governance.holder(target)
    if version is None and holder is None:
        raise ConfigError(f"The ledger must know who is {target} of {name!r}, or VERSION must be given, got neither.")
    return str(version) if version is not None else str(holder and holder.version)


def _load_evidence(run_id: str) -> Any:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from mlflow_caliber.evidence import load_evidence

    try:
        return load_evidence(run_id, MlflowClient())
    except (MlflowException, OSError) as error:
        raise EvidenceError(f"The evidence of run {run_id} could not be read: {error}") from error


def _live(store_uri: str | None, name: str, version: str, since: str | None, now: datetime) -> dict[str, Any] | None:
    """What production has said since the version took the target; None without a store."""
    if store_uri is None:
        return None
    if since is None:
        return {"note": "The version never held the target, so nothing is said of what happened since."}
    from mlflow_caliber.live import MonitorSettings, observe

    start = datetime.fromisoformat(since)
    days = max((now - start).total_seconds(), 1.0) / _SECONDS_A_DAY
    settings = MonitorSettings(window_days=days)
    try:
        with open_store_at(store_uri) as store:
            seen = observe(stream_of(store, name, version), settings=settings, now=now.timestamp())
    except CaliberError as error:
        return {"note": f"What happened since could not be read: {error}"}
    return {"since": since, "note": "", **json.loads(json.dumps(seen.to_dict()))}


# --- the source of entries -------------------------------------------------------------------------------------------


@contextmanager
def _open(
    ledger_uri: str | None, tracking_uri: str | None, registry_uri: str | None
) -> Iterator[tuple[Ledger | RemoteLedger, str | None]]:
    """The ledger of a database or of a guarded server, and the address of the registry that it is known to be about."""
    from mlflow_caliber.ledger import open_ledger

    address, registry = ledger_uri, registry_uri
    if address is None:
        use_mlflow(tracking_uri, registry_uri)
        from mlflow_caliber.gate import RemoteLedger, find_guard

        guard = find_guard()
        if guard is not None:
            yield RemoteLedger(guard, _keys()), _registry()
            return
        address = registry = _database_of_registry()
    with open_ledger(address, keys=_keys(), create=False) as ledger:
        yield ledger, registry


def _registry() -> str:
    import mlflow

    return str(mlflow.get_registry_uri())


def _database_of_registry() -> str:
    found = _registry()
    if _DATABASE.match(found) is None:
        scheme = found.split("://", maxsplit=1)[0] if "://" in found else "a folder"  # the rest may hold a password
        raise ConfigError(
            f"The ledger must be named by --ledger or {LEDGER_URI} where the registry's address is neither a guarded "
            f"server nor a database, got {scheme}."
        )
    return found


def _keys() -> Keyring | None:
    from mlflow_caliber._signing import DECISION_KEYS, Keyring

    return Keyring.from_environment(DECISION_KEYS)
