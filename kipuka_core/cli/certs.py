"""``kipuka certs``: what was issued."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core.cli.common import config_option, moment, now, print_table, with_store
from kipuka_core.edges.store import SqlStore
from kipuka_core.errors import KipukaError
from kipuka_core.model.event import CertificateRevoked
from kipuka_core.model.record import CertificateStatus, RecordedCertificate

_REASONS: dict[str, int] = {
    "unspecified": 0,
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "privilegeWithdrawn": 9,
}
"""RFC 5280 5.3.1, without those that make no sense for good (hold) or for a device (AA compromise)."""


@click.group()
def certs() -> None:
    """Look at what was issued, and revoke."""


@certs.command("list")
@config_option
@click.option("--subject", metavar="NAME", help="A CN or SAN, or the beginning of one: 'router-*'.")
@click.option("--status", type=click.Choice(["active", "revoked", "expired"]))
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
def list_certificates(config_path: Path | None, subject: str | None, status: str | None, limit: int) -> None:
    """List certificates, newest first."""

    async def work(store: SqlStore) -> None:
        found = await store.search_certificates(subject=subject, status=status, limit=limit)
        rows = [
            (each.serial_hex, each.subject, each.label, each.entity_id, moment(each.not_after), _status(each, now()))
            for each in found
        ]
        print_table(("SERIAL", "SUBJECT", "LABEL", "IDENTITY", "EXPIRES", "STATUS"), rows)

    with_store(config_path, work)


@certs.command("show")
@config_option
@click.argument("serial")
@click.option("--pem", is_flag=True, help="Print the certificate itself as PEM.")
def show_certificate(config_path: Path | None, serial: str, pem: bool) -> None:
    """Show the certificate with this SERIAL (hex)."""

    async def work(store: SqlStore) -> None:
        for each in await _by_serial(store, serial):
            if pem:
                certificate = x509.load_der_x509_certificate(each.certificate_der)
                click.echo(certificate.public_bytes(serialization.Encoding.PEM).decode(), nl=False)
            else:
                _print(each)

    with_store(config_path, work)


@certs.command("revoke")
@config_option
@click.argument("serial")
@click.option("--reason", type=click.Choice(list(_REASONS)), default="unspecified", show_default=True)
def revoke_certificate(config_path: Path | None, serial: str, reason: str) -> None:
    """Mark the certificate with this SERIAL (hex) as revoked: it authenticates nobody here any more."""

    async def work(store: SqlStore) -> None:
        found = await _by_serial(store, serial)
        if len(found) > 1:
            raise KipukaError(
                f"{len(found)} CAs used the serial {serial}; revoking one of several is not possible here"
            )
        each, moment_now = found[0], now()
        event = CertificateRevoked(
            time=moment_now, actor="cli", label=each.label, serial=each.serial_hex, ca_id=each.ca_id, reason=reason
        )
        await store.revoke_certificate(
            each.issuer_key_id, each.serial_hex, reason=_REASONS[reason], now=moment_now, event=event
        )
        click.echo(f"revoked {each.serial_hex} ({each.subject})")

    with_store(config_path, work)


async def _by_serial(store: SqlStore, serial: str) -> list[RecordedCertificate]:
    serial_hex = serial.lower().replace(":", "").lstrip("0") or "0"
    found = list(await store.search_certificates(serial_hex=serial_hex, limit=50))
    if not found:
        raise KipukaError(f"no certificate has the serial {serial}; `kipuka certs list` shows what there is")
    return found


def _status(each: RecordedCertificate, at: datetime) -> str:
    if each.status is CertificateStatus.ACTIVE and each.not_after < at:
        return "expired"
    return each.status


def _print(each: RecordedCertificate) -> None:
    rows = {
        "serial": each.serial_hex,
        "subject": each.subject,
        "names": ", ".join(each.sans),
        "key": each.key_type,
        "ca": each.ca_id,
        "label": each.label or "(none)",
        "identity": f"{each.entity_id} (by {each.authenticator})",
        "issued": moment(each.issued_at),
        "expires": moment(each.not_after),
        "status": _status(each, now()),
        "revoked": moment(each.revoked_at),
        "request": each.request_id,
    }
    for name, value in rows.items():
        if value:
            click.echo(f"{name + ':':<10} {value}")
