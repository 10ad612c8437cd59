"""The form in which this room's objects are saved: ``name``, ``format_version``, ``params`` and ``state``."""

from __future__ import annotations

from typing import Any

from mlflow_caliber._state import StateReader

__all__ = ["FORMAT_VERSION", "read_saved"]

# To change a form: raise this number and keep reading every lower one.
FORMAT_VERSION = 1


def read_saved(data: Any, name: str) -> tuple[StateReader, StateReader]:
    """Params and state of what ``to_dict`` of the class with that name wrote."""
    saved = StateReader(data, f"Saved {name} state:")
    got = saved.text("name")
    if got != name:
        raise saved.misfit("name", repr(name), got)
    version = saved.integer("format_version", 1)
    if version != FORMAT_VERSION:
        raise saved.misfit("format_version", f"{FORMAT_VERSION} (a newer mlflow-caliber has written it)", version)
    params, state = saved.nested("params"), saved.nested("state")
    saved.close()
    return params, state
