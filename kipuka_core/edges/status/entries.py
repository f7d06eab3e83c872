"""The entries of one issuer's CRLs, kept encoded: a further revocation costs one entry, not all of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from kipuka_core.model.status import StatusChange
from kipuka_core.wire.crl import crl_entry

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class _Entry(NamedTuple):
    not_after: datetime
    der: bytes


class CrlEntries:
    """What is revoked, by serial number. ``changes`` is the number of the newest change that is in here."""

    def __init__(self) -> None:
        self.changes = 0
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def apply(self, changes: Iterable[StatusChange]) -> None:
        """Take in what has changed, oldest first. Slow for many: 16 microseconds each."""
        for change in changes:
            self._entries.pop(change.serial_hex, None)
            if change.revoked_at is not None:
                der = crl_entry(int(change.serial_hex, 16), change.revoked_at, change.reason)
                self._entries[change.serial_hex] = _Entry(change.not_after, der)
            self.changes = max(self.changes, change.change)

    def drop_ended(self, scheduled_at: datetime) -> None:
        """Drop what the CRL made at ``scheduled_at`` has listed although it had ended already.

        RFC 5280 3.3: an entry stays until it has been on one regularly scheduled CRL issued beyond the certificate's
        validity. What is made because of a revocation is not a scheduled one.
        """
        ended = [serial for serial, entry in self._entries.items() if entry.not_after < scheduled_at]
        for serial in ended:
            del self._entries[serial]

    def encoded(self) -> list[bytes]:
        """For the CRL, in the order of the changes."""
        return [entry.der for entry in self._entries.values()]
