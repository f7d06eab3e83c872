"""An audit event as a syslog message (RFC 5424): structured data to filter by, and the whole event as JSON."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any

from kipuka_core import Event

FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip
"""By their number (RFC 5424 6.2.1)."""
_WARNING, _NOTICE = 4, 5
_WARNING_NAMES = re.compile(r"_(?:refused|failed|locked_out)$")
_LONGEST_VALUE = 256
_NAME = re.compile(r'[^!-~]|[=\]"]')
MAX_DATAGRAM_BYTES = 8192
"""What a UDP message may have. RFC 5426 3.2: receivers take 2048 and should take more; a datagram holds 65507."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogHeader:
    """What every message of this process has in common."""

    facility: str
    host_name: str
    app_name: str = "kipuka"
    sd_id: str

    def message(self, event: Event) -> bytes:
        """The message: severity notice, or warning for what was refused or failed."""
        severity = _WARNING if _WARNING_NAMES.search(event.name) else _NOTICE
        priority = FACILITIES.index(self.facility) * 8 + severity
        stamp = event.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = event.as_dict()
        header = f"<{priority}>1 {stamp} {self.host_name} {self.app_name} {os.getpid()} {event.name[:32]}"
        # ASCII: so the message needs no byte order mark (RFC 5424 6.4), and no character can break a frame or a line.
        body = json.dumps(fields, separators=(",", ":"), allow_nan=False)
        return f"{header} {self._structured(fields)} {body}".encode()

    def datagram(self, event: Event) -> bytes:
        """The message for UDP: a long reason is cut. Raises OSError when that does not make it short enough."""
        message = self.message(event)
        if len(message) > MAX_DATAGRAM_BYTES:
            kept = max(0, len(event.reason) - (len(message) - MAX_DATAGRAM_BYTES) - 16)
            message = self.message(replace(event, reason=event.reason[: kept // 6] + "…"))
        if len(message) > MAX_DATAGRAM_BYTES:
            raise OSError(f"an event of {len(message)} bytes does not fit into a datagram")
        return message

    def _structured(self, fields: dict[str, Any]) -> str:
        """RFC 5424 6.3: what somebody would filter by, so all but the sentence."""
        pairs = (f' {_param_name(name)}="{_param_value(value)}"' for name, value in fields.items() if name != "reason")
        return f"[{self.sd_id}{''.join(pairs)}]"


def header_word(text: str, longest: int) -> str:
    """A word of the header: printable ASCII without spaces, ``-`` for nothing."""
    return _NAME.sub("_", text)[:longest] or "-"


def _param_name(name: str) -> str:
    return _NAME.sub("_", name)[:32]


def _param_value(value: object) -> str:
    text = str(value).encode("utf-8", "replace").decode()[:_LONGEST_VALUE]
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return re.sub(r'(["\\\]])', r"\\\1", printable)
