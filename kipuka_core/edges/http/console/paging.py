"""Pages of a list: what is on this one, and where the next one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from quart import request

from kipuka_core.model.search import Page


@dataclass(frozen=True, slots=True)
class ListPage:
    """What a template shows of a list."""

    rows: Sequence[Any] = ()
    total: str = "0"
    next_url: str = ""
    """Empty: this is the last page."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with the search, by field."""
    is_continued: bool = False
    """Whether there are pages before this one."""

    @property
    def first_url(self) -> str:
        """The first page of the same search."""
        return _url({name: value for name, value in request.args.items() if name != "after"})


def next_url(page: Page[Any]) -> str:
    """The address of the page after this one."""
    return "" if page.next is None else _url({**request.args.to_dict(), "after": page.next})


def _url(query: Mapping[str, str]) -> str:
    """The same page with another query, without its empty fields."""
    words = urlencode({name: value for name, value in query.items() if value})
    return f"{request.path}?{words}" if words else request.path
