"""The durable memory: SQLAlchemy Core on SQLite or PostgreSQL, written by one thread in batches."""

from kipuka_core.edges.store.engine import default_sqlite_url
from kipuka_core.edges.store.retention import OldKind
from kipuka_core.edges.store.store import SqlStore, open_store

__all__ = ["OldKind", "SqlStore", "default_sqlite_url", "open_store"]
