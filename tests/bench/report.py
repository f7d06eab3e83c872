"""The printed table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.scenarios import KEPT_AT_MOST, NEW_AT_MOST, Scenario
from tests.bench.servers import Usage

_HEAD = ("", "floor ms", "bare ASGI ms", "kipuka ms", "x floor", "aim", "x bare", "busy %", "req/s")


@dataclass(slots=True)
class Measured:
    """The rounds of one scenario: milliseconds of CPU per request, and how busy kipuka's core was."""

    scenario: Scenario
    floor: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    kipuka: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)

    def row(self) -> tuple[str, ...]:
        """One line of the table; ratios are of measurements that were made one after the other."""
        to_floor = statistics.median(mine / least for mine, least in zip(self.kipuka, self.floor, strict=True))
        to_bare = statistics.median(mine / least for mine, least in zip(self.kipuka, self.bare, strict=True))
        aim = self.scenario.aim
        return (
            self.scenario.name,
            *(f"{statistics.median(values):.3f}" for values in (self.floor, self.bare, self.kipuka)),
            f"{to_floor:.2f}",
            f"{aim:g}" if aim else "-",
            f"{to_bare:.2f}",
            f"{100 * statistics.median(self.busy):.0f}",
            f"{statistics.median(self.per_second):.0f}",
        )


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a server costs beside CPU."""

    ready_seconds: float
    before: Usage
    after: Usage

    def lines(self) -> list[str]:
        """As printed."""
        issued = self.after.certificates - self.before.certificates
        database = (self.after.database_bytes - self.before.database_bytes) / max(issued, 1)
        audit = (self.after.audit_bytes - self.before.audit_bytes) / max(issued, 1)
        growth = self.after.resident_mib - self.before.resident_mib
        return [
            f"start-up to ready          {self.ready_seconds:.2f} s",
            f"resident memory when idle  {self.before.resident_mib:.1f} MiB (the EST worker)",
            f"growth under load          {growth:.1f} MiB in {issued} enrolments",
            f"database per enrolment     {database:.0f} bytes with its event and indexes; audit file {audit:.0f} bytes",
        ]


def table(rows: Sequence[Measured]) -> list[str]:
    """Head and rows, in columns."""
    cells = [_HEAD, *(each.row() for each in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    return [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]


def notes(*, shared_core: bool, generator: str) -> list[str]:
    """What the numbers contain."""
    lines = [
        "Milliseconds of CPU of one core per request, user and system, all threads; medians of the rounds.",
        "floor: cryptography alone. Parse and verify the CSR, sign the certificate, PKCS#7, base64; on new connections",
        "  also the server's half of a full TLS 1.3 handshake on P-256, with the client's certificate for re-enrol.",
        "  For cacerts: one TLS record in, one out.",
        "bare ASGI: the same cryptography in a bare ASGI function under kipuka's listener (hypercorn, uvloop).",
        "kipuka: one worker with authentication, policies, postcheck, record, event in the database, jsonl sink with",
        "  fsync, log. The argon2 hash of the Basic password is verified once, before the measurement.",
        f"Aim: at most {KEPT_AT_MOST:g} times the floor on kept connections and {NEW_AT_MOST:g} times on new ones.",
        f"Generator: {generator}, 16 connections, no TLS resumption.",
    ]
    if shared_core:
        lines.append("There is one core only, which generator and server shared: it was not the server's alone.")
    return lines
