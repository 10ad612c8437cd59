"""``revision``: what is served, and going back."""

from __future__ import annotations

from typing import Any

import click

from mlflow_caliber.cli._common import PASSED, Command, actor, emit, mlflow_options, table, use_mlflow
from mlflow_caliber.cli._store import at_time, open_store_at, stream_of, stream_options

__all__ = ["revision"]

_EXAMPLE = "mlflow-caliber revision {} --store sqlite:///caliber.db --model credit"
NUMBER = click.argument("number", type=click.IntRange(min=0))


@click.group()
def revision() -> None:
    """Which of its revisions a live model serves: list, show, pin, undo, save."""


@revision.command("list", cls=Command, example=_EXAMPLE.format("list"))
@stream_options
def list_(*, store_uri: str | None, model: str, version: str | None, as_json: bool) -> int:
    """All revisions; 0 is the calibrator that the model was shipped with."""
    with open_store_at(store_uri) as opened:
        stream = stream_of(opened, model, version)
        served = stream.current_number() or 0
        found = stream.revisions()
    rows: list[tuple[str, ...]] = [("", "number", "revision", "outcomes", "published")]
    rows += [("*" if served == 0 else "", "0", "shipped", "", "")]
    rows += [
        (
            "*" if each.number == served else "",
            str(each.number),
            each.revision,
            str(each.n_learned),
            at_time(each.created_at),
        )
        for each in found
    ]
    value = {"served": served, "revisions": [_without_map(each) for each in found]}
    emit(value, table(rows), as_json=as_json)
    return PASSED


@revision.command(cls=Command, example=_EXAMPLE.format("show 12"))
@NUMBER
@stream_options
def show(*, number: int, store_uri: str | None, model: str, version: str | None, as_json: bool) -> int:
    """One revision: how much it knows, and what it makes of the shipped model's probabilities."""
    with open_store_at(store_uri) as opened:
        found = stream_of(opened, model, version).revision(number)
    from mlflow_caliber.online import SnapshotMap

    answers = SnapshotMap.from_dict(found.map)
    grid = [k / 10 for k in range(1, 10)]
    rows = [("", *(f"{p:.1f}" for p in grid))]
    rows += [
        (name or "all", *(f"{p:.3f}" for p in answers.predict(grid, segment=name or None)))
        for name in ["", *answers.segments_]
    ]
    head = f"Revision {number} ({found.revision}), {found.n_learned} outcomes, published {at_time(found.created_at)}."
    emit({**_without_map(found), "map": found.map}, f"{head}\n{table(rows)}", as_json=as_json)
    return PASSED


@revision.command(cls=Command, example=_EXAMPLE.format("pin 12"))
@NUMBER
@stream_options
def pin(*, number: int, store_uri: str | None, model: str, version: str | None, as_json: bool) -> int:
    """Serve this revision, whatever is learned, until it is unpinned; 0 is the shipped calibrator."""
    with open_store_at(store_uri) as opened:
        stream_of(opened, model, version).pin(number, actor())
    emit({"served": number, "pinned": True}, f"Revision {number} is pinned.", as_json=as_json)
    return PASSED


@revision.command(cls=Command, example=_EXAMPLE.format("unpin"))
@stream_options
def unpin(*, store_uri: str | None, model: str, version: str | None, as_json: bool) -> int:
    """Serve the newest revision again, and those that come."""
    with open_store_at(store_uri) as opened:
        stream = stream_of(opened, model, version)
        stream.unpin(actor())
        stream.resolve_alarm("harm", "served")  # whoever lets go has seen it
        served = stream.current_number() or 0
    emit({"served": served, "pinned": False}, f"Revision {served} is served.", as_json=as_json)
    return PASSED


@revision.command(cls=Command, example=_EXAMPLE.format("undo"))
@stream_options
def undo(*, store_uri: str | None, model: str, version: str | None, as_json: bool) -> int:
    """Serve the revision before the one that is served, and pin it."""
    with open_store_at(store_uri) as opened:
        now = stream_of(opened, model, version).undo(actor())
    served = 0 if now is None else now.number
    emit({"served": served, "pinned": True}, f"Revision {served} is served, and pinned.", as_json=as_json)
    return PASSED


@revision.command(cls=Command, example=_EXAMPLE.format("save"))
@stream_options
@click.option("--number", type=click.IntRange(min=1), help="The revision; by default the one that is served.")
@mlflow_options
def save(
    *,
    store_uri: str | None,
    model: str,
    version: str | None,
    number: int | None,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> int:
    """
    Register a new version of the model whose calibrator is this revision's.

    It gets no alias: `evaluate` and `promote` it like any other version.
    """
    use_mlflow(tracking_uri, registry_uri)
    from mlflow_caliber.live import save_revision

    with open_store_at(store_uri) as opened:
        result = save_revision(stream_of(opened, model, version), number)
    text = f"{result['model_uri']} has the calibrator of revision {result['number']}. Evaluate it, then promote it."
    emit(result, text, as_json=as_json)
    return PASSED


def _without_map(found: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(found).items() if name != "map"}
