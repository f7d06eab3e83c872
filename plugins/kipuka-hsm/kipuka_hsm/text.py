"""Text that others wrote, as messages of one line show it."""

from __future__ import annotations

_MOST_CHARACTERS = 120


def shown(text: str, most_characters: int = _MOST_CHARACTERS) -> str:
    """Without control characters, and not longer than what a person reads."""
    if len(text) > most_characters:
        text = f"{text[:most_characters]}… ({len(text)} characters)"
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
