"""What the core keeps of a request between two steps: its order, and since when its challenges have answers."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from kipuka_acme.shapes import HttpsUrl
from kipuka_core import Unavailable

_URL: TypeAdapter[str] = TypeAdapter(HttpsUrl)
_PRESENTED = "#presented="


@dataclass(frozen=True, slots=True)
class Reference:
    """As text, the order's URL, and after it ``#presented=`` with a time in seconds since 1970."""

    order_url: str
    presented_at: int | None = None

    def __str__(self) -> str:
        return self.order_url if self.presented_at is None else f"{self.order_url}{_PRESENTED}{self.presented_at}"

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises Unavailable for what no order of this backend has: a person has to look."""
        url, mark, seconds = text.partition(_PRESENTED)
        try:
            return cls(_URL.validate_python(url), int(seconds) if mark else None)
        except (ValidationError, ValueError):
            raise Unavailable("the reference on record is not that of an ACME order") from None
