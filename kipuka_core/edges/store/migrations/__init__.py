"""Alembic's directory: one file per change of the schema, run at start-up by :mod:`kipuka_core.edges.store.schema`."""
