"""Searching certificates, in time that does not grow with their number.

Of the filters of a query one leads: an index begins with it and goes on in the order of the pages. The others are
looked up in the same index where it has their columns. Which one leads depends on the query alone, never on the data,
so that the order of a search is always the same: newest first; by name where the query has the beginning of one; by
expiry where it asks for that. A cursor is the place in that order where the next page begins.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, FromClause, Select, and_, exists, func, or_, select
from sqlalchemy.sql.expression import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from kipuka_core.edges.store.certificates import (
    ABOVE_ALL_CHARACTERS,
    CERTIFICATE_COLUMNS,
    ON_HOLD,
    certificate_from_row,
)
from kipuka_core.edges.store.indexed import indexed
from kipuka_core.edges.store.moments import to_micros
from kipuka_core.edges.store.tables import certificate_names, certificates
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.record import CertificateStatus, RecordedCertificate
from kipuka_core.model.search import (
    COUNTED_AT_MOST,
    BadCursor,
    CertificateQuery,
    Page,
    PageWanted,
    SearchStatus,
)

_c = certificates.c
_n = certificate_names.c
_earlier = certificate_names.alias("earlier")
_LONGEST_CURSOR = 4096

Condition = ColumnElement[bool]
ValueT = TypeVar("ValueT")
See = Callable[[ColumnElement[ValueT]], ColumnElement[ValueT]]


@dataclass(frozen=True, slots=True)
class _Order:
    """In which order a query is walked: by ``key`` and then ``id``, or by ``id`` alone."""

    letter: str
    source: FromClause
    id: ColumnElement[int]
    key: ColumnElement[Any] | None = None
    descending: bool = True

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        return [self.id] if self.key is None else [self.key, self.id]

    def beyond(self, place: Sequence[Any]) -> Condition:
        """What comes after a place. The range first, so that an index can be entered there."""
        if self.key is None:
            return and_(self.id < place[0])
        key, row_id = place
        if self.descending:
            return and_(self.key <= key, or_(self.key < key, self.id < row_id))
        return and_(self.key >= key, or_(self.key > key, self.id > row_id))


_JOINED = certificate_names.join(certificates, _c.id == _n.certificate_id)
_NEWEST = _Order("i", certificates, _c.id)
_BY_NAME = _Order("n", _JOINED, _n.certificate_id, _n.name, descending=False)
_OF_NAME = _Order("i", _JOINED, _n.certificate_id)
_SOONEST = _Order("e", certificates, _c.id, _c.not_after, descending=False)
_EXPIRED = _Order("x", certificates, _c.id, _c.not_after)


def page_of_certificates(
    batch: Batch, query: CertificateQuery, page: PageWanted, *, now: datetime
) -> Page[RecordedCertificate]:
    """See :meth:`kipuka_core.domain.admin.store.AdminStore.page_of_certificates`."""
    return _page(batch, _Search(batch, query, now), page)


def revocable_certificates(
    batch: Batch, query: CertificateQuery, page: PageWanted, *, reason: int, now: datetime
) -> Page[RecordedCertificate]:
    """See :meth:`kipuka_core.domain.admin.store.AdminStore.revocable_certificates`."""
    return _page(batch, _Search(batch, query, now, _changeable(reason)), page)


def count_revocable(batch: Batch, query: CertificateQuery, *, reason: int, now: datetime) -> int:
    """See :meth:`kipuka_core.domain.admin.store.AdminStore.count_revocable`."""
    found = _Search(batch, query, now, _changeable(reason)).statement([]).subquery()
    return batch.connection.execute(select(func.count()).select_from(found)).scalar() or 0


def _changeable(reason: int) -> Condition:
    active = _c.status == CertificateStatus.ACTIVE.value
    return active if reason == ON_HOLD else or_(active, _c.revocation_reason == ON_HOLD)


class _Search:
    """A query as conditions, one of which leads."""

    def __init__(self, batch: Batch, query: CertificateQuery, now: datetime, *further: Condition) -> None:
        self._query = query
        self._now = to_micros(now)
        # A column with a plus before it keeps SQLite from entering an index by it. PostgreSQL knows its own numbers.
        self._is_sqlite = batch.connection.dialect.name == "sqlite"
        self._further = further
        self.order, self.leading = self._lead()

    def by_expiry(self) -> _Search:
        """The same search led by what has not expired, if it is one for active certificates; else itself.

        Among many that have expired it finds the few that are left. They come in another order, so it is for counting,
        and for what is few enough to be sorted.
        """
        if self.leading != "status" or self._query.status is not SearchStatus.ACTIVE:
            return self
        other = copy(self)
        other.leading = "active"  # what leads has the order of no page
        return other

    def sorting(self) -> list[ColumnElement[Any]]:
        """The order of the pages, by the index that leads or else by sorting."""
        aside = self._seen("nothing") if self.leading == "active" else _as_it_is
        columns = [aside(column) for column in self.order.columns]
        return [column.desc() if self.order.descending else column.asc() for column in columns]

    def statement(self, more: Sequence[Condition]) -> Select[Any]:
        """The place of every certificate that is found, in no order yet."""
        return select(*self.order.columns).select_from(self.order.source).where(*self._conditions(), *more)

    def _lead(self) -> tuple[_Order, str]:
        """The order, and which filter leads: the one that usually leaves the fewest."""
        query = self._query
        by_name = _OF_NAME if query.subject_prefix is None else _BY_NAME
        leaders = (
            (query.serial_hex is not None, _NEWEST, "serial"),
            (query.identity is not None, _NEWEST, "identity"),
            (query.subject is not None, by_name, "subject"),
            (query.expires_before is not None or query.expires_after is not None, _SOONEST, "expiry"),
            (query.status is SearchStatus.EXPIRED, _EXPIRED, "expiry"),
            (query.status is SearchStatus.REVOKED, _NEWEST, "status"),
            (query.label is not None, _NEWEST, "label"),
            (query.ca_id is not None, _NEWEST, "ca"),
            (query.status is not None, _NEWEST, "status"),
        )
        return next(((order, name) for is_asked, order, name in leaders if is_asked), (_NEWEST, ""))

    def _conditions(self) -> list[Condition]:
        query, found = self._query, list(self._further)
        if query.serial_hex is not None:
            found.append(self._seen("serial")(_c.serial_hex) == query.serial_hex)
        if query.identity is not None:
            found.append(self._seen("identity")(_c.entity_id) == query.identity)
        if query.label is not None:
            found.append(self._seen("label")(_c.label) == query.label)
        if query.ca_id is not None:
            found.append(self._seen("ca")(_c.ca_id) == query.ca_id)
        found.extend(self._of_status())
        found.extend(self._of_expiry())
        if query.subject is not None:
            found.extend(self._of_subject(query.subject))
        return found

    def _of_status(self) -> list[Condition]:
        status = self._query.status
        if status is None:
            return []
        recorded = CertificateStatus.REVOKED if status is SearchStatus.REVOKED else CertificateStatus.ACTIVE
        found = [self._seen("status")(_c.status) == recorded.value]
        if status is SearchStatus.ACTIVE:
            found.append(self._seen("active")(_c.not_after) > self._now)
        if status is SearchStatus.EXPIRED:
            found.append(self._seen("expiry")(_c.not_after) <= self._now)
        return found

    def _of_expiry(self) -> list[Condition]:
        query, not_after = self._query, self._seen("expiry")(_c.not_after)
        found = []
        if query.expires_after is not None:
            found.append(not_after >= to_micros(query.expires_after))
        if query.expires_before is not None:
            found.append(not_after < to_micros(query.expires_before))
        return found

    def _of_subject(self, subject: str) -> list[Condition]:
        prefix = self._query.subject_prefix
        prefix = prefix and indexed(prefix)
        if self.leading != "subject":
            return [exists().where(_n.certificate_id == _c.id, *_named(_n.name, subject.lower(), prefix))]
        found = list(_named(_n.name, subject.lower(), prefix))
        if prefix is not None:  # one that has several names like this is found at the first of them
            first = exists().where(
                _earlier.c.certificate_id == _n.certificate_id, _earlier.c.name >= prefix, _earlier.c.name < _n.name
            )
            found.append(~first)
        return found

    def _seen(self, name: str) -> See[Any]:
        if name == self.leading or not self._is_sqlite:
            return _as_it_is
        return lambda column: UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def _as_it_is(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return column


def _named(name: ColumnElement[str], whole: str, prefix: str | None) -> tuple[Condition, ...]:
    if prefix is None:
        return (name == indexed(whole),)
    # A range instead of LIKE: it uses the index on every database, and % and _ are ordinary characters.
    return (name >= prefix, name < prefix + ABOVE_ALL_CHARACTERS)


def _page(batch: Batch, search: _Search, page: PageWanted) -> Page[RecordedCertificate]:
    order = search.order
    beyond = [] if page.after is None else [order.beyond(_read_cursor(order, page.after))]
    counted = search.by_expiry().statement([]).limit(COUNTED_AT_MOST + 1).subquery()
    total = batch.connection.execute(select(func.count()).select_from(counted)).scalar() or 0
    if total <= COUNTED_AT_MOST:
        search = search.by_expiry()
    places = batch.connection.execute(
        search.statement(beyond).order_by(*search.sorting()).limit(page.limit + 1).offset(page.offset)
    ).all()
    has_more = len(places) > page.limit
    shown = places[: page.limit]
    return Page(
        items=_records(batch, [place[-1] for place in shown]),
        next=_cursor(order, shown[-1]) if has_more else None,
        total=total,
    )


def _records(batch: Batch, ids: Sequence[int]) -> list[RecordedCertificate]:
    found: dict[int, RecordedCertificate] = {}
    for start in range(0, len(ids), 500):
        rows = batch.connection.execute(
            CERTIFICATE_COLUMNS.add_columns(_c.id).where(_c.id.in_(ids[start : start + 500]))
        )
        found |= {row.id: certificate_from_row(row) for row in rows}
    return [found[each] for each in ids]


def _cursor(order: _Order, place: Sequence[Any]) -> str:
    *key, row_id = place
    parts = [order.letter, *(base64.urlsafe_b64encode(str(each).encode()).decode() for each in key), str(row_id)]
    return ".".join(parts)


def _read_cursor(order: _Order, cursor: str) -> list[Any]:
    letter, *rest = cursor[:_LONGEST_CURSOR].split(".")
    if letter != order.letter or len(rest) != len(order.columns):
        raise BadCursor
    try:
        *key, row_id = rest
        values: list[Any] = [base64.b64decode(each, altchars=b"-_", validate=True).decode() for each in key]
        if order.key is not None and order.key is not _n.name:
            values = [_integer(each) for each in values]
        return [*values, _integer(row_id)]
    except (ValueError, binascii.Error):
        raise BadCursor from None


def _integer(text: str) -> int:
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("is no integer of a database")
    return value
