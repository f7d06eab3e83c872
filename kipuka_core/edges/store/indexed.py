"""How much of a text can stand in an index: a page of PostgreSQL's holds three entries at least."""

from __future__ import annotations

MOST_BYTES = 2048
"""Of UTF-8; the longest URI of a certificate still fits whole."""


def indexed(text: str) -> str:
    """What an indexed column holds of a text, and what a search in that column asks for: all of it, or its beginning.

    Two texts that differ only beyond that are found for one another.
    """
    if len(text) <= MOST_BYTES // 4:  # as long as a character of UTF-8 can be
        return text
    return text.encode(errors="surrogatepass")[:MOST_BYTES].decode(errors="ignore")
