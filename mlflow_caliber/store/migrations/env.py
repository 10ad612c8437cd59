"""What Alembic runs around every migration: on the caller's connection, inside the caller's transaction."""

from __future__ import annotations

from alembic import context

__all__ = ["run"]


def run() -> None:
    """Migrate on the connection that ``store._migrate`` handed over."""
    attributes = context.config.attributes
    context.configure(connection=attributes["connection"], version_table=attributes["version_table"])
    context.run_migrations()


if __name__ == "env_py":  # Alembic's name for this file; anybody else only imports it
    run()
