"""What a search costs among a million certificates: first page and a page deep inside, by every filter.

``make bench-search``. Each figure is a ratio to looking one certificate up by its key in the same database, so that it
does not depend on the machine; the server's memory is that of its admin process before and after all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert

from kipuka_core.edges.store import SqlStore, default_sqlite_url, open_store
from kipuka_core.edges.store.moments import to_micros
from kipuka_core.edges.store.tables import certificate_names, certificates
from kipuka_core.model.search import COUNTED_AT_MOST, CertificateQuery, PageWanted, SearchStatus
from tests.system.admin_site import AdminSite, admin_site

START = datetime(2026, 1, 1, tzinfo=UTC)
DER_BYTES = 700
_AT_ONCE = 20_000
_ROUNDS = 5


def rows(count: int) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Certificates and their names, in pieces."""
    source = random.Random(5)
    for start in range(1, count + 1, _AT_ONCE):
        records, names = [], []
        for number in range(start, min(start + _AT_ONCE, count + 1)):
            revoked = number % 100 == 0
            entity = f"device-{number % (count // 2):07d}"
            issued_at = to_micros(START + timedelta(seconds=number * 20))
            records.append(
                {
                    "id": number,
                    "issuer_key_id": "a1" * 32,
                    "serial_hex": f"{source.getrandbits(152):x}",
                    "ca_id": "default" if number % 3 else "second",
                    "label": ("", "factory", "field")[number % 3],
                    "entity_id": entity,
                    "subject": f"CN={entity}",
                    "sans": f'["dns:{entity}.example"]',
                    "key_type": "ecdsa256",
                    "not_before": issued_at,
                    "not_after": issued_at + 90 * 86_400 * 1_000_000,
                    "issued_at": issued_at,
                    "certificate_der": source.randbytes(DER_BYTES),
                    "status": "revoked" if revoked else "active",
                    "revoked_at": issued_at if revoked else None,
                    "revocation_reason": 1 if revoked else None,
                    "request_id": f"r{number}",
                    "authenticator": "otp",
                    "otp_id": None,
                    "csr_fingerprint": "",
                }
            )
            names += [{"name": name, "certificate_id": number} for name in (entity, f"{entity}.example")]
        yield records, names


def fill(url: str, count: int) -> None:
    """Write them; not as durably as the server does, because nothing is lost with them."""
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA synchronous = OFF")
        indexes = (*certificates.indexes, *certificate_names.indexes)
        for index in indexes:
            index.drop(connection)
        for records, names in rows(count):
            connection.execute(insert(certificates), records)
            connection.execute(insert(certificate_names), sorted(names, key=lambda each: str(each["name"])))
            connection.commit()
        for index in indexes:
            index.create(connection)
        connection.commit()
    engine.dispose()


def queries(count: int) -> dict[str, CertificateQuery]:
    """One for each filter and some that go together."""
    middle = START + timedelta(seconds=count * 10, days=90)
    return {
        "everything": CertificateQuery(),
        "ca_id": CertificateQuery(ca_id="second"),
        "label": CertificateQuery(label="factory"),
        "status=active": CertificateQuery(status=SearchStatus.ACTIVE),
        "status=revoked": CertificateQuery(status=SearchStatus.REVOKED),
        "status=expired": CertificateQuery(status=SearchStatus.EXPIRED),
        "identity": CertificateQuery(identity="device-0000077"),
        "subject": CertificateQuery(subject="device-0000077.example"),
        "subject=prefix*": CertificateQuery(subject="device-00*"),
        "expires_before": CertificateQuery(expires_before=middle),
        "expires_after": CertificateQuery(expires_after=middle),
        "label+status=revoked": CertificateQuery(label="factory", status=SearchStatus.REVOKED),
        "ca_id+label": CertificateQuery(ca_id="default", label="factory"),
        "label+ca_id, no match": CertificateQuery(ca_id="second", label="factory"),
        "prefix+label": CertificateQuery(subject="device-00*", label="field"),
        "expires+label": CertificateQuery(expires_after=middle, label="factory"),
    }


async def measured(work: Callable[[], Any]) -> float:
    """The median of several rounds, in seconds."""
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


async def deep_cursor(store: SqlStore, query: CertificateQuery) -> str | None:
    """The cursor of a page as far inside as skipping goes, or of the last one."""
    found = await store.page_of_certificates(query, PageWanted(limit=1, offset=COUNTED_AT_MOST))
    return found.next


async def ratios(url: str, count: int) -> dict[str, tuple[float, float | None]]:
    """First page and deep page of every query, as multiples of one lookup by key."""
    found: dict[str, tuple[float, float | None]] = {}
    async with open_store(url) as store:
        (one,) = (await store.page_of_certificates(CertificateQuery(), PageWanted(limit=1))).items
        unit = await measured(partial(store.find_certificate, one.issuer_key_id, one.serial_hex))
        for name, query in queries(count).items():
            first = await measured(partial(store.page_of_certificates, query, PageWanted()))
            cursor = await deep_cursor(store, query)
            deep = None
            if cursor is not None:
                deep = await measured(partial(store.page_of_certificates, query, PageWanted(after=cursor)))
            found[name] = first / unit, None if deep is None else deep / unit
    return found


def memory_of(site: AdminSite) -> int:
    """Resident memory of the admin process, in KiB."""
    status = Path(f"/proc/{site.system.server.worker_pids()['admin']}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def memory(directory: Path, count: int) -> tuple[int, int]:
    """Of a server over these certificates, before and after a console has looked at every filter."""
    with admin_site(directory) as site:
        fill(default_sqlite_url(site.system.deployment.database.parent), count)
        site.get("certs?limit=1")
        before = memory_of(site)
        for filters in ("", "ca_id=second", "label=factory", "status=revoked", "subject=device-00*", "identity=x"):
            for offset in (0, COUNTED_AT_MOST):
                site.get(f"certs?{filters}&limit=1000&offset={offset}".replace("?&", "?"))
        return before, memory_of(site)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", dest="as_json")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        url = default_sqlite_url(Path(directory))

        async def prepare() -> None:
            async with open_store(url):
                pass

        asyncio.run(prepare())
        fill(url, wanted.count)
        found = asyncio.run(ratios(url, wanted.count))
        before, after = memory(Path(directory) / "server", wanted.count)
    if wanted.as_json:
        sys.stdout.write(json.dumps({"ratios": found, "memory_kib": [before, after]}) + "\n")
        return
    lines = [f"{wanted.count} certificates; times a lookup by key"]
    lines.append(f"{'filter':<24}{'first page':>12}{'deep page':>12}")
    for name, (first, deep) in found.items():
        lines.append(f"{name:<24}{first:>12.1f}{'-' if deep is None else f'{deep:.1f}':>12}")
    lines.append(f"admin process: {before // 1024} MiB before, {after // 1024} MiB after")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
