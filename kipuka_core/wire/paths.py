"""EST paths: ``/.well-known/est[/label]/operation`` (RFC 7030 3.2.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kipuka_core.errors import NotFound
from kipuka_core.model.request import Operation

LABEL_PATTERN = r"[A-Za-z0-9._~-]{1,64}"
"""The unreserved characters of RFC 3986 2.3: a label never needs percent-encoding."""

_LABEL = re.compile(LABEL_PATTERN)
_OPERATION_NAMES = frozenset(map(str, Operation))
# Dot segments are removed by clients (RFC 3986 5.2.4), and renewal-info is a route beside the operations.
_RESERVED = _OPERATION_NAMES | {".", "..", "renewal-info"}
_OPERATIONS = ", ".join(Operation)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a path leads. ``label`` is ``""`` for the door without one."""

    label: str
    operation: Operation


def valid_label_name(name: str) -> bool:
    """Whether a label may have this name: the characters of :data:`LABEL_PATTERN`, and no operation's name."""
    return _LABEL.fullmatch(name) is not None and name not in _RESERVED


def parse(path: str, base_path: str) -> Route:
    """Read a percent-decoded request path below ``base_path`` (no trailing slash).

    Whether the label exists is not known here. Raises NotFound for everything that is not exactly a route:
    nothing falls back to the door without a label.
    """
    prefix = f"{base_path}/"
    if not path.startswith(prefix):
        raise NotFound(f"EST is served under {base_path}")
    segments = path.removeprefix(prefix).split("/")
    if "" in segments:
        raise NotFound("the path has an empty segment; remove the doubled or trailing slash")
    if len(segments) > 2:
        raise NotFound(f"at most one label may stand between {base_path} and the operation")
    return Route(_label(segments[:-1]), _operation(segments[-1]))


def _label(segments: list[str]) -> str:
    if not segments:
        return ""
    (label,) = segments
    if label in _OPERATION_NAMES:
        raise NotFound(f"a label is never called like an operation ({label}); remove one of the two path segments")
    if not valid_label_name(label):
        raise NotFound("the label in the path is not a possible label name")
    return label


def _operation(segment: str) -> Operation:
    try:
        return Operation(segment)
    except ValueError:
        raise NotFound(f"the path ends in no known operation; known are {_OPERATIONS}") from None
