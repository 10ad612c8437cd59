"""One file a schema version. A released file is never edited: what changes is a new file."""

__all__: list[str] = []
