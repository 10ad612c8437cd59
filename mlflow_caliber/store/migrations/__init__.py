"""The schema's history, one file a version; Alembic runs them, ``mlflow_caliber.store.upgrade`` calls Alembic."""

__all__: list[str] = []
