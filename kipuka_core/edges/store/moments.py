"""Moments in the database: whole microseconds since 1970, UTC.

An integer compares, sorts and indexes alike on every database, keeps the time zone out of the schema, and costs a
fraction of SQLAlchemy's DateTime, which SQLite keeps as text that is formatted and parsed in Python.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(moment: datetime) -> int:
    """An aware datetime as the database keeps it. Raises TypeError for a naive one."""
    return (moment - _EPOCH) // _MICROSECOND


def to_micros_or_none(moment: datetime | None) -> int | None:
    """The same for a column that may be NULL."""
    return None if moment is None else to_micros(moment)


def from_micros(micros: int) -> datetime:
    """An aware datetime, UTC, from what the database keeps."""
    return _EPOCH + timedelta(microseconds=micros)


def from_micros_or_none(micros: int | None) -> datetime | None:
    """The same for a column that may be NULL."""
    return None if micros is None else from_micros(micros)
