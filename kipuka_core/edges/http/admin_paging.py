"""Pages over HTTP: a bare array, the total in ``X-Total-Count``, the next page in ``Link`` (RFC 8288)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

from quart import Response, request

from kipuka_core.edges.http.admin_api import Answer, answer
from kipuka_core.edges.http.admin_bodies import PageQuery
from kipuka_core.errors import Malformed
from kipuka_core.model.search import BadCursor, Page, PageWanted

ItemT = TypeVar("ItemT")

TOTAL = "X-Total-Count"
HEADERS = {
    TOTAL: "How many there are in all: exact up to 10000, then `10000+`.",
    "Link": 'The next page, as `<…>; rel="next"`; absent on the last one.',
}


def paged(about: str, model: Any) -> Answer:
    """The answer of an operation that lists."""
    return Answer(about=about, model=list[model], headers=HEADERS)


def page_wanted(query: PageQuery) -> PageWanted:
    """What a query says of the page."""
    return PageWanted(limit=query.limit, after=query.after, offset=query.offset)


async def found(search: Awaitable[Page[ItemT]]) -> Page[ItemT]:
    """The page; a cursor of another search is the client's fault."""
    try:
        return await search
    except BadCursor as error:
        raise Malformed(f"after: {error}", code="invalid_parameter") from None


def page_answer(model: Any, page: Page[ItemT], body_of: Callable[[ItemT], Any]) -> Response:
    """A page as its answer."""
    headers = {TOTAL: page.total_text, **next_link(page)}
    return answer(list[model], [body_of(each) for each in page.items], headers=headers)


def next_link(page: Page[Any]) -> dict[str, str]:
    """The ``Link`` header of a page, if there is a next one."""
    if page.next is None:
        return {}
    query = {name: value for name, value in request.args.items() if name not in {"after", "offset"}}
    return {"Link": f'<{request.path}?{urlencode(query | {"after": page.next})}>; rel="next"'}
