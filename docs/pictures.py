"""``python docs/pictures.py``: draws ``docs/images/road.svg`` and ``docs/images/rooms.svg`` anew (``make docs``).

The rooms are the layers that import-linter holds (``pyproject.toml``), each with the first line of its docstring. Both
pictures bring their own background, so that they can be read on any page, and follow the reader's colour scheme.
"""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = 600
MARGIN, GAP, LINE = 20, 22, 19
_STYLE = """
svg { font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 14px }
.paper { fill: #ffffff } .ink { fill: #1b1f24 } .soft { fill: #4d5761 } .name { font-weight: 600; font-size: 15px }
.core { fill: #e6effc; stroke: #3d6cb0 } .plugin { fill: #fdefd8; stroke: #a86200 } .tag { font-size: 12px }
.way { stroke: #4d5761; stroke-width: 1.5; fill: none } .tip { fill: #4d5761 }
@media (prefers-color-scheme: dark) {
.paper { fill: #14181d } .ink { fill: #e8edf2 } .soft { fill: #aeb7c1 }
.core { fill: #1b2c49; stroke: #6f9de3 } .plugin { fill: #402c10; stroke: #e0a458 }
.way { stroke: #aeb7c1 } .tip { fill: #aeb7c1 }
}
"""

_ASIDE = re.compile(r": | \(|, for ")


@dataclass(frozen=True, slots=True)
class Step:
    """One station of the road."""

    name: str
    about: str
    kind: str
    """``core`` or ``plugin``."""


ROAD = (
    Step("TLS handshake", "the client's certificate, when it shows one, is verified", "core"),
    Step("HTTP", "path and label, size, media type", "core"),
    Step("Who is it?", "authenticators, in order: mtls, otp, basic, yours", "plugin"),
    Step(
        "Is the request its own?",
        "the CSR is decoded, signed by its own key, bound to the connection; renewal rule; core rules",
        "core",
    ),
    Step("What will it get?", "every policy shapes the template: keys, names, extensions, validity, yours", "plugin"),
    Step("May it have that?", "every policy judges the result: Deny before Wait before Allow", "plugin"),
    Step("Sign", "CA backend and key store: local, command, est, PEM files, yours", "plugin"),
    Step("Is it what was approved?", "what came back is held against the template", "core"),
    Step("Record", "certificate, used-up password and event in one transaction, on disk", "core"),
)


def road() -> str:
    """The road of a request."""
    top, parts = MARGIN + 24, [_text(WIDTH / 2, MARGIN + 12, "a device asks for a certificate", "ink", centred=True)]
    for step in ROAD:
        parts.append(_arrow(WIDTH / 2, top, top + GAP))
        top += GAP
        lines = textwrap.wrap(step.about, 70)
        height = 34 + LINE * len(lines)
        parts.append(_box(MARGIN, top, WIDTH - 2 * MARGIN, height, step.kind))
        parts.append(_text(WIDTH - MARGIN - 14, top + 22, step.kind, "soft tag", end=True))
        parts += _lines(MARGIN + 16, top + 23, step.name, lines)
        top += height
    parts.append(_arrow(WIDTH / 2, top, top + GAP))
    parts.append(_text(WIDTH / 2, top + GAP + 18, "the certificate leaves", "ink", centred=True))
    about = "From top to bottom: " + "; ".join(f"{step.name} ({step.kind})" for step in ROAD)
    return _picture("The road of a request", about, top + GAP + 18 + MARGIN, parts)


def layers() -> list[list[str]]:
    """The rooms of the core, the outermost first, those that know nothing of one another side by side."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = (each for each in settings["contracts"] if each["type"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def plugins() -> list[str]:
    """The packages beside the core."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    return [package for package in settings["root_packages"] if package != "kipuka_core"]


def about(room: str, *, short: bool = False) -> str:
    """The first sentence of a room's docstring; with ``short``, up to its first aside."""
    path = ROOT.joinpath(*room.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    sentence = text.partition("\n\n")[0].replace("\n", " ").replace("``", "").partition(". ")[0].rstrip(".")
    return _ASIDE.split(sentence)[0] if short else sentence


def rooms() -> str:
    """The rooms of the core, from the outside to the ground, and the plugins at their door."""
    top, parts = MARGIN + 24, [_text(MARGIN, MARGIN + 12, "imports lead downwards only", "ink")]
    inner = WIDTH - 2 * MARGIN
    for layer in layers():
        width = (inner - 10 * (len(layer) - 1)) / len(layer)
        texts = [textwrap.wrap(about(room, short=len(layer) > 1), int(width / 7.6) - 3) for room in layer]
        height = 34 + LINE * max(map(len, texts))
        for place, (room, lines) in enumerate(zip(layer, texts, strict=True)):
            left = MARGIN + place * (width + 10)
            parts.append(_box(left, top, width, height, "core"))
            parts += _lines(left + 14, top + 23, room.removeprefix("kipuka_core."), lines)
        top += height + 10
    names = textwrap.wrap(", ".join(plugins()), 70)
    height = 34 + LINE * (len(names) + 1)
    parts.append(_box(MARGIN, top + 10, inner, height, "plugin"))
    lines = [*names, "import the face, kipuka_core, and nothing inside"]
    parts += _lines(MARGIN + 14, top + 33, "plugins", lines)
    told = "From the outermost to the ground floor: " + "; ".join(", ".join(layer) for layer in layers())
    return _picture("The rooms of kipuka", f"{told}. Beside them the plugins.", top + 10 + height + MARGIN, parts)


def _lines(left: float, base: float, name: str, lines: Iterable[str]) -> Iterator[str]:
    yield _text(left, base, name, "ink name")
    for place, line in enumerate(lines):
        yield _text(left, base + LINE * (place + 1), line, "soft")


def _picture(title: str, description: str, height: float, parts: Iterable[str]) -> str:
    size = f'width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title about">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="about">{escape(description)}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height:g}" rx="10"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _box(left: float, top: float, width: float, height: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def _text(left: float, base: float, text: str, kind: str, *, centred: bool = False, end: bool = False) -> str:
    anchor = ' text-anchor="middle"' if centred else ' text-anchor="end"' if end else ""
    return f'<text class="{kind}" x="{left:g}" y="{base:g}"{anchor}>{escape(text)}</text>'


def _arrow(left: float, top: float, bottom: float) -> str:
    tip = f"M{left - 5:g} {bottom - 8:g}h10l-5 7z"
    return f'<path class="way" d="M{left:g} {top + 2:g}V{bottom - 8:g}"/><path class="tip" d="{tip}"/>'


PICTURES = {"road.svg": road, "rooms.svg": rooms}


def draw(directory: Path) -> None:
    """Write every picture into a directory."""
    for name, picture in PICTURES.items():
        (directory / name).write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    draw(ROOT / "docs" / "images")
