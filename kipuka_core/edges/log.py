"""Structured logging: one JSON object a line, and no secret in it."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import PurePath
from typing import Any, TextIO

import structlog

REDACTED = "[redacted]"
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|token|pin|secret|authorization|credentials?|private_key|api_key|cookie)(?:$|_)"
)
_NOT_SECRET = frozenset({"token_bits", "token_count", "password_file", "key_password_file", "pin_file"})
# What a secret looks like inside a longer text: an Authorization header, the password of a URL, a PEM private key.
_SECRET_TEXT = (
    (re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9+/=._~-]{6,}", re.IGNORECASE), r"\1 " + REDACTED),
    (re.compile(r"(\w+://[^/\s:@]*):[^/\s@]+@"), r"\1:" + REDACTED + "@"),
    (re.compile(r"(pin-value=)[^&;\s]+", re.IGNORECASE), r"\1" + REDACTED),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), REDACTED),
)
_MAY_HOLD_SECRET = re.compile(r"basic|bearer|://|pin-value|PRIVATE KEY", re.IGNORECASE)


def redact_text(text: str) -> str:
    """A text without the secrets that can be recognised in it."""
    if _MAY_HOLD_SECRET.search(text):
        for pattern, replacement in _SECRET_TEXT:
            text = pattern.sub(replacement, text)
    return text


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: what is named like a secret is not written, whatever it holds."""
    return {key: _clean(key, value) for key, value in event.items()}


@lru_cache(maxsize=1024)
def _names_a_secret(key: str) -> bool:
    return key not in _NOT_SECRET and _SECRET_NAME.search(key.lower()) is not None


def _clean(key: str, value: Any) -> Any:
    if _names_a_secret(key):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return REDACTED
    if isinstance(value, Mapping):
        return {str(name): _clean(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", inner) for inner in value]
    return value


def _without_exception_text(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What was raised and where; what a foreign exception says may hold anything, a secret too."""
    exc_info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if exc_info is True else exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["exception"] = type(error).__name__
        event["frames"] = [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def _stamp(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The moment, for lines that do not bring their own: an audit fact has the time at which it happened."""
    if "time" not in event:
        event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


class _LineLogger:
    """Writes lines; those of one turn of the event loop with one system call."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def msg(self, line: str) -> None:
        """Write a line soon, and in order."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no event loop in this thread: nothing to wait for
            self._stream.write(f"{line}\n")
            self._stream.flush()
            return
        if not self._lines:
            loop.call_soon(self._flush)
        self._lines.append(line)

    debug = info = warning = error = critical = log = msg

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        self._stream.write("\n".join([*lines, ""]))
        self._stream.flush()


class _ToStructlog(logging.Handler):
    """Lines of libraries (hypercorn, SQLAlchemy, asyncio) take the same road."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}
        structlog.get_logger().log(record.levelno, record.getMessage(), exc_info=record.exc_info, **fields)


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Write log lines to ``stream`` (standard error by default) as JSON."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _stamp,
            _without_exception_text,
            redact,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _LineLogger(stream or sys.stderr),
        cache_logger_on_first_use=stream is None,
    )
    root = logging.getLogger()
    root.handlers[:] = [_ToStructlog()]
    root.setLevel(max(level, logging.WARNING))


def get_logger() -> Any:
    """The logger; bound late, so that it can be had at import."""
    return structlog.get_logger()
